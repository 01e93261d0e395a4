"""Series to forecast from a window of what was before."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.datasets.dataset import SeriesData
from experiments.datasets.forecasting import (
    Windows,
    calendar_fit,
    forecast_splits,
    persistence,
    pinball,
    seasonal_naive,
    split_by_time,
    windows,
)
from experiments.datasets.sequences import Ragged, SequenceData, Sequences
from experiments.datasets.series import load_stocks, load_weather, random_walk

_WALK_SEED = 42
_WALK_STEPS = (830, 130, 130)  # of train, valid and test
_AIRPORT, _TARGET = "JFK.", "JFK.temp"
_WEATHER_UNITS = {
    "temp": "°F",
    "dewp": "°F",
    "humid": "%",
    "wind_dir": "degrees",
    "wind_speed": "miles per hour",
    "precip": "inches",
    "visib": "miles",
}
_DAY = 24  # hours
_TURNS = {"day": _DAY, "year": 365.25 * _DAY}


def load_series_task(
    name: str, data_dir: Path, *, context: int, horizon: int, interval: float = 0.0
) -> SequenceData:
    """Loads windows of a series and what follows each.

    random_walk: the prices themselves, as the tutorials forecast them. stocks: the
    daily log returns of 20 stocks. weather: the temperature at JFK minus that of the
    last hour seen, out of all channels there and the hour of the day; to forecast no
    change is persistence. The day of the year is no input: train ends in September, and
    a network knows nothing of angles that it never saw. All is standardised with the
    mean and the deviation of train, and no window reaches across a split.

    The baseline is no change; where quantiles are asked, its loss has the quantiles of
    no change's own errors in train around it.

    Args:
      name: `random_walk`, `stocks` or `weather`.
      data_dir: folder of all data sets.
      context: steps that are seen.
      horizon: steps that are forecast.
      interval: share of the outcomes between the outer two of three quantiles that are
        asked; 0 asks for the mean.

    Raises:
      DataError: the files are missing or damaged.
      ValueError: the series is too short for such windows.
    """
    series = load_series(name, data_dir)
    data = forecast_splits(
        series, series_ranges(name, series), window=context, horizon=horizon
    )
    asked = {split: _targets(name, series, cut) for split, cut in data.splits.items()}
    answers = list(_answers(name, series))
    errors = {
        split: cut.targets[:, :, answers]
        - _no_change(name, cut, answers, -data.mean / data.scale)
        for split, cut in data.splits.items()
    }
    error = float(np.mean(np.square(errors["test"])))
    # Rounded: 0.05, which 1 - 0.9 halved is not quite.
    tail = round((1 - interval) / 2, 12)
    quantiles = (tail, 0.5, round(1 - tail, 12)) if interval else ()
    return SequenceData(
        name=name,
        kind="forecast",
        input_size=len(series.names),
        output_size=asked["test"].shape[2],
        metric="mean_squared_error",
        baseline_loss=_spread_loss(errors, quantiles) if quantiles else error,
        baseline_metric=error,
        splits={
            split: Sequences(
                Ragged.from_array(cut.inputs),
                asked[split][:, 0] if horizon == 1 else asked[split],
            )
            for split, cut in data.splits.items()
        },
        horizon=horizon,
        channels=series.names,
        units=_units(name, series.names),
        means=tuple(data.mean.tolist()),
        scales=tuple(data.scale.tolist()),
        answers=tuple(answers),
        from_last=name == "weather",
        quantiles=quantiles,
    )


class HeldOut(NamedTuple):
    """The test part of a series in its own units, and naive forecasts.

    Attributes:
      names: the channels that are asked.
      unit: of all of them.
      times: `[time]`.
      values: `[time, output]`.
      starts: places in `values` of the first step that each window asks for,
        `[windows]`.
      train_range: smallest and largest values of train, `[2, output]`.
      naive: by name, `[windows, horizon, output]`; the first is no change.
    """

    names: tuple[str, ...]
    unit: str
    times: np.ndarray
    values: np.ndarray
    starts: np.ndarray
    train_range: np.ndarray
    naive: Mapping[str, np.ndarray]


def load_held_out(name: str, data_dir: Path, *, context: int, horizon: int) -> HeldOut:
    """Loads what the test windows of a task are judged by.

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
    ranges, asked = series_ranges(name, series), list(_answers(name, series))
    values = series.values[:, asked]
    known, part = values[ranges["train"]], values[ranges["test"]]
    cut = windows(part, context, horizon)
    every, zero = list(range(len(asked))), np.zeros(1, np.float32)
    naive = {"no change": _no_change(name, cut, every, zero)}
    if name == "stocks":
        naive["mean of train"] = np.broadcast_to(known.mean(axis=0), cut.targets.shape)
    if name == "weather":
        if context >= _DAY:
            naive["same hour yesterday"] = seasonal_naive(cut, _DAY)
        calendar = np.column_stack([*_calendar(series.times, ("day", "year")).values()])
        fit = calendar_fit(calendar, values, ranges["train"])
        naive["climatology"] = fit[ranges["test"]][cut.steps]
    return HeldOut(
        names=tuple(series.names[place] for place in asked),
        unit=_units(name, series.names)[asked[0]],
        times=series.times[ranges["test"]],
        values=part,
        starts=cut.starts,
        train_range=np.stack([known.min(axis=0), known.max(axis=0)]),
        naive=naive,
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
    calendar = _calendar(weather.times, ("day",))
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


def _calendar(times: np.ndarray, turns: Sequence[str]) -> dict[str, np.ndarray]:
    """Hour of the day and day of the year, as points on circles."""
    hours = times.astype("datetime64[h]").astype(np.int64)
    return {
        f"{wave.__name__}_{turn}": wave(2 * np.pi * hours / _TURNS[turn]).astype(
            np.float32
        )
        for turn in turns
        for wave in (np.sin, np.cos)
    }


def _units(name: str, channels: Sequence[str]) -> tuple[str, ...]:
    """The unit of every channel; of a part of the calendar how it is made."""
    if name != "weather":
        unit = "made-up dollars" if name == "random_walk" else "log return of a day"
        return (unit,) * len(channels)
    units = {f"{_AIRPORT}{name}": unit for name, unit in _WEATHER_UNITS.items()}
    units |= {
        f"{wave}_day": f"{wave}(2π · hour of the day in UTC / 24)"
        for wave in ("sin", "cos")
    }
    return tuple(units[channel] for channel in channels)


def _answers(name: str, series: SeriesData) -> tuple[int, ...]:
    """The channels that are asked."""
    if name == "weather":
        return (series.names.index(_TARGET),)
    return tuple(range(len(series.names)))


def _targets(name: str, series: SeriesData, cut: Windows) -> np.ndarray:
    """What is asked, `[windows, horizon, output]`."""
    if name != "weather":
        return cut.targets
    asked = list(_answers(name, series))
    return cut.targets[:, :, asked] - cut.inputs[:, -1:, asked]


def _no_change(
    name: str, cut: Windows, asked: list[int], zero: np.ndarray
) -> np.ndarray:
    """The last value seen; `zero`, `[channel]`, for what is a change already."""
    last = (
        np.broadcast_to(zero, cut.targets.shape)
        if name == "stocks"
        else persistence(cut)
    )
    return last[:, :, asked]


def _spread_loss(
    errors: Mapping[str, np.ndarray], quantiles: tuple[float, ...]
) -> float:
    """Pinball loss on test of the quantiles that a forecast's errors had in train."""
    spread = np.quantile(errors["train"], quantiles, axis=0)
    return pinball(np.moveaxis(spread, 0, -1), errors["test"], quantiles)
