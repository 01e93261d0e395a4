"""Four-part chorales of J. S. Bach as piano rolls."""

import types
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path, PurePosixPath

import numpy as np

from experiments.datasets.dataset import DataError, Dataset, Member, RollSplit
from experiments.datasets.grouping import connected_groups, split_groups
from experiments.datasets.musicxml import Score, read_score, unpack
from experiments.datasets.prepared import npz_bytes, read_npz, read_prepared

LOWEST_PITCH = 21  # MIDI number of a piano's first key
NUM_PITCHES = 88
_PARTS = range(4, 7)
_SHARES = types.MappingProxyType({"train": 0.6, "valid": 0.2, "test": 0.2})
# The share of common notes at which two chorales are versions of one.
_ALIKE = 0.75
_SHIFTS = range(-6, 7)  # semitones: every key


def load_chorales(data_dir: Path) -> Mapping[str, RollSplit]:
    """Loads the chorales: a step is a quarter note, a feature a key of the piano.

    Step t says which notes sound at the beginning of quarter t: whether a note is
    struck anew is not said. All files of the package with four to six parts are taken,
    one of those whose rolls are equal, and no bar is repeated.

    Two chorales that share three quarters of their notes, in whatever keys, are always
    in one split, and so are those between which there is a chain of such pairs. The
    groups are dealt out in the order of a hash of their first name: three fifths of the
    chorales train, a fifth is for validation, a fifth for test. This is not the split
    of the published results on 382 chorales: likelihoods compare only roughly.

    Args:
      data_dir: the folder of all data sets.

    Returns:
      The splits train, valid and test, in the order of their names.

    Raises:
      DataError: the file is missing or damaged.

    References:
      Boulanger-Lewandowski, Bengio and Vincent (2012), Modeling temporal dependencies
      in high-dimensional sequences: application to polyphonic music generation and
      transcription.
    """
    arrays = read_npz(read_prepared(CHORALES, data_dir)["chorales.npz"])
    rolls = np.split(arrays["rolls"], np.cumsum(arrays["lengths"])[:-1])
    names = arrays["names"].tolist()
    splits = {
        split: RollSplit([rolls[i] for i in chosen], [names[i] for i in chosen])
        for split, chosen in split_groups(names, arrays["groups"], _SHARES).items()
    }
    return types.MappingProxyType(splits)


def prepare_chorales(contents: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """Makes `chorales.npz` from the package's scores.

    It holds all rolls one after another, uint8 `[steps, 88]`, and per piece `lengths`,
    `names` and `groups`, the place of the first piece of its group.
    """
    rolls: dict[str, np.ndarray] = {}
    seen = set()
    for path in sorted(contents, key=lambda path: PurePosixPath(path).stem):
        score = _read(path, contents[path])
        if len(score.parts) not in _PARTS:
            continue
        roll = piano_roll(score)
        if roll.tobytes() not in seen:
            seen.add(roll.tobytes())
            rolls[PurePosixPath(path).stem] = roll
    arrays = {
        "rolls": np.concatenate(list(rolls.values())),
        "lengths": np.array([len(roll) for roll in rolls.values()], np.int32),
        "names": np.array(list(rolls)),
        "groups": group_versions(list(rolls.values())),
    }
    return {"chorales.npz": npz_bytes(arrays)}


def _read(path: str, data: bytes) -> Score:
    packed = path.endswith(".mxl")
    return read_score(unpack(data, path) if packed else data, path)


def piano_roll(score: Score) -> np.ndarray:
    """Samples a score at every quarter note from its beginning.

    Returns:
      uint8 `[time, 88]`: 1 where a note sounds, for MIDI numbers 21 to 108.

    Raises:
      DataError: a note is outside that range.
    """
    roll = np.zeros((_ceil(score.length), NUM_PITCHES), np.uint8)
    for part in score.parts:
        for note in part:
            key = note.pitch - LOWEST_PITCH
            if not 0 <= key < NUM_PITCHES:
                raise DataError(f"expected MIDI numbers 21 to 108, got {note.pitch}")
            roll[_ceil(note.start) : _ceil(note.stop), key] = 1
    return roll


def _ceil(time: Fraction) -> int:
    return -(-time.numerator // time.denominator)


def group_versions(rolls: list[np.ndarray]) -> np.ndarray:
    """Finds the chorales that are versions of one another.

    The likeness of two rolls is 2 · notes in common / (notes of both), the largest over
    all transpositions of one of them.

    Args:
      rolls: uint8 `[time, 88]` each.

    Returns:
      For every chorale the place of the first of its group, int64 `[chorales]`.
    """
    longest = max(map(len, rolls))
    padded = np.stack([np.pad(r, ((0, longest - len(r)), (0, 0))) for r in rolls])
    flat = padded.reshape(len(rolls), -1).astype(np.float32)
    sizes = flat.sum(axis=1)
    common = np.zeros((len(rolls), len(rolls)), np.float32)
    for shift in _SHIFTS:
        shifted = np.roll(padded, shift, axis=2).reshape(flat.shape)
        # Sums of ones below 2²⁴ are exact in whatever order they are taken.
        np.maximum(common, flat @ shifted.T.astype(np.float32), out=common)
    alike = 2 * common >= _ALIKE * (sizes[:, None] + sizes[None])
    return connected_groups(len(rolls), np.argwhere(np.triu(alike, 1)).tolist())


CHORALES = Dataset(
    name="chorales",
    description="384 chorales of Bach as piano rolls, a step per quarter note",
    licence="package BSD 3-Clause; the encodings may have limits on commercial use",
    client="pip",
    package="music21",
    version="10.5.1",
    archive_sha256="dc3309498c4c95cebdf8d4f20c868deb6b63bce1d929cad4f51a7ccc982987b1",
    wanted=("music21/corpus/bach/*.mxl", "music21/corpus/bach/*.xml"),
    prepare=prepare_chorales,
    download_megabytes=20.1,
    members=(
        Member(
            path="chorales.npz",
            file_name="chorales.npz",
            num_bytes=1_866_940,
            sha256="28ef315d47704dad4f64e7f0c0ff6519222b658478a3259ba163e2ac745efb3f",
        ),
    ),
)

ENTRIES: tuple[Dataset, ...] = (CHORALES,)
