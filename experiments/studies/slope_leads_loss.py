"""The gradient reaches back before the loss falls: a lead, over several seeds."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.pictures import style
from experiments.pictures.training import Trajectory, draw_lead
from experiments.reports.plots import RunData
from experiments.studies.kit.learning import Lead, measure_lead, rates_of
from experiments.studies.kit.study import Picture, Result
from experiments.studies.kit.training_runs import train

_LEARNT = 0.10
_FLAGS = {
    "task": "adding",
    "length": 100,
    "cell": "lstm",
    "init": "torch",
    "forget_bias": 1.0,
    "hidden_size": 64,
    "batch_size": 50,
    "optimizer": "adam",
    "learning_rate": 2e-3,
    "clip_norm": 1.0,
    "num_steps": 6000,
    "stop_at": 0.02,
    # Both are looked at every 25 steps, so that neither is seen earlier than the other.
    "eval_every": 25,
    "eval_size": 500,
    "gradient_every": 25,
    "steps_per_call": 25,
}


def measure(folder: Path, full: bool) -> Result:
    """Trains an LSTM on the adding problem with several seeds."""
    # Not the seed of the study of all cells, whose numbers would be the same.
    seeds = range(1, 11 if full else 5)
    runs = train(folder, {f"seed_{s}": _FLAGS | {"seed": s} for s in seeds}, full=full)
    leads = {name: measure_lead(run, _LEARNT) for name, run in runs.items()}
    return Result(_values(list(leads.values())), [_picture(folder, runs, leads)])


def _values(leads: Sequence[Lead]) -> dict[str, float]:
    """Sums up the leads of all runs; one that never learnt leads in none."""
    steps = np.array([lead.steps for lead in leads])
    known = steps[np.isfinite(steps)]
    shortest, middle, longest = (
        np.quantile(known, (0, 0.5, 1)) if known.size else [math.nan] * 3
    )
    return {
        "share_learnt": float(np.mean([lead.learns_at > 0 for lead in leads])),
        "plateau_rate": float(np.median([lead.plateau for lead in leads])),
        "share_slope_first_or_together": float(np.mean(steps >= 0)),
        "share_slope_first": float(np.mean(steps > 0)),
        "median_lead": float(middle),
        "shortest_lead": float(shortest),
        "longest_lead": float(longest),
    }


def _picture(folder: Path, runs: dict[str, RunData], leads: dict[str, Lead]) -> Picture:
    shown = dict(list(runs.items())[:5])
    figure = draw_lead(
        {
            name.replace("_", " "): _trajectory(run, leads[name])
            for name, run in shown.items()
        },
        baseline=1 / 6,
        loss_label="validation mean squared error",
    )
    return Picture(
        style.save(figure, folder / "slope_leads_loss.png"),
        "The slope opens before the loss falls",
        "An LSTM learns to add at T = 100. For a thousand steps and more the error "
        "rests near the guess, and the gradient shrinks by a sixth per step; then the "
        "slope halves (▲), and at the same look or soon after the error falls below "
        "0.10 (▼). Looks are 25 training steps apart.",
    )


def _trajectory(run: RunData, lead: Lead) -> Trajectory:
    """Puts rate and loss side by side at the steps that have both."""
    steps, rates = rates_of(run)
    valid_steps, losses = run.series("valid", "loss")
    common, where, valid_where = np.intersect1d(steps, valid_steps, return_indices=True)
    return Trajectory(
        common, rates[where], losses[valid_where], lead.opens_at, lead.learns_at
    )
