"""Windows that no split leaks into, and naive forecasts with known answers."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.datasets.dataset import SeriesData
from experiments.datasets.forecasting import (
    block_error,
    calendar_fit,
    climatology,
    forecast_splits,
    persistence,
    pinball,
    rmse,
    seasonal_naive,
    split_by_time,
    up_share,
    windows,
)
from seqjax import losses


def series(values: np.ndarray, start: str = "2013-01-01T00") -> SeriesData:
    times = np.datetime64(start, "h") + np.arange(len(values))
    names = tuple(f"c{place}" for place in range(values.shape[1]))
    return SeriesData(names, times, values.astype(np.float32))


def test_windows_of_a_short_series() -> None:
    values = np.array([[0, 10], [1, 11], [2, 12], [3, 13], [4, 14]])
    cut = windows(values, window=2, horizon=1)
    assert cut.inputs[..., 0].tolist() == [[0, 1], [1, 2], [2, 3]]
    assert cut.inputs[..., 1].tolist() == [[10, 11], [11, 12], [12, 13]]
    assert cut.targets.tolist() == [[[2, 12]], [[3, 13]], [[4, 14]]]
    assert cut.starts.tolist() == [2, 3, 4]
    strided = windows(values, window=1, horizon=2, stride=2)
    assert strided.inputs[..., 0].tolist() == [[0], [2]]
    assert strided.targets[..., 0].tolist() == [[1, 2], [3, 4]]
    assert strided.steps.tolist() == [[1, 2], [3, 4]]


def test_windows_take_no_memory() -> None:
    values = np.zeros((9, 2), np.float32)
    cut = windows(values, 3, 2)
    for view in (cut.inputs, cut.targets):
        assert np.shares_memory(view, values)
        assert not view.flags.writeable


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_bad_sizes_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1, got"):
        windows(np.zeros((9, 1)), *sizes)


def test_short_series_are_refused() -> None:
    assert len(windows(np.zeros((5, 1)), 3, 2).inputs) == 1
    with pytest.raises(ValueError, match=r"at least 5 steps .* got 4"):
        windows(np.zeros((4, 1)), 3, 2)


def test_splits_are_in_the_order_of_time() -> None:
    assert dict(split_by_time(100)) == {
        "train": slice(0, 70),
        "valid": slice(70, 80),
        "test": slice(80, 100),
    }
    gaps = split_by_time(100, gap=3)
    assert (gaps["valid"], gaps["test"]) == (slice(73, 80), slice(83, 100))


@given(
    num_steps=st.integers(150, 400),
    window=st.integers(1, 8),
    horizon=st.integers(1, 4),
    stride=st.integers(1, 5),
    gap=st.integers(0, 3),
)
@settings(deadline=None, max_examples=30)
def test_no_window_crosses_a_split(
    num_steps: int, window: int, horizon: int, stride: int, gap: int
) -> None:
    # The value of a step is its place: windows tell where they were cut.
    data = series(np.arange(num_steps)[:, None])
    ranges = split_by_time(num_steps, gap)
    cut = forecast_splits(data, ranges, window=window, horizon=horizon, stride=stride)
    for name, part in cut.splits.items():
        places = np.concatenate([part.inputs, part.targets], axis=1)[..., 0]
        places = np.rint(places * cut.scale + cut.mean).astype(int)
        first = np.arange(*ranges[name].indices(num_steps))[0] + stride * np.arange(
            len(places)
        )
        np.testing.assert_array_equal(
            places, first[:, None] + np.arange(window + horizon)
        )
        assert places.max() < ranges[name].stop
        np.testing.assert_array_equal(part.steps, places[:, window:])


def test_statistics_come_from_train_alone() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(5, 3, (100, 2))
    values[:, 1] = 4.0
    ranges = split_by_time(100)
    data = forecast_splits(series(values), ranges, window=4, horizon=1)
    known = values[:70].astype(np.float32).astype(np.float64)
    # Float32 keeps seven digits.
    np.testing.assert_allclose(data.mean, known.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(data.scale, [known[:, 0].std(), 1], rtol=1e-6)
    assert not data.splits["train"].inputs[..., 1].any()
    values[70:] += 100
    other = forecast_splits(series(values), ranges, window=4, horizon=1)
    np.testing.assert_array_equal(data.mean, other.mean)
    np.testing.assert_array_equal(
        data.splits["train"].inputs, other.splits["train"].inputs
    )


def test_persistence_errs_by_the_way_since() -> None:
    cut = windows(np.array([[0.0], [1], [3], [6], [10]]), 2, 2)
    forecasts = persistence(cut)
    assert forecasts[..., 0].tolist() == [[1, 1], [3, 3]]
    # Errors 2 and 5, then 3 and 7.
    expected = [[math.sqrt((4 + 9) / 2)], [math.sqrt((25 + 49) / 2)]]
    np.testing.assert_allclose(rmse(forecasts, cut.targets), expected, rtol=1e-15)


def test_a_season_is_repeated_beyond_the_horizon() -> None:
    wave = np.tile([[0.0], [5], [1]], (6, 1))
    cut = windows(wave, window=4, horizon=7)
    assert not rmse(seasonal_naive(cut, 3), cut.targets).any()
    np.testing.assert_array_equal(seasonal_naive(cut, 1), persistence(cut))
    assert rmse(seasonal_naive(cut, 2), cut.targets)[0] > 1
    for season in (0, 5):
        with pytest.raises(ValueError, match="season of 1 to 4 steps"):
            seasonal_naive(cut, season)


def test_climatology_means_what_is_known_of_an_hour() -> None:
    # Four days: hour h of day d has h + 100 d; the last day is not known.
    hours = np.arange(96)
    data = series((hours % 24 + 100 * (hours // 24))[:, None])
    forecasts = climatology(data, slice(0, 72), "hour")
    assert forecasts.dtype == np.float32
    np.testing.assert_array_equal(forecasts[:, 0], hours % 24 + 100.0)
    daily = climatology(data, slice(0, 72), "day")
    # The mean of a known day; of all of them for the one that is not known.
    np.testing.assert_array_equal(daily[::24, 0], [11.5, 111.5, 211.5, 111.5])


def test_climatology_tells_hours_of_the_year_apart() -> None:
    # Two years, the first with a leap day.
    num_steps = 24 * (366 + 365)
    data = series(np.arange(num_steps)[:, None], "2012-01-01T00")
    first_year = slice(0, 24 * 366)
    forecasts = climatology(data, first_year, "hour_of_year")[:, 0]
    np.testing.assert_array_equal(forecasts[first_year], np.arange(24 * 366))
    np.testing.assert_array_equal(forecasts[24 * 366 :], np.arange(24 * 365))


def test_share_of_rising_steps() -> None:
    values = np.array([[1, 4], [2, 4], [3, 3], [1, 5]])
    np.testing.assert_allclose(up_share(values), [2 / 3, 1 / 3], rtol=1e-15)


def test_a_fit_to_the_calendar_goes_on_into_months_that_are_not_known() -> None:
    turns = 2 * np.pi * np.arange(400) / np.array([[24], [400]])
    calendar = np.concatenate([np.sin(turns), np.cos(turns)]).T
    values = 50 + calendar @ np.array([[3.0], [-10], [1], [4]])
    known = slice(0, 250)
    spoilt = values.copy()
    spoilt[250:] = 999
    # Float32 keeps seven digits.
    np.testing.assert_allclose(
        calendar_fit(calendar, spoilt, known), values, rtol=1e-5, atol=1e-4
    )


def test_pinball_is_that_of_the_library() -> None:
    rng = np.random.default_rng(0)
    forecasts, targets = rng.normal(size=(9, 2, 3)), rng.normal(size=(9, 2))
    levels = (0.05, 0.5, 0.95)
    expected = losses.pinball(
        jnp.asarray(forecasts, jnp.float32), jnp.asarray(targets, jnp.float32), levels
    )
    # Against float32.
    assert pinball(forecasts, targets, levels) == pytest.approx(float(expected), 1e-5)


def test_the_error_of_a_mean_respects_overlap() -> None:
    # Blocks of three with the means 1 to 5: their deviation is sqrt(2.5).
    values = np.repeat(np.arange(1.0, 6), 3)[:, None]
    np.testing.assert_allclose(block_error(values, 3), [math.sqrt(2.5 / 5)], rtol=1e-15)
    assert np.isnan(block_error(values, 4)).all()
    rng = np.random.default_rng(0)
    # Sums of 20 neighbours, of which 400 stand for 20 independent ones.
    noise = rng.normal(size=(300, 419))
    sums = np.lib.stride_tricks.sliding_window_view(noise, 20, axis=1).sum(axis=-1)
    true = sums.mean(axis=1).std()
    found = np.sqrt(np.mean(block_error(sums.T, 40) ** 2))
    naive = sums.std(axis=1).mean() / math.sqrt(400)
    # Neighbouring blocks share an edge, and 300 draws tell a deviation to 4 %.
    assert 0.8 * true < found < 1.1 * true
    assert naive < 0.3 * true
