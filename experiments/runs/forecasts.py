"""Forecasts of a test part beside naive ones, in units of the data, hour by hour.

They are kept in the run's `forecasts.npz`, from which tables and pictures are made.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.common import files
from experiments.datasets.description import TaskDescription
from experiments.datasets.forecasting import block_error, rmse
from experiments.datasets.prepared import npz_bytes, read_npz
from experiments.datasets.series_tasks import HeldOut
from experiments.datasets.units import in_units

NAME = "forecasts.npz"
MODEL = "model"
_LEADS = (1, 6, 24)  # steps ahead that a run's result tells
_NAIVE = "naive "


class Forecasts(NamedTuple):
    """What was forecast of a test part, and what came.

    Attributes:
      names: the channels that are asked.
      unit: of all of them.
      interval: share of the outcomes that an interval should hold; 0 for none.
      context: steps that were seen before each forecast.
      times: `[time]`.
      values: `[time, output]`.
      starts: place in `values` of the first step of each forecast, `[windows]`.
      train_range: smallest and largest value of train, `[2, output]`.
      model: forecasts, of quantiles the median, `[windows, horizon, output]`.
      low: lower end of the interval, likewise; the same as `model` where there is none.
      high: upper end.
      naive: naive forecasts by name, likewise; the first is no change.
    """

    names: tuple[str, ...]
    unit: str
    interval: float
    context: int
    times: np.ndarray
    values: np.ndarray
    starts: np.ndarray
    train_range: np.ndarray
    model: np.ndarray
    low: np.ndarray
    high: np.ndarray
    naive: Mapping[str, np.ndarray]

    @property
    def steps(self) -> np.ndarray:
        """Place in `values` of every step that is forecast, `[windows, horizon]`."""
        return self.starts[:, None] + np.arange(self.model.shape[1])

    @property
    def truth(self) -> np.ndarray:
        """What came, `[windows, horizon, output]`."""
        return self.values[self.steps]


def make(task: TaskDescription, test: HeldOut, outputs: np.ndarray) -> Forecasts:
    """Puts a model's outputs beside what came and what naive forecasts say.

    Args:
      task: what the model was asked.
      test: the test part.
      outputs: of the model for every window, as `in_units` takes them.
    """
    channels = np.zeros((len(test.starts), len(task.channels)), np.float32)
    channels[:, list(task.answers)] = test.values[test.starts - 1]
    quantiles = in_units(task, outputs, channels)
    if task.horizon == 1:
        quantiles = quantiles[:, None]
    if not task.quantiles:
        quantiles = quantiles[..., None]
    return Forecasts(
        names=test.names,
        unit=test.unit,
        interval=round(float(np.ptp(task.quantiles or 0.0)), 12),
        context=int(test.starts[0]),
        times=test.times,
        values=test.values,
        starts=test.starts,
        train_range=test.train_range,
        model=quantiles[..., quantiles.shape[-1] // 2],
        low=quantiles[..., 0],
        high=quantiles[..., -1],
        naive=test.naive,
    )


def write(folder: Path, made: Forecasts) -> None:
    """Writes forecasts into the directory of a run."""
    fields = {k: np.asarray(v) for k, v in made._asdict().items() if k != "naive"}
    # In the order of the names, which the archive does not keep.
    order = {f"{_NAIVE}{i} {k}": v for i, (k, v) in enumerate(made.naive.items())}
    files.write_atomic(folder / NAME, npz_bytes(fields | order))


def read(folder: Path) -> Forecasts | None:
    """Returns the forecasts of a run; None where there are none.

    Raises:
      ValueError: the file is damaged; it is named.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        fields = read_npz(path.read_bytes())
        naive = {k: fields.pop(k) for k in sorted(fields) if k.startswith(_NAIVE)}
        names, unit = fields.pop("names"), fields.pop("unit")
        interval, context = fields.pop("interval"), fields.pop("context")
        return Forecasts(
            names=tuple(names.tolist()),
            unit=str(unit),
            interval=float(interval),
            context=int(context),
            naive={k.split(" ", 2)[2]: forecast for k, forecast in naive.items()},
            **fields,
        )
    except Exception as error:
        raise ValueError(f"{path}: damaged ({error})") from error


