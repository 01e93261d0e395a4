"""Irish dance tunes and airs in ABC notation, as text."""

import re
import types
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.datasets.dataset import Dataset, Member
from experiments.datasets.grouping import connected_groups, split_groups
from experiments.datasets.prepared import read_prepared

# What a player needs: title, kind of tune, metre, unit of length, key.
_HEADER = ("T", "R", "M", "L", "K")
_FIELD = re.compile(r"([A-Za-z]):\s*(.*)")
_BOOK_NUMBER = re.compile(r"(?m)^B:.*?(\d+)")
# Two tunes that share so many letters of notes in a row are settings of one.
_RUN = 24


def load_melodies(data_dir: Path) -> Mapping[str, list[str]]:
    """Loads the tunes that Francis O'Neill collected, one text each.

    A text is a header and a body in ABC notation. The header has the first title (T)
    and, where the source has them, rhythm (R), metre (M) and unit length (L), and then
    the key (K); notes on sources, transcribers and all comments are left out. Of the
    transcriptions of one number of the book the first in the order of the files stays.

    Tunes with one title, or with a run of 24 notes in common, whatever their lengths
    and octaves, are always in one split, and so are those between which there is a
    chain of such pairs. The groups are dealt out in the order of a hash of their first
    text: 80 % train, 10 % valid, 10 % test.

    Args:
      data_dir: the folder of all data sets.

    Returns:
      The splits train, valid and test, in the order of the book's numbers.

    Raises:
      DataError: the file is missing or damaged.

    References:
      O'Neill (1903), Music of Ireland: eighteen hundred and fifty melodies.
    """
    text = read_prepared(MELODIES, data_dir)["melodies.abc"].decode()
    tunes = text.removesuffix("\n").split("\n\n")
    splits = split_groups(tunes, group_settings(tunes))
    return types.MappingProxyType(
        {split: [tunes[i] for i in chosen] for split, chosen in splits.items()}
    )


def prepare_melodies(contents: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """Makes `melodies.abc`: all tunes, an empty line between any two."""
    tunes: dict[int, str] = {}
    for path in sorted(contents):
        # Every tune begins with its number; what comes before the first is no tune.
        for source in re.split(r"(?m)^X:", contents[path].decode("latin-1"))[1:]:
            tunes.setdefault(book_number(source), clean_tune(source))
    ordered = dict.fromkeys(tunes[number] for number in sorted(tunes))
    return {"melodies.abc": ("\n\n".join(ordered) + "\n").encode()}


def book_number(source: str) -> int:
    """Returns the tune's number in the book, or, where it is not said, in the file."""
    in_book = _BOOK_NUMBER.search(source)
    return int(in_book[1] if in_book else source.split(maxsplit=1)[0])


def clean_tune(source: str) -> str:
    """Returns the lines of a tune that a player needs, fields as in `M:2/4`.

    Fields inside the body stay where metre, unit or key change.
    """
    header: dict[str, str] = {}
    body: list[str] = []
    for line in source.splitlines()[1:]:
        line = line.partition("%")[0].strip()
        field = _FIELD.fullmatch(line)
        if field is None:
            body += [line] if line else []
        elif field[1] in _HEADER and "K" in header:
            body.append(f"{field[1]}:{field[2]}")
        elif field[1] in _HEADER:
            header.setdefault(field[1], field[2])
    fields = [f"{name}:{header[name]}" for name in _HEADER if name in header]
    return "\n".join(fields + body)


def group_settings(tunes: list[str]) -> np.ndarray:
    """Finds the tunes that are settings of one.

    Returns:
      For every tune the place of the first one in its group, int `[tunes]`.
    """
    first_with: dict[str, int] = {}
    pairs = []
    for place, tune in enumerate(tunes):
        for mark in _marks(tune):
            pairs.append((first_with.setdefault(mark, place), place))
    return connected_groups(len(tunes), pairs)


def _marks(tune: str) -> set[str]:
    """Returns the title and all runs of notes: what no two tunes should share."""
    lines = tune.split("\n")
    body = "".join(line for line in lines if not _FIELD.fullmatch(line))
    # Grace notes stand in braces, chords and remarks in quotation marks.
    plain = re.sub(r'\{[^}]*\}|"[^"]*"', "", body)
    notes = "".join(re.findall("[A-Ga-g]", plain)).lower()
    runs = {notes[i : i + _RUN] for i in range(len(notes) - _RUN + 1)}
    return runs | {lines[0].casefold()}


MELODIES = Dataset(
    name="melodies",
    description="1,839 Irish tunes of O'Neill's collection in ABC notation",
    licence="package BSD 3-Clause; the encodings may have limits on commercial use",
    client="pip",
    package="music21",
    version="10.5.1",
    archive_sha256="dc3309498c4c95cebdf8d4f20c868deb6b63bce1d929cad4f51a7ccc982987b1",
    wanted=("music21/corpus/oneills1850/*.abc",),
    prepare=prepare_melodies,
    download_megabytes=20.1,
    members=(
        Member(
            path="melodies.abc",
            file_name="melodies.abc",
            num_bytes=509_351,
            sha256="d1c65982eea3f2c21f6f191ce02a7e97ca5573666828bbccf457d09ef6e42836",
        ),
    ),
)

ENTRIES: tuple[Dataset, ...] = (MELODIES,)
