"""Fixed splits of texts that no repeated text crosses."""

import bisect
import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np

from experiments.datasets.dataset import TextSplit

SHARES: Mapping[str, float] = MappingProxyType(
    {"train": 0.8, "valid": 0.1, "test": 0.1}
)


def fold(text: str) -> str:
    """Returns letters and digits alone, in lower case: equal for the same text."""
    return re.sub(r"[\W_]+", "", text).lower()


def split_of(text: str, shares: Mapping[str, float] = SHARES) -> str:
    """Returns the split that a text belongs to, by its SHA-256: wherever, forever.

    Args:
      text: the text, folded or not; other texts that are added or left out move none.
      shares: the splits and how much of all texts each of them gets, in sum 1.
    """
    digest = hashlib.sha256(text.encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    ends = list(itertools.accumulate(shares.values()))[:-1]
    return list(shares)[bisect.bisect(ends, place)]


def distinct(rows: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Returns every text once, in the order given, with its label.

    Texts are the same where `fold` says so. A text that stands there with two labels,
    or without any letter, is dropped.
    """
    labels: dict[str, set[int]] = {}
    first: dict[str, tuple[str, int]] = {}
    for text, label in rows:
        key = fold(text)
        labels.setdefault(key, set()).add(label)
        first.setdefault(key, (text, label))
    return [row for key, row in first.items() if key and len(labels[key]) == 1]


def as_split(rows: Iterable[tuple[str, int]]) -> TextSplit:
    """Returns texts and their labels apart."""
    rows = list(rows)
    labels = np.array([label for _, label in rows], np.int32)
    return TextSplit([text for text, _ in rows], labels)