class Scores(NamedTuple):
    """How good forecasts are, by steps ahead; each `[horizon]`.

    Standard errors are those of blocks of windows so far apart that they share no step.

    Attributes:
      rmse: root mean squared error by the forecast's name, in units of the data.
      saved: share of the squared error of no change that the model saves.
      saved_error: its standard error.
      direction: how often the model tells rightly whether the value rises.
      up: how often it rises: the score of a forecast that it always does.
      direction_error: standard error of the difference of both.
      coverage: share of the outcomes inside the interval; NaN where there is none.
      width: mean width of the interval, likewise.
    """

    rmse: Mapping[str, np.ndarray]
    saved: np.ndarray
    saved_error: np.ndarray
    direction: np.ndarray
    up: np.ndarray
    direction_error: np.ndarray
    coverage: np.ndarray
    width: np.ndarray


def score(made: Forecasts) -> Scores:
    """Returns how good forecasts are, over all windows and channels."""
    truth, apart = made.truth, made.context + made.model.shape[1]
    no_change = next(iter(made.naive.values()))
    squared = np.square(truth.astype(np.float64) - no_change)
    saved = squared - np.square(truth.astype(np.float64) - made.model)
    rises = truth > no_change
    right = (made.model > no_change) == rises
    held = (made.low <= truth) & (truth <= made.high) if made.interval else np.nan
    width = made.high - made.low if made.interval else np.nan
    every = np.mean(squared, axis=(0, 2))

    def over_all(values: np.ndarray | float) -> np.ndarray:
        return np.mean(np.broadcast_to(values, truth.shape), axis=(0, 2), dtype=float)

    def error(values: np.ndarray) -> np.ndarray:
        return block_error(np.mean(values, axis=2, dtype=float), apart)

    return Scores(
        rmse={
            name: np.sqrt(np.mean(rmse(forecast, truth) ** 2, axis=1))
            for name, forecast in {MODEL: made.model, **made.naive}.items()
        },
        saved=over_all(saved) / every,
        saved_error=error(saved) / every,
        direction=over_all(right),
        up=over_all(rises),
        direction_error=error(right.astype(float) - rises),
        coverage=over_all(held),
        width=over_all(width),
    )


def step_name(made: Forecasts) -> str:
    """Returns what a step is called: an hour, a day, or a step."""
    unit, _ = (
        np.datetime_data(made.times.dtype) if made.times.dtype.kind == "M" else ("", 1)
    )
    return {"h": "hour", "D": "day"}.get(unit, "step")


def told_leads(horizon: int) -> list[int]:
    """Returns the steps ahead that are told of all: 1, 6, 24 and the last."""
    return sorted({lead for lead in (*_LEADS, horizon) if lead <= horizon})


def lines(made: Forecasts) -> list[str]:
    """Returns the errors at a few steps ahead in words, a line for each."""
    scores, told = score(made), []
    for lead in told_leads(made.model.shape[1]):
        errors = [f"{name} {rmse[lead - 1]:.4g}" for name, rmse in scores.rmse.items()]
        held = f"; {scores.coverage[lead - 1]:.1%} inside {made.interval:.0%}"
        told.append(
            f"{step_name(made)} {lead} ahead, error in {made.unit}: {', '.join(errors)}"
            f"{held if made.interval else ''}"
        )
    return told


def summary(made: Forecasts) -> dict[str, float]:
    """Returns the scores at a few steps ahead, by names as in `climatology_rmse_24`."""
    scores, found = score(made), {}
    for lead in told_leads(made.model.shape[1]):
        place = lead - 1
        for name, errors in scores.rmse.items():
            found[f"{name.replace(' ', '_')}_rmse_{lead}"] = float(errors[place])
        for name, values in scores._asdict().items():
            if name != "rmse" and np.isfinite(values[place]):
                found[f"{name}_{lead}"] = float(values[place])
    if made.interval:
        found["coverage"] = float(scores.coverage.mean())
    return found
