"""Reads the notes of a MusicXML score: when each one sounds, and how high it is."""

import io
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from experiments.datasets.dataset import DataError

_MAX_BYTES = 1 << 24  # the longest score in use has 1.4 MB
_MAX_RATIO = 200  # unpacked bytes per packed byte
_CONTAINER = "META-INF/container.xml"
_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


class Note(NamedTuple):
    """One note: it sounds from `start` until just before `stop`.

    Attributes:
      start: time from the beginning of the score, in quarter notes.
      stop: time of its end, in quarter notes.
      pitch: MIDI number; 60 is the C in the middle.
    """

    start: Fraction
    stop: Fraction
    pitch: int


class Score(NamedTuple):
    """The notes of every part, and the time at which every measure starts."""

    parts: list[list[Note]]
    measures: list[Fraction]
    length: Fraction


def unpack(data: bytes, name: str) -> bytes:
    """Returns the score inside a compressed MusicXML file.

    Args:
      data: the file, a zip archive whose container file says where the score is.
      name: what to call the file in an error.

    Raises:
      DataError: it is no such archive, or unpacks to absurdly much.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            root = _parse(_member(archive, _CONTAINER, name), name).find(".//rootfile")
            path = "" if root is None else root.get("full-path", "")
            return _member(archive, path, name)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{name}: not a compressed MusicXML file ({error})") from error


def _member(archive: zipfile.ZipFile, path: str, name: str) -> bytes:
    info = archive.getinfo(path)
    if info.file_size > min(_MAX_BYTES, _MAX_RATIO * max(info.compress_size, 100)):
        raise DataError(f"{name}: {path} unpacks to {info.file_size:,} bytes")
    return archive.read(info)


def _parse(data: bytes, name: str) -> ET.Element:
    # An entity's declaration is the one way in which a text of XML can grow, or reach
    # for other files; no score needs one.
    if b"<!ENTITY" in data or b"\0" in data:
        raise DataError(f"{name}: expected XML in UTF-8 without entities of its own")
    try:
        return ET.fromstring(data)
    except ET.ParseError as error:
        raise DataError(f"{name}: not XML ({error})") from error


def read_score(data: bytes, name: str) -> Score:
    """Reads a score that is written part by part, as if no bar were repeated.

    Grace notes take no time and are left out. A note that is tied to the next one is
    two notes. A measure lasts as long as the longest part in it, whatever the time
    signature says: pickups and cadences are shorter.

    Args:
      data: MusicXML with the root element score-partwise.
      name: what to call it in an error.

    Raises:
      DataError: it is not such a score.
    """
    root = _parse(data, name)
    if root.tag != "score-partwise":
        raise DataError(f"{name}: expected a score-partwise, got a {root.tag}")
    columns = [part.findall("measure") for part in root.findall("part")]
    try:
        return _collect(columns)
    except (KeyError, ValueError, TypeError, ZeroDivisionError) as error:
        raise DataError(f"{name}: a note or duration is wrong ({error})") from error


def _collect(columns: list[list[ET.Element]]) -> Score:
    parts: list[list[Note]] = [[] for _ in columns]
    divisions = [1] * len(columns)
    measures, now = [], Fraction(0)
    for row in zip(*columns, strict=True):
        ends = [now]
        for index, measure in enumerate(row):
            divisions[index] = _divisions(measure, divisions[index])
            for start, stop, pitch in _events(measure, divisions[index]):
                ends.append(now + stop)
                if pitch is not None:
                    parts[index].append(Note(now + start, now + stop, pitch))
        measures.append(now)
        now = max(ends)
    return Score(parts, measures, now)


def _divisions(measure: ET.Element, before: int) -> int:
    """Returns the units of a quarter note, which hold until they are changed."""
    text = measure.findtext("attributes/divisions")
    return before if text is None else int(text)


def _events(
    measure: ET.Element, divisions: int
) -> Iterator[tuple[Fraction, Fraction, int | None]]:
    """Yields start, stop and pitch of what fills a measure; the pitch of rests is None.

    A chord's further notes start with its first. `backup` and `forward` only move the
    time at which the next note starts: no measure lasts longer for them.
    """
    start = now = Fraction(0)
    for element in measure:
        if element.tag not in ("note", "backup", "forward"):
            continue
        if element.find("grace") is not None:
            continue
        duration = Fraction(element.findtext("duration", "")) / divisions
        if element.tag != "note":
            now += duration if element.tag == "forward" else -duration
            continue
        if element.find("chord") is None:
            start, now = now, now + duration
        pitch = element.find("pitch")
        yield start, start + duration, None if pitch is None else _midi(pitch)


def _midi(pitch: ET.Element) -> int:
    """Returns the MIDI number, 12 (octave + 1) + semitone of the step + alteration."""
    octave = int(pitch.findtext("octave", ""))
    step = _SEMITONES[pitch.findtext("step", "")]
    return 12 * (octave + 1) + step + round(float(pitch.findtext("alter", "0")))
