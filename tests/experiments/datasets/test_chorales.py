"""Scores and chorales: small ones written out by hand, with their rolls."""

import io
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from experiments.datasets import chorales
from experiments.datasets.chorales import (
    group_versions,
    load_chorales,
    piano_roll,
    prepare_chorales,
)
from experiments.datasets.dataset import DataError
from experiments.datasets.musicxml import Note, Score, read_score, unpack
from tests.experiments.datasets.stored import store

FOLDER = "music21/corpus/bach"


def pitch(step: str, octave: int, alter: int | None = None) -> str:
    change = "" if alter is None else f"<alter>{alter}</alter>"
    return f"<pitch><step>{step}</step>{change}<octave>{octave}</octave></pitch>"


def note(what: str, duration: int, extra: str = "") -> str:
    return f"<note>{extra}{what}<duration>{duration}</duration></note>"


def measure(*elements: str, divisions: int | None = None) -> str:
    head = f"<divisions>{divisions}</divisions>" if divisions else ""
    head = f"<attributes>{head}</attributes>" if head else ""
    return f"<measure>{head}{''.join(elements)}</measure>"


def score(*parts: str) -> bytes:
    inner = "".join(f"<part>{part}</part>" for part in parts)
    doctype = '<!DOCTYPE score-partwise PUBLIC "-//MusicXML//EN" "http://x/y.dtd">'
    text = f"{doctype}<score-partwise><part-list/>{inner}</score-partwise>"
    return f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()


