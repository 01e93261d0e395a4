"""When a run learnt, and whether its gradient reached back before."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from experiments.reports.plots import RunData

_PLATEAU = (100, 300)  # training steps; the start of training lies before


class Lead(NamedTuple):
    """How long before its loss fell the gradient of a run reached back.

    Attributes:
      plateau: decay rate before anything was learnt, nats per step; NaN if unknown.
      opens_at: training step at which the rate had halved, or NaN.
      learns_at: training step at which the loss had fallen, or NaN.
    """

    plateau: float
    opens_at: float
    learns_at: float

    @property
    def steps(self) -> float:
        """Training steps between both; negative where the loss fell first."""
        return self.learns_at - self.opens_at


def first_step(steps: ArrayLike, reached: ArrayLike) -> float:
    """Returns the first of `steps` at which `reached` is true, or NaN."""
    found = np.asarray(steps, float)[np.asarray(reached, bool)]
    return float(found[0]) if found.size else math.nan


def measure_lead(run: RunData, level: float) -> Lead:
    """Compares when the decay rate halves with when the validation loss falls.

    The plateau is the mean rate of the training steps 100 to 300. The rate has halved
    at the first later measurement in which it is above half of the plateau.

    Args:
      run: with measurements of rate and loss at the same steps.
      level: loss below which the task counts as learnt.
    """
    steps, rates = rates_of(run)
    first, last = _PLATEAU
    early = rates[(steps >= first) & (steps <= last) & np.isfinite(rates)]
    plateau = float(early.mean()) if early.size else math.nan
    opens_at = first_step(steps, (steps > last) & (rates > plateau / 2))
    valid_steps, losses = run.series("valid", "loss")
    return Lead(plateau, opens_at, first_step(valid_steps, losses < level))


def rates_of(run: RunData) -> tuple[np.ndarray, np.ndarray]:
    """Returns the training steps `[n]` and decay rates `[n]` of a run."""
    return run.series("train", "decay_rate")


class Summary(NamedTuple):
    """How a run ended.

    Attributes:
      metric: on the test set, of the state that did best on the validation set.
      loss: on the validation set, the median over the last quarter of its evaluations,
        since a loss at its floor now and then leaps for a few steps.
      initial_rate: decay rate before the first update, nats per step; NaN if unknown.
      final_rate: the last one that was measured, likewise.
    """

    metric: float
    loss: float
    initial_rate: float
    final_rate: float


def summarise(run: RunData) -> Summary:
    """Returns how a run ended."""
    rates, losses = rates_of(run)[1], run.series("valid", "loss")[1]
    rates = rates[np.isfinite(rates)]
    first, last = (rates[0], rates[-1]) if rates.size else (math.nan, math.nan)
    return Summary(
        metric=float(run.series("test", run.task["metric"])[1][-1]),
        loss=float(np.median(losses[-max(1, len(losses) // 4) :])),
        initial_rate=float(first),
        final_rate=float(last),
    )
