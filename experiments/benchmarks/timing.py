"""Measuring several pieces of work in turn."""

import random
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

MIN_REPETITIONS = 5
_WARM_UP = 2


def alternate(
    works: Mapping[str, Callable[[], object]], repetitions: int, seconds: float
) -> dict[str, list[float]]:
    """Measures works in turn, so that a busy moment of the machine hits all alike.

    Args:
      works: functions that return when their work is done.
      repetitions: turns; in each, every function runs once, in an order drawn anew.
      seconds: time after which there are no more turns, from `MIN_REPETITIONS` on.

    Returns:
      Seconds of every turn, by name; as many for each.
    """
    order = random.Random(0)
    names = list(works)
    for name in names * _WARM_UP:
        works[name]()
    samples: dict[str, list[float]] = {name: [] for name in names}
    begin = time.perf_counter()
    for turn in range(repetitions):
        if turn >= MIN_REPETITIONS and time.perf_counter() - begin > seconds:
            break
        order.shuffle(names)
        for name in names:
            start = time.perf_counter()
            works[name]()
            samples[name].append(time.perf_counter() - start)
    return samples


def quartiles(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Returns the median and the quartiles."""
    lower, median, upper = np.percentile(values, (25, 50, 75)).tolist()
    return {"median": median, "lower": lower, "upper": upper}


def ratios(samples: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """Returns median and quartiles of the ratios of times of the same turn."""
    return quartiles(np.asarray(samples) / np.asarray(reference))
