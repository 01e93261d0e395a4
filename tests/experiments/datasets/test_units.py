"""Values to what a model reads, and its outputs back to values: number by number."""

from typing import Any

import numpy as np
import pytest

from experiments.datasets.units import in_units, standardise
from tests.experiments.untrained_run import describe

MEANS, SCALES = (10.0, -3.0, 0.5), (2.0, 4.0, 0.25)


def task(**entries: Any) -> Any:
    channels = {"channels": ("a", "b", "c"), "means": MEANS, "scales": SCALES}
    answers = {"answers": (2, 0), "input_size": 3, "output_size": 2}
    return describe("weather", "forecast", **(channels | answers | entries))


def test_values_become_multiples_of_the_deviation() -> None:
    values = np.array([[[12, -3, 0], [8, 5, 1]]], np.float32)
    found = standardise(task(), values)
    np.testing.assert_array_equal(found, [[[1, 0, -2], [-1, 2, 2]]])
    assert found.dtype == np.float32


@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("quantiles", [(), (0.1, 0.5, 0.9)])
@pytest.mark.parametrize("from_last", [False, True])
def test_outputs_become_values(
    horizon: int, quantiles: tuple[float, ...], from_last: bool
) -> None:
    asked = task(horizon=horizon, quantiles=quantiles, from_last=from_last)
    shape = [4, *([horizon] if horizon > 1 else []), 2, *([3] if quantiles else [])]
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=shape).astype(np.float32)
    last = rng.normal(size=(4, 3)).astype(np.float32)
    found = in_units(asked, outputs, last)
    assert found.shape == outputs.shape
    for place in np.ndindex(*shape):
        channel = (2, 0)[place[2 if horizon > 1 else 1]]
        base = last[place[0], channel] if from_last else MEANS[channel]
        expected = base + SCALES[channel] * outputs[place]
        # A product and a sum in float32.
        assert found[place] == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_without_channels_nothing_is_changed() -> None:
    plain = describe("adding", "forecast")
    values = np.ones((2, 3, 1), np.float32)
    assert standardise(plain, values) is values
    assert in_units(plain, values, values[:, -1]) is values
