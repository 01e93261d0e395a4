"""Forecasting windows without leakage, and the naive forecasts to beat."""

import types
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from experiments.datasets.dataset import SeriesData

_MIN_BLOCKS = 5


class Windows(NamedTuple):
    """Pieces of a series, and what follows each of them.

    Attributes:
      inputs: `[windows, window, channel]`.
      targets: the steps right after each window, `[windows, horizon, channel]`.
      starts: place of each first target step in the series, int `[windows]`.
    """

    inputs: np.ndarray
    targets: np.ndarray
    starts: np.ndarray

    @property
    def steps(self) -> np.ndarray:
        """Places of all target steps in the series, int `[windows, horizon]`."""
        return self.starts[:, None] + np.arange(self.targets.shape[1])


class ForecastData(NamedTuple):
    """Windows of every split, in units of the training part's deviation.

    Attributes:
      mean: what was subtracted, float32 `[channel]`.
      scale: what it was divided by, float32 `[channel]`.
      splits: windows by the name of their split; `starts` counts from the beginning of
        the whole series.
    """

    mean: np.ndarray
    scale: np.ndarray
    splits: Mapping[str, Windows]


def windows(values: np.ndarray, window: int, horizon: int, stride: int = 1) -> Windows:
    """Cuts a series into all windows that leave room for their targets.

    Args:
      values: `[time, channel]`.
      window: steps that are seen.
      horizon: steps that are forecast.
      stride: steps from one window to the next.

    Returns:
      Read-only views of `values`: they take no memory of their own.

    Raises:
      ValueError: a size is below 1, or the series is too short for one window.
    """
    if min(window, horizon, stride) < 1:
        raise ValueError(
            f"expected window, horizon and stride of at least 1, got {window}, "
            f"{horizon} and {stride}"
        )
    if len(values) < window + horizon:
        raise ValueError(
            f"expected at least {window + horizon} steps for a window of {window} and "
            f"a horizon of {horizon}, got {len(values)}"
        )
    spans = np.lib.stride_tricks.sliding_window_view(values, window + horizon, axis=0)
    spans = np.moveaxis(spans[::stride], 2, 1)
    starts = window + stride * np.arange(len(spans))
    return Windows(spans[:, :window], spans[:, window:], starts)


def split_by_time(num_steps: int, gap: int = 0) -> Mapping[str, slice]:
    """Splits a series into train (70 %), valid (10 %) and test (20 %), in this order.

    Args:
      num_steps: length of the series.
      gap: steps left out after train and after valid, so that what follows is not
        almost what was learnt.
    """
    train_end, valid_end = num_steps * 7 // 10, num_steps * 8 // 10
    return types.MappingProxyType(
        {
            "train": slice(0, train_end),
            "valid": slice(train_end + gap, valid_end),
            "test": slice(valid_end + gap, num_steps),
        }
    )


def forecast_splits(
    series: SeriesData,
    ranges: Mapping[str, slice],
    *,
    window: int,
    horizon: int,
    stride: int = 1,
) -> ForecastData:
    """Cuts every range of a series into windows of its own, after standardisation.

    No window reaches across the end of a range, and mean and deviation are those of the
    range `train` alone. A channel that is constant there is only centred.

    Args:
      series: what to forecast.
      ranges: the steps of every split, as of `split_by_time`.
      window: steps that are seen.
      horizon: steps that are forecast.
      stride: steps from one window to the next.

    Raises:
      ValueError: a range is too short for one window.
    """
    # In float64: a float32 sum over a long series is off in its last digits.
    known = series.values[ranges["train"]].astype(np.float64)
    mean, scale = known.mean(axis=0), known.std(axis=0)
    scale[scale == 0] = 1
    mean, scale = mean.astype(np.float32), scale.astype(np.float32)
    scaled = (series.values - mean) / scale
    splits = {}
    for name, steps in ranges.items():
        cut = windows(scaled[steps], window, horizon, stride)
        splits[name] = cut._replace(starts=cut.starts + steps.start)
    return ForecastData(mean, scale, types.MappingProxyType(splits))


def persistence(cut: Windows) -> np.ndarray:
    """Forecasts that all stays as it was last seen, `[windows, horizon, channel]`."""
    return np.broadcast_to(cut.inputs[:, -1:], cut.targets.shape)


