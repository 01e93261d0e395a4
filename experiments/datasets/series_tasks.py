"""Series to forecast from a window of what was before."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.datasets.dataset import SeriesData
from experiments.datasets.forecasting import (
    Windows,
    forecast_splits,
    split_by_time,
)
from experiments.datasets.sequences import Ragged, SequenceData, Sequences
from experiments.datasets.series import load_stocks, load_weather, random_walk

_WALK_SEED = 42
_WALK_STEPS = (830, 130, 130)  # of train, valid and test
_AIRPORT, _TARGET = "JFK.", "JFK.temp"


def load_series_task(
    name: str, data_dir: Path, *, context: int, horizon: int
) -> SequenceData:
    """Loads windows of a series and what follows each.

    random_walk: the prices themselves, as the tutorials forecast them. stocks: the
    daily log returns of 20 stocks. weather: the temperature at JFK minus that of the
    last hour seen, out of all channels there, the hour of the day and the day of the
    year; to forecast no change is persistence. All is standardised with the mean and
    the deviation of train, and no window reaches across a split.

    Args:
      name: `random_walk`, `stocks` or `weather`.
      data_dir: folder of all data sets.
      context: steps that are seen.
      horizon: steps that are forecast.

    Raises:
      DataError: the files are missing or damaged.
      ValueError: the series is too short for such windows.
    """
    series = load_series(name, data_dir)
    data = forecast_splits(
        series, series_ranges(name, series), window=context, horizon=horizon
    )
    asked = {split: _targets(name, series, cut) for split, cut in data.splits.items()}
    test = data.splits["test"]
    # No change: for what is a change already, zero.
    naive = test.inputs[:, -1:] if name == "random_walk" else np.zeros(1, np.float32)
    error = float(np.mean(np.square(asked["test"] - naive)))
    return SequenceData(
        name=name,
        kind="forecast",
        input_size=test.inputs.shape[2],
        output_size=asked["test"].shape[2],
        metric="mean_squared_error",
        baseline_loss=error,
        baseline_metric=error,
        splits={
            split: Sequences(
                Ragged.from_array(cut.inputs),
                asked[split][:, 0] if horizon == 1 else asked[split],
            )
            for split, cut in data.splits.items()
        },
        horizon=horizon,
    )


def load_series(name: str, data_dir: Path) -> SeriesData:
    """Loads the channels that a task reads.

    Args:
      name: `random_walk`, `stocks` or `weather`.
      data_dir: folder of all data sets.

    Raises:
      DataError: the files are missing or damaged.
    """
    if name == "random_walk":
        return random_walk(_WALK_SEED, sum(_WALK_STEPS))
    if name == "stocks":
        prices = load_stocks(data_dir)
        returns = np.diff(np.log(prices.values.astype(np.float64)), axis=0)
        return SeriesData(prices.names, prices.times[1:], returns.astype(np.float32))
    weather = load_weather(data_dir)
    chosen = [i for i, n in enumerate(weather.names) if n.startswith(_AIRPORT)]
    names = tuple(weather.names[i] for i in chosen)
    calendar = _calendar(weather.times)
    return SeriesData(
        (*names, *calendar),
        weather.times,
        np.column_stack([weather.values[:, chosen], *calendar.values()]),
    )


def series_ranges(name: str, series: SeriesData) -> Mapping[str, slice]:
    """Returns the steps of every split.

    Args:
      name: `random_walk`, whose train and test have 800 and 100 windows of 30 steps as
        in the tutorials, `stocks` or `weather`, 70 : 10 : 20.
      series: what is split.
    """
    if name != "random_walk":
        return split_by_time(len(series.values))
    train, valid, _ = np.cumsum(_WALK_STEPS).tolist()
    return {
        "train": slice(0, train),
        "valid": slice(train, valid),
        "test": slice(valid, None),
    }


def _calendar(times: np.ndarray) -> dict[str, np.ndarray]:
    """Hour of the day and day of the year, as points on circles."""
    hours = times.astype("datetime64[h]").astype(np.int64)
    turns = {"day": hours / 24, "year": hours / (24 * 365.25)}
    return {
        f"{wave.__name__}_{name}": wave(2 * np.pi * turn).astype(np.float32)
        for name, turn in turns.items()
        for wave in (np.sin, np.cos)
    }


def _targets(name: str, series: SeriesData, cut: Windows) -> np.ndarray:
    """What is asked, `[windows, horizon, output]`."""
    if name != "weather":
        return cut.targets
    channel = series.names.index(_TARGET)
    last = cut.inputs[:, -1:, [channel]]
    return cut.targets[:, :, [channel]] - last
