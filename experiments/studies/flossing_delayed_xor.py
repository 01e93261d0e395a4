"""Lyapunov exponents drawn to zero before training, on the delayed exclusive or."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from experiments.pictures import style
from experiments.pictures.learning import Curve, Panel, draw_learning
from experiments.reports.plots import RunData
from experiments.studies.kit.learning import first_step, summarise
from experiments.studies.kit.study import Picture, Result
from experiments.studies.kit.training_runs import train

_FLOSSED, _SOLVED = 300, 0.9
_KINDS: dict[str, dict[str, Any]] = {
    "flossed": {
        "flossing": 1.0,
        "flossing_exponents": 16,
        "flossing_steps": _FLOSSED,
    },
    "plain": {},
}
_FLAGS = {
    "task": "delayed_xor",
    "length": 50,
    "delay": 5,
    "cell": "elman",
    "init": "torch",
    "hidden_size": 32,
    "batch_size": 16,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "clip_norm": 0.03,
    "eval_every": 50,
    "eval_size": 200,
    "log_every": 10,
    "gradient_every": 0,
    "steps_per_call": 50,
}


def measure(folder: Path, full: bool) -> Result:
    """Trains with and without flossing, from the same parameters, several seeds."""
    seeds = range(10 if full else 3)
    flags = _FLAGS | {"num_steps": 3000 if full else 1500}
    runs = train(
        folder,
        {
            f"{kind}_{seed}": flags | options | {"seed": seed}
            for seed in seeds
            for kind, options in _KINDS.items()
        },
        full=full,
    )
    by_kind = {kind: [runs[f"{kind}_{seed}"] for seed in seeds] for kind in _KINDS}
    squares = np.stack([_squares(run)[1] for run in by_kind["flossed"]])
    first, last = np.median(squares[:, 0]), np.median(squares[:, -1])
    values = {
        "root_mean_square_before": math.sqrt(first),
        "root_mean_square_after": math.sqrt(last),
        "squares_fall_by": float(np.median(squares[:, 0] / squares[:, -1])),
    }
    for kind, found in by_kind.items():
        right = [summarise(run).metric for run in found]
        values[f"{kind}_accuracy"] = float(np.median(right))
        values[f"{kind}_share_solved"] = float(np.mean(np.array(right) >= _SOLVED))
        values[f"{kind}_solved_at_step"] = float(np.nanmedian(_solved_at(found)))
    values["gain_in_share_solved"] = (
        values["flossed_share_solved"] - values["plain_share_solved"]
    )
    return Result(values, [_picture(folder, by_kind)])


def _squares(run: RunData) -> tuple[np.ndarray, np.ndarray]:
    """Returns steps and mean squared exponent while flossing alone was trained."""
    steps, penalties = run.series("train", "penalty")
    return steps[steps < _FLOSSED], penalties[steps < _FLOSSED]


def _solved_at(runs: list[RunData]) -> list[float]:
    """Returns the first step of every run with 90 % right; its last one if none."""
    found = []
    for run in runs:
        steps, accuracy = run.series("valid", "accuracy")
        found.append(first_step(steps, (accuracy >= _SOLVED) | (steps == steps[-1])))
    return found


def _picture(folder: Path, by_kind: dict[str, list[RunData]]) -> Picture:
    accuracy = {
        kind: [Curve(*run.series("valid", "accuracy")) for run in runs]
        for kind, runs in by_kind.items()
    }
    squares = {"flossed": [Curve(*_squares(run)) for run in by_kind["flossed"]]}
    figure = draw_learning(
        [
            Panel("accuracy", accuracy, {"guess without memory": 0.5}),
            Panel("mean λ² (nats² per step²)", squares, {}, log=True),
        ]
    )
    return Picture(
        style.save(figure, folder / "flossing.png"),
        "Flossing before training",
        f"The first {_FLOSSED} steps of the flossed networks see no answers: they draw "
        "the 16 largest of 32 Lyapunov exponents to zero (below). Above the share of "
        "right answers, one line per seed; the plain ones train from the first step.",
    )