def calendar_fit(calendar: np.ndarray, values: np.ndarray, known: slice) -> np.ndarray:
    """Forecasts what the calendar alone says: a climatology of less than a year.

    values ≈ a + calendar B by least squares over the known steps. With a sine and a
    cosine of the day and of the year it goes on into months that are not known.

    Args:
      calendar: `[time, feature]`.
      values: `[time, channel]`.
      known: the steps whose values may be used: the training part.

    Returns:
      A forecast for every step, `[time, channel]`, float32.
    """
    known_ones = np.ones((len(calendar), 1))
    terms = np.concatenate([known_ones, calendar.astype(np.float64)], axis=1)
    known_values = values[known].astype(np.float64)
    solution, *_ = np.linalg.lstsq(terms[known], known_values, rcond=None)
    return (terms @ solution).astype(np.float32)


def seasonal_naive(cut: Windows, season: int) -> np.ndarray:
    """Forecasts what was seen a season before, `[windows, horizon, channel]`.

    Args:
      cut: windows of at least `season` steps.
      season: steps of a season; beyond it the last season repeats.

    Raises:
      ValueError: the windows are shorter than a season.
    """
    window, horizon = cut.inputs.shape[1], cut.targets.shape[1]
    if not 1 <= season <= window:
        raise ValueError(f"expected a season of 1 to {window} steps, got {season}")
    return cut.inputs[:, window - season + np.arange(horizon) % season]


def climatology(
    series: SeriesData, known: slice, cycle: Literal["hour", "day", "hour_of_year"]
) -> np.ndarray:
    """Forecasts the mean over all known steps at the same place in a cycle.

    Args:
      series: with times of type datetime64.
      known: the steps whose values may be used: the training part.
      cycle: hour of the day, day of the year, or both together.

    Returns:
      A forecast for every step, `[time, channel]`; for windows take it at
      `Windows.steps`. Where nothing is known of a place, the mean over all known steps.
    """
    places = _places(series.times, cycle)
    values = series.values[known].astype(np.float64)
    sums = np.zeros((places.max() + 1, values.shape[1]))
    np.add.at(sums, places[known], values)
    counts = np.bincount(places[known], minlength=len(sums))[:, None]
    means = np.where(counts > 0, sums / np.maximum(counts, 1), values.mean(axis=0))
    return means[places].astype(series.values.dtype)


def _places(times: np.ndarray, cycle: str) -> np.ndarray:
    days = times.astype("datetime64[D]")
    hour = (times.astype("datetime64[h]") - days).astype(int)
    day = (days - times.astype("datetime64[Y]").astype("datetime64[D]")).astype(int)
    return {"hour": hour, "day": day, "hour_of_year": 24 * day + hour}[cycle]


def up_share(values: np.ndarray) -> np.ndarray:
    """Returns how often a forecast of "up" is right: the share of rising steps.

    Args:
      values: `[time, channel]`.

    Returns:
      Shares of the steps from one time to the next, `[channel]`.
    """
    return (np.diff(values, axis=0) > 0).mean(axis=0)


def pinball(
    forecasts: np.ndarray, targets: np.ndarray, levels: Sequence[float]
) -> float:
    """Returns the mean of max(τ (y − q), (τ − 1) (y − q)).

    Args:
      forecasts: q, the quantiles `levels` of each target, `[..., level]`.
      targets: y, `[...]`.
      levels: τ.
    """
    over = targets[..., None].astype(np.float64) - forecasts
    taus = np.asarray(levels)
    return float(np.mean(np.maximum(taus * over, (taus - 1) * over)))


def block_error(values: np.ndarray, size: int) -> np.ndarray:
    """Returns the standard error of a mean over time, from the means of blocks.

    Windows that overlap err together, and so do neighbours: the error of independent
    ones would be too small.

    Args:
      values: one number a window, in the order of time, `[windows, *axes]`.
      size: windows of a block, at least; as many as lie between two windows that share
        no step.

    Returns:
      Float64 `[*axes]`; NaN for fewer than five blocks.
    """
    count = len(values) // size
    if count < _MIN_BLOCKS:
        return np.full(values.shape[1:], np.nan)
    means = np.stack([block.mean(axis=0) for block in np.array_split(values, count)])
    return means.std(axis=0, ddof=1) / np.sqrt(count)


def rmse(forecasts: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns √(mean over windows of (forecast − target)²) for every lead time.

    Args:
      forecasts: `[windows, horizon, channel]`.
      targets: `[windows, horizon, channel]`.

    Returns:
      Float64 `[horizon, channel]`; row h − 1 belongs to a forecast h steps ahead.
    """
    errors = forecasts.astype(np.float64) - targets
    return np.sqrt(np.mean(errors**2, axis=0))
