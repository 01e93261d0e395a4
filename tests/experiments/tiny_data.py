"""A handful of made-up examples in place of every stored data set."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from experiments.datasets import (
    language_tasks,
    mnist,
    music_tasks,
    series_tasks,
    speech_tasks,
    text_tasks,
    translation_tasks,
)
from experiments.datasets.dataset import (
    FrameSplit,
    PairSplit,
    RollSplit,
    SeriesData,
    TextData,
    TextSplit,
)
from experiments.datasets.mnist import Digits
from experiments.datasets.texts import TEXT_LOADERS
from experiments.runs import factories
from experiments.studies import text_baselines

_SIZES = {"train": 24, "valid": 8, "test": 8}
_FIVE = "春眠不覺曉，處處聞啼鳥。夜來風雨聲，花落知多少。"


def use_tiny_data(patch: pytest.MonkeyPatch) -> None:
    """Makes the loaders of all data sets return a few examples of their form.

    What stands behind them is the real thing: tokens, windows, splits and batches.
    """
    texts = {name: _always(_texts(name)) for name in TEXT_LOADERS}
    for module in (text_tasks, text_baselines):
        patch.setattr(module, "TEXT_LOADERS", texts)
    pairs = {"help_zh_en": _always(_splits(_pairs))}
    for module in (translation_tasks, factories):
        patch.setattr(module, "PAIR_LOADERS", pairs)
    patch.setattr(language_tasks, "load_shakespeare", _always(_splits(_play)))
    patch.setattr(language_tasks, "load_quatrains", _always(_splits(_poems)))
    patch.setattr(language_tasks, "load_melodies", _always(_splits(_tunes)))
    patch.setattr(music_tasks, "load_chorales", _always(_splits(_rolls)))
    patch.setattr(series_tasks, "load_stocks", _always(_series("D", "A", "B")))
    weather = _series("h", "JFK.temp", "JFK.dewp")
    patch.setattr(series_tasks, "load_weather", _always(weather))
    digits = _always(_splits(_frames))
    loaders = {"spoken_digits": digits, "japanese_vowels": digits}
    patch.setattr(speech_tasks, "_LOADERS", loaders)
    patch.setattr(speech_tasks, "load_spoken_digits", digits)
    patch.setattr(speech_tasks, "_NUM_STRINGS", _SIZES)
    patch.setattr(mnist, "locate", lambda *_: {})
    patch.setattr(mnist, "_READERS", {"mnist": _always(_splits(_digits))})


def _always(value: Any) -> Callable[..., Any]:
    return lambda *_: value


def _splits(make: Callable[[int], Any]) -> Mapping[str, Any]:
    return {split: make(size) for split, size in _SIZES.items()}


def _labels(size: int, classes: int) -> np.ndarray:
    return np.arange(size, dtype=np.int32) % classes


def _texts(name: str) -> TextData:
    def make(size: int) -> TextSplit:
        labels = _labels(size, 3)
        texts = [f"{'so ' * (i % 8)}it is c{k}" for i, k in enumerate(labels)]
        return TextSplit(texts, labels)

    return TextData(name, ("a", "b", "c"), _splits(make))


def _pairs(size: int) -> PairSplit:
    words = list(itertools.islice(itertools.product("123", repeat=3), size))
    return PairSplit(list(map("".join, words)), [" ".join(w) + "." for w in words])


def _play(size: int) -> str:
    return "To be, or not to be. " * size * 10


def _poems(size: int) -> list[str]:
    return [_FIVE[12 * (i % 2) :] + _FIVE[: 12 * (i % 2)] for i in range(size)]


def _tunes(size: int) -> list[str]:
    return [f"T:{i}\nK:G\n{'GABc|' * (1 + i % 3)}" for i in range(size)]


def _rolls(size: int) -> RollSplit:
    rolls = [np.zeros((4 + i % 2, 88), np.uint8) for i in range(size)]
    for i, roll in enumerate(rolls):
        roll[:, 40 + i % 8] = 1
    return RollSplit(rolls, [str(i) for i in range(size)])


def _series(unit: str, *names: str) -> SeriesData:
    times = np.datetime64("2013-01-01T00") + np.arange(900).astype(
        f"timedelta64[{unit}]"
    )
    noise = np.random.default_rng(0).normal(0, 0.01, (900, len(names)))
    return SeriesData(names, times, np.exp(np.cumsum(noise, 0)).astype(np.float32))


def _frames(size: int) -> FrameSplit:
    generator = np.random.default_rng(size)
    labels = _labels(size, 9)
    frames = [generator.normal(k, 1, (3 + i % 3, 12)) for i, k in enumerate(labels)]
    return FrameSplit([part.astype(np.float32) for part in frames], labels)


def _digits(size: int) -> Digits:
    generator = np.random.default_rng(size)
    images = generator.integers(0, 256, (size, 28, 28), dtype=np.uint8)
    return Digits(images, _labels(size, 10))
