"""The adding problem at T = 100, cell by cell."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.pictures import style
from experiments.pictures.learning import Curve, Panel, draw_learning
from experiments.reports.plots import RunData
from experiments.studies.kit.learning import first_step, rates_of, summarise
from experiments.studies.kit.study import Picture, Result
from experiments.studies.kit.training_runs import train

_SOLVED = 0.01
_CELLS: dict[str, dict[str, Any]] = {
    "lstm": {"cell": "lstm", "num_steps": 5000},
    "gru": {"cell": "gru", "num_steps": 5000},
    "irnn": {"cell": "irnn", "num_steps": 3000},
    "elman": {"cell": "elman", "init": "torch", "num_steps": 3000},
}
_LABELS = {"lstm": "LSTM", "gru": "GRU", "irnn": "ReLU, identity", "elman": "tanh"}
_FLAGS = {
    "task": "adding",
    "length": 100,
    "hidden_size": 64,
    "batch_size": 50,
    "optimizer": "adam",
    "learning_rate": 2e-3,
    "clip_norm": 1.0,
    "stop_at": 0.003,
    "eval_every": 100,
    "gradient_every": 100,
    "steps_per_call": 50,
}


def measure(folder: Path, full: bool) -> Result:
    """Trains every cell, several seeds in the larger version, and takes medians."""
    seeds = range(5 if full else 1)
    runs = train(
        folder,
        {
            f"{name}_{seed}": _FLAGS | flags | {"seed": seed}
            for name, flags in _CELLS.items()
            for seed in seeds
        },
        full=full,
    )
    by_cell = {name: [runs[f"{name}_{seed}"] for seed in seeds] for name in _CELLS}
    values = {}
    for name, found in by_cell.items():
        ends = [summarise(run) for run in found]
        values[f"{name}_error"] = float(np.median([end.metric for end in ends]))
        values[f"{name}_initial_rate"] = float(
            np.median([end.initial_rate for end in ends])
        )
    for name in ("lstm", "gru"):
        solved = [_solved_at(run) for run in by_cell[name]]
        values[f"{name}_solved_at_step"] = float(np.median(solved))
    return Result(values, [_picture(folder, by_cell)])


def _solved_at(run: RunData) -> float:
    steps, errors = run.series("valid", "loss")
    return first_step(steps, errors < _SOLVED)


def _picture(folder: Path, by_cell: dict[str, list[RunData]]) -> Picture:
    errors = {
        _LABELS[name]: [Curve(*run.series("valid", "loss")) for run in runs]
        for name, runs in by_cell.items()
    }
    rates = {
        _LABELS[name]: [Curve(*rates_of(run)) for run in runs]
        for name, runs in by_cell.items()
    }
    baseline = {"guess without memory, 1/6": 1 / 6}
    figure = draw_learning(
        [
            Panel("mean squared error", errors, baseline, log=True),
            Panel("decay rate (nats per step)", rates, {"level gradient": 0.0}),
        ]
    )
    return Picture(
        style.save(figure, folder / "adding_cells.png"),
        "The adding problem at T = 100",
        "Above the error on validation sequences, below the slope of the gradient "
        "that each cell trains with. Gates learn to carry it: their slope rises "
        "towards zero, and the error falls. A tanh network that begins with a slope "
        "of half a nat per step stays at the guess. A level gradient alone is not "
        "enough: the ReLU network has it from the first step on.",
    )
