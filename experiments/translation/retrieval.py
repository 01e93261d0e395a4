"""Translations that nothing was learnt for: sentences of the training set."""

import collections
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from experiments.datasets.dataset import PairSplit


def commonest_target(train: PairSplit) -> str:
    """Returns the target that most pairs have, the first by text of several."""
    counts = collections.Counter(train.targets)
    return min(counts, key=lambda text: (-counts[text], text))


def nearest_targets(train: PairSplit, sources: Sequence[str]) -> list[str]:
    """Returns for each source the target of the training source that is most like it.

    Likeness is the cosine between the TF-IDF vectors of two texts: how often each
    character and each pair of neighbours occurs, times ln(sources / sources that have
    it). Of equally near ones the first counts; a source without a known character has
    the first training pair.

    Args:
      train: the pairs that are searched.
      sources: what is to be translated.
    """
    index = _Index(train.sources)
    return [train.targets[index.nearest(source)] for source in sources]


class _Index:
    """Training sources by what occurs in them."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._size = len(texts)
        places: dict[str, list[int]] = collections.defaultdict(list)
        counts: dict[str, list[int]] = collections.defaultdict(list)
        for place, text in enumerate(texts):
            for gram, count in collections.Counter(_grams(text)).items():
                places[gram].append(place)
                counts[gram].append(count)
        self._rarity = {g: np.log(len(texts) / len(p)) for g, p in places.items()}
        self._places = {gram: np.asarray(p) for gram, p in places.items()}
        self._weights = {
            gram: self._rarity[gram] * np.asarray(c) for gram, c in counts.items()
        }
        squares = np.zeros(self._size)
        for gram, weights in self._weights.items():
            squares[self._places[gram]] += weights**2
        self._norms = np.sqrt(np.maximum(squares, np.finfo(float).tiny))

    def nearest(self, text: str) -> int:
        """Place of the text that is most like this one."""
        likeness = np.zeros(self._size)
        for gram, count in collections.Counter(_grams(text)).items():
            if gram in self._places:
                weight = count * self._rarity[gram]
                likeness[self._places[gram]] += weight * self._weights[gram]
        return int(np.argmax(likeness / self._norms))


def _grams(text: str) -> Iterable[str]:
    yield from text
    yield from map("".join, itertools.pairwise(text))