def pack(data: bytes, path: str = "score.xml", root: str | None = None) -> bytes:
    container = (
        "<container><rootfiles>"
        f'<rootfile full-path="{root or path}"/></rootfiles></container>'
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("META-INF/container.xml", container)
        archive.writestr(path, data)
    return file.getvalue()


def notes(data: bytes) -> list[list[tuple[float, float, int]]]:
    parts = read_score(data, "tiny").parts
    return [[(float(n.start), float(n.stop), n.pitch) for n in part] for part in parts]


REST = "<rest/>"
C4, E4, G4 = pitch("C", 4), pitch("E", 4), pitch("G", 4)


def test_notes_follow_one_another() -> None:
    part = measure(note(C4, 2), note(REST, 1), note(pitch("B", 3, -1), 3), divisions=2)
    assert notes(score(part)) == [[(0, 1, 60), (1.5, 3, 58)]]


@pytest.mark.parametrize(
    ("step", "octave", "alter", "number"),
    [("A", 4, None, 69), ("A", 0, 0, 21), ("C", 8, None, 108), ("F", 3, 1, 54),
     ("B", 3, 1, 60), ("C", 4, -1, 59), ("D", 4, -2, 60)],
)  # fmt: skip
def test_pitches(step: str, octave: int, alter: int | None, number: int) -> None:
    part = measure(note(pitch(step, octave, alter), 1), divisions=1)
    assert notes(score(part)) == [[(0, 1, number)]]


def test_chords_start_together() -> None:
    chord = note(E4, 4, "<chord/>") + note(G4, 4, "<chord/>")
    part = measure(note(C4, 4), chord, note(C4, 4), divisions=4)
    assert notes(score(part)) == [[(0, 1, 60), (0, 1, 64), (0, 1, 67), (1, 2, 60)]]


def test_a_second_voice_goes_back() -> None:
    back = "<backup><duration>4</duration></backup>"
    ahead = "<forward><duration>1</duration></forward>"
    part = measure(note(C4, 4), back, ahead, note(E4, 1), divisions=1)
    assert notes(score(part + measure(note(G4, 1)))) == [
        [(0, 4, 60), (1, 2, 64), (4, 5, 67)]
    ]


def test_a_forward_alone_lengthens_nothing() -> None:
    ahead = "<forward><duration>1</duration></forward>"
    part = measure(note(C4, 3), ahead, divisions=1) + measure(note(E4, 1))
    assert notes(score(part)) == [[(0, 3, 60), (3, 4, 64)]]


def test_grace_notes_take_no_time() -> None:
    grace = f"<note><grace/>{E4}</note>"
    part = measure(grace, note(C4, 1), divisions=1)
    assert notes(score(part)) == [[(0, 1, 60)]]


def test_parts_stay_in_step() -> None:
    """A pickup, units of time that change, and a part with too little in a bar."""
    upper = measure(note(C4, 2), divisions=2) + measure(note(E4, 4), divisions=1)
    lower = measure(note(C4, 3), divisions=3) + measure(note(C4, 3))
    third = measure(note(G4, 1), divisions=1)
    read = read_score(score(upper + third, lower + measure(note(E4, 3))), "tiny")
    assert read.measures == [0, 1, 5]
    assert read.length == 6
    assert read.parts[0] == [(0, 1, 60), (1, 5, 64), (5, 6, 67)]
    assert read.parts[1] == [(0, 1, 60), (1, 2, 60), (5, 6, 64)]


def test_rolls_are_sampled_at_quarters() -> None:
    # An eighth on the beat and one off it, a third between two beats, a half.
    tune = [(C4, 3), (E4, 3), (REST, 2), (G4, 2), (REST, 2), (C4, 12)]
    part = measure(*(note(*what) for what in tune), divisions=6)
    roll = piano_roll(read_score(score(part), "tiny"))
    assert roll.shape == (4, 88)
    assert roll.dtype == np.uint8
    assert [np.flatnonzero(row).tolist() for row in roll] == [[39], [], [39], [39]]
    # A note that ends on a beat does not sound there; one that ends after it does.
    longer = measure(note(C4, 6), note(G4, 7), divisions=6)
    roll = piano_roll(read_score(score(longer), "tiny"))
    assert [np.flatnonzero(row).tolist() for row in roll] == [[39], [46], [46]]


@pytest.mark.parametrize("number", [20, 109])
def test_notes_that_no_piano_has_are_refused(number: int) -> None:
    low = Score([[Note(Fraction(0), Fraction(1), number)]], [Fraction(0)], Fraction(1))
    with pytest.raises(DataError, match=f"MIDI numbers 21 to 108, got {number}"):
        piano_roll(low)


def test_scores_are_unpacked() -> None:
    data = score(measure(note(C4, 1), divisions=1))
    assert unpack(pack(data, "folder/a.xml"), "tiny.mxl") == data


BAD_MXL = {
    "no zip": (b"not a zip", "not a compressed MusicXML file"),
    "no score": (pack(b"", root="other.xml"), "no item named 'other.xml'"),
    "bomb": (pack(bytes(10_000_000)), "unpacks to 10,000,000 bytes"),
}


@pytest.mark.parametrize("case", BAD_MXL)
def test_bad_archives_are_refused(case: str) -> None:
    data, words = BAD_MXL[case]
    with pytest.raises(DataError, match=f"tiny.mxl: .*{words}"):
        unpack(data, "tiny.mxl")


BAD_XML = {
    "entity": (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "without entities"),
    "utf-16": ("<score-partwise/>".encode("utf-16"), "in UTF-8"),
    "no xml": (b"<score-partwise>", "not XML"),
    "timewise": (b"<score-timewise/>", "expected a score-partwise, got a score-timew"),
    "no octave": (score(measure(note("<pitch><step>C</step></pitch>", 1))), "wrong"),
    "no duration": (score(measure("<note><rest/></note>")), "wrong"),
    "unknown step": (score(measure(note(pitch("H", 4), 1))), "wrong"),
    "divided by 0": (
        score(
            "<measure><attributes><divisions>0</divisions></attributes>"
            f"{note(C4, 1)}</measure>"
        ),
        "wrong",
    ),
    "uneven parts": (score(measure(), measure() + measure()), "wrong"),
}


@pytest.mark.parametrize("case", BAD_XML)
def test_bad_scores_are_refused(case: str) -> None:
    data, words = BAD_XML[case]
    with pytest.raises(DataError, match=f"tiny.xml: .*{words}"):
        read_score(data, "tiny.xml")


def chorale(pitches: list[int], num_parts: int = 4) -> bytes:
    """A melody in quarters, and three lower parts that hold one note each."""
    steps = {0: "C", 2: "D", 4: "E", 5: "F", 7: "G", 9: "A", 11: "B"}

    def written(number: int) -> str:
        octave, semitone = divmod(number - 12, 12)
        if semitone in steps:
            return pitch(steps[semitone], octave)
        return pitch(steps[semitone - 1], octave, 1)

    upper = measure(*(note(written(p), 1) for p in pitches), divisions=1)
    held = [
        measure(note(written(pitches[0] - below), len(pitches)), divisions=1)
        for below in (5, 8, 12, 17, 20)
    ]
    return score(upper, *held[: num_parts - 1])


ONE = [60, 62, 64, 65, 67, 65, 64, 62]
OTHER = [72, 71, 69, 67, 66, 69, 74, 67, 66, 62]


def scores() -> dict[str, bytes]:
    return {
        f"{FOLDER}/bwv2.mxl": pack(chorale(ONE)),
        f"{FOLDER}/bwv10.xml": chorale(ONE),  # the same music, not packed
        f"{FOLDER}/bwv3.mxl": pack(chorale([p + 5 for p in ONE])),
        f"{FOLDER}/bwv4.mxl": pack(chorale(OTHER)),
        f"{FOLDER}/bwv5.mxl": pack(chorale(ONE, num_parts=3)),
        f"{FOLDER}/bwv6.mxl": pack(chorale(OTHER, num_parts=6)),
    }


def test_equal_chorales_are_kept_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = prepare_chorales(scores())
    store(monkeypatch, chorales, "CHORALES", tmp_path, contents)
    splits = load_chorales(tmp_path)
    assert list(splits) == ["train", "valid", "test"]
    rolls = {
        name: roll
        for split in splits.values()
        for roll, name in zip(split.rolls, split.names, strict=True)
    }
    # bwv10 comes first; bwv2 is equal to it, bwv5 has three parts.
    assert sorted(rolls) == ["bwv10", "bwv3", "bwv4", "bwv6"]
    for name, tune, num_parts in (("bwv10", ONE, 4), ("bwv4", OTHER, 4),
                                  ("bwv6", OTHER, 6)):  # fmt: skip
        expected = np.zeros((len(tune), 88), np.uint8)
        expected[np.arange(len(tune)), np.array(tune) - 21] = 1
        below = np.array([5, 8, 12, 17, 20])[: num_parts - 1]
        expected[:, tune[0] - below - 21] = 1
        np.testing.assert_array_equal(rolls[name], expected)
    (home,) = (split for split in splits.values() if "bwv10" in split.names)
    assert "bwv3" in home.names  # the same in another key


def test_preparation_does_not_depend_on_the_order_of_the_archive() -> None:
    given = scores()
    backwards = dict(reversed(given.items()))
    assert prepare_chorales(given) == prepare_chorales(backwards)


def test_versions_are_found_in_every_key() -> None:
    rng = np.random.default_rng(0)
    rolls = []
    for size in (20, 30, 25):
        roll = np.zeros((size, 88), np.uint8)
        roll[np.arange(size)[:, None], rng.integers(20, 60, (size, 4))] = 1
        rolls.append(roll)
    # Version of the first: a fourth lower, its last four steps left out.
    rolls.append(np.roll(rolls[0], -5, axis=1)[:16])
    # Of the second only a third: another piece.
    rolls.append(rolls[1][:10])
    assert group_versions(rolls).tolist() == [0, 1, 2, 0, 4]
    # The plain definition of the likeness, for one pair that is just alike.
    common = int(np.roll(rolls[3], 5, axis=1).sum())
    assert 2 * common / int(rolls[0].sum() + rolls[3].sum()) > 0.75
    assert 2 * int(rolls[4].sum()) / int(rolls[1].sum() + rolls[4].sum()) < 0.75


def test_missing_chorales_are_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"chorales\.npz: missing; .*--fetch=chorales"):
        load_chorales(tmp_path)


def test_times_are_exact() -> None:
    """Three notes in the time of one quarter end with it, not a hair after it."""
    part = measure(*[note(C4, 1)] * 3, note(E4, 3), divisions=3)
    read = read_score(score(part), "tiny").parts[0]
    assert read[2] == Note(Fraction(2, 3), Fraction(1), 60)
    assert read[3].start == 1
