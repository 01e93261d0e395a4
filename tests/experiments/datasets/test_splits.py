"""Splits of texts: fixed for ever, and no text in two of them."""

import collections

import numpy as np

from experiments.datasets.splits import SHARES, as_split, distinct, fold, split_of


def test_fold_keeps_letters_and_digits() -> None:
    assert fold("It's — 2 good_ones!") == fold("ITS 2goodones") == "its2goodones"
    assert fold("好，很好。") == "好很好"
    assert fold("…") == ""


def test_splits_are_where_they_always_were() -> None:
    # SHA-256 begins with e3b0, ca97 and 9f86 here: 0.889, 0.791 and 0.623 of 2¹⁶.
    assert [split_of(text) for text in ("", "a", "test")] == ["valid", "train", "train"]
    # "12" begins with 6b51, 0.4192: on both sides of a border.
    assert split_of("12", {"train": 0.42, "valid": 0.58}) == "train"
    assert split_of("12", {"train": 0.419, "valid": 0.581}) == "valid"


def test_shares_are_kept() -> None:
    counts = collections.Counter(split_of(str(number)) for number in range(10_000))
    for split, share in SHARES.items():
        # Four standard deviations of a binomial count of 10,000.
        assert abs(counts[split] - 10_000 * share) < 4 * np.sqrt(10_000 * share)
    uneven = {"train": 0.25, "valid": 0.75}
    counts = collections.Counter(split_of(str(n), uneven) for n in range(10_000))
    assert abs(counts["train"] - 2500) < 4 * np.sqrt(2500)


def test_repeated_and_contradictory_texts_are_dropped() -> None:
    rows = [("Good!", 1), ("bad", 0), ("good", 1), ("so so", 1), ("So, so.", 0)]
    assert distinct([*rows, ("…", 0)]) == [("Good!", 1), ("bad", 0)]


def test_texts_and_labels_come_apart() -> None:
    split = as_split([("a", 2), ("b", 0)])
    assert split.texts == ["a", "b"]
    assert split.labels.dtype == np.int32
    assert split.labels.tolist() == [2, 0]
    assert as_split([]).labels.shape == (0,)
