"""Utterances: how they are read, split, and strung together."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from experiments.datasets import frames
from experiments.datasets.dataset import DataError, FrameSplit
from experiments.datasets.frames import (
    digit_strings,
    load_japanese_vowels,
    load_spoken_digits,
    parse_ts,
    split_by_label,
    standardise_frames,
)
from experiments.datasets.prepared import npz_bytes
from tests.experiments.datasets.stored import store

HEADER = "# a remark\n@problemName Tiny\n@dimensions 2\n@classLabel true {}\n@data\n"


def utterances(num: int, num_labels: int) -> FrameSplit:
    """Utterance i has 2 + i % 3 frames of two features, all of them i."""
    data = [np.full((2 + i % 3, 2), i, np.float32) for i in range(num)]
    return FrameSplit(data, (np.arange(num) % num_labels).astype(np.int32))


def numbers(split: FrameSplit) -> list[int]:
    return [int(frame[0, 0]) for frame in split.frames]


def test_spoken_digits_are_cut_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = utterances(40, 2)
    arrays = {
        "X": np.concatenate(given.frames),
        "y": given.labels.astype(np.int64),
        "lengths": np.array([len(x) for x in given.frames]),
    }
    contents = {"digits.npz": npz_bytes(arrays)}
    store(monkeypatch, frames, "SPOKEN_DIGITS", tmp_path, contents)
    splits = load_spoken_digits(tmp_path)
    assert [len(splits[name].frames) for name in splits] == [32, 4, 4]
    for split in splits.values():
        assert split.labels.dtype == np.int32
        for frame, label, number in zip(*split, numbers(split), strict=True):
            np.testing.assert_array_equal(frame, given.frames[number])
            assert frame.dtype == np.float32
            assert label == given.labels[number]


def test_splits_are_disjoint_and_even_in_every_label() -> None:
    splits = split_by_label(utterances(75, 3))
    taken = {name: numbers(split) for name, split in splits.items()}
    assert sorted(itertools.chain(*taken.values())) == list(range(75))
    counts = {
        name: np.bincount(split.labels).tolist() for name, split in splits.items()
    }
    # 25 of a label: two and two are held back.
    assert counts == {"train": [21] * 3, "valid": [2] * 3, "test": [2] * 3}
    # The very split: it must not change, or a test set would turn into training data.
    assert taken["test"] == [28, 33, 34, 41, 54, 59]


def test_ts_is_read_by_frames() -> None:
    text = HEADER.format("b a") + "1,2,3:4,5,6:a\n\n-1.5:2e-3:b\n"
    split = parse_ts(text, "tiny.ts")
    assert split.labels.tolist() == [1, 0]
    assert split.labels.dtype == np.int32
    assert split.frames[0].tolist() == [[1, 4], [2, 5], [3, 6]]
    np.testing.assert_array_equal(split.frames[1], np.array([[-1.5, 2e-3]], np.float32))


BAD = {
    "another class": (HEADER.format("a"), "1:2:b", "sequence 2 .*not in list"),
    "not a number": (HEADER.format("a"), "1:x:a", "sequence 2 .*could not convert"),
    "uneven dimensions": (HEADER.format("a"), "1,2:3:a", "sequence 2 .*same shape"),
    "no dimensions": (HEADER.format("a"), "a", "sequence 2"),
    "no classes": ("@data\n", "1:2:a", "sequence 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_ts_is_refused(case: str) -> None:
    header, line, words = BAD[case]
    with pytest.raises(DataError, match=f"tiny.ts: not in the .ts format, {words}"):
        parse_ts(f"{header}1:2:a\n{line}\n", "tiny.ts")


def test_every_tenth_vowel_is_held_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speakers = [i // 10 for i in range(20)]
    lines = [f"{i},{i}:0,0:{1 + s}\n" for i, s in enumerate(speakers)]
    contents = {
        "train.ts": (HEADER.format("1 2") + "".join(lines)).encode(),
        "test.ts": (HEADER.format("1 2") + "99:1:2\n").encode(),
    }
    store(monkeypatch, frames, "JAPANESE_VOWELS", tmp_path, contents)
    splits = load_japanese_vowels(tmp_path)
    assert numbers(splits["valid"]) == [9, 19]
    assert splits["valid"].labels.tolist() == [0, 1]
    assert numbers(splits["train"]) == [i for i in range(20) if i not in (9, 19)]
    assert splits["train"].labels.tolist() == [0] * 9 + [1] * 9
    assert numbers(splits["test"]) == [99]
    assert splits["test"].labels.tolist() == [1]


def test_statistics_come_from_train_alone() -> None:
    rng = np.random.default_rng(0)
    train = [rng.normal(3, 2, (n, 2)).astype(np.float32) for n in (3, 5, 9)]
    test = [np.ones((2, 2), np.float32)]
    labels = np.zeros(3, np.int32)
    splits = {"train": FrameSplit(train, labels), "test": FrameSplit(test, labels[:1])}
    scaled = standardise_frames(splits)
    known = np.concatenate(train).astype(np.float64)
    joined = np.concatenate(scaled["train"].frames)
    # Seventeen frames in float32: each is known to 1e-7, and so are their moments.
    np.testing.assert_allclose(joined.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(joined.std(axis=0), 1, atol=1e-6)
    expected = (1 - known.mean(axis=0)) / known.std(axis=0)
    np.testing.assert_allclose(scaled["test"].frames[0][1], expected, rtol=1e-5)
    assert [len(x) for x in scaled["train"].frames] == [3, 5, 9]
    assert joined.dtype == np.float32


def test_strings_are_utterances_in_a_row() -> None:
    split = utterances(7, 3)
    strings = digit_strings(split, (2, 4), count=60, seed=5)
    assert len(strings.frames) == len(strings.labels) == 60
    assert {len(labels) for labels in strings.labels} == {2, 3, 4}
    used = set()
    for string, labels in zip(*strings, strict=True):
        assert labels.dtype == np.int32
        place = 0
        for label in labels:
            number = int(string[place, 0])
            length = len(split.frames[number])
            np.testing.assert_array_equal(
                string[place : place + length], split.frames[number]
            )
            assert label == split.labels[number]
            used.add(number)
            place += length
        assert place == len(string)
    assert used == set(range(7))


def test_strings_are_a_function_of_the_seed() -> None:
    split = utterances(7, 3)
    first, again, other = (digit_strings(split, (1, 3), 20, seed) for seed in (1, 1, 2))
    for a, b in zip(first.frames, again.frames, strict=True):
        np.testing.assert_array_equal(a, b)
    assert [x.tolist() for x in first.labels] != [x.tolist() for x in other.labels]


@pytest.mark.parametrize("sizes", [(0, 3), (3, 2)])
def test_bad_numbers_of_digits_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="range of digits from 1 up"):
        digit_strings(utterances(3, 1), sizes, 1, 0)


def test_a_split_without_utterances_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0 utterances"):
        digit_strings(FrameSplit([], np.zeros(0, np.int32)), (1, 2), 1, 0)
