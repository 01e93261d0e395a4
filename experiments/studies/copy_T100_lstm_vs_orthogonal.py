"""Copying over a wait of 100 steps: a rotation beside gates."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.pictures import style
from experiments.pictures.learning import Curve, Panel, draw_learning
from experiments.studies.kit.learning import first_step, summarise
from experiments.studies.kit.study import Picture, Result
from experiments.studies.kit.training_runs import train

_CELLS: dict[str, dict[str, Any]] = {
    "lstm": {"cell": "lstm", "hidden_size": 68},
    "exprnn": {"cell": "exprnn", "hidden_size": 128, "recurrent_learning_rate": 1e-4},
}
_LABELS = {"lstm": "LSTM, 68 units", "exprnn": "expRNN, 128 units"}
_FLAGS = {
    "task": "copy_memory",
    "length": 100,
    "batch_size": 20,
    "optimizer": "rmsprop",
    "learning_rate": 1e-3,
    "clip_norm": 1.0,
    "eval_every": 25,
    "eval_size": 100,
    "gradient_every": 0,
    "steps_per_call": 25,
}


def measure(folder: Path, full: bool) -> Result:
    """Trains both networks, several seeds in the larger version, for as many steps."""
    seeds = range(5 if full else 1)
    flags = _FLAGS | {"num_steps": 1500 if full else 800}
    runs = train(
        folder,
        {
            f"{name}_{seed}": flags | cell | {"seed": seed}
            for name, cell in _CELLS.items()
            for seed in seeds
        },
        full=full,
    )
    baseline = runs["lstm_0"].task["baseline_loss"]
    by_cell = {name: [runs[f"{name}_{seed}"] for seed in seeds] for name in _CELLS}
    solved = []
    for run in by_cell["exprnn"]:
        steps, losses = run.series("valid", "loss")
        solved.append(first_step(steps, losses < baseline / 10))
    values = {
        "baseline": baseline,
        "exprnn_solved_at_step": float(np.median(solved)),
        **{
            f"{name}_loss_over_baseline": float(
                np.median([summarise(run).loss for run in found]) / baseline
            )
            for name, found in by_cell.items()
        },
    }
    curves = {
        _LABELS[name]: [Curve(*run.series("valid", "loss")) for run in found]
        for name, found in by_cell.items()
    }
    lines = {"guess without memory": baseline, "a tenth of it": baseline / 10}
    figure = draw_learning([Panel("cross-entropy (nats)", curves, lines, log=True)])
    picture = Picture(
        style.save(figure, folder / "copy_T100.png"),
        "Copying ten symbols over a wait of 100 steps",
        "Both networks first learn when to answer, which leads to the dashed line, the "
        "best answer without memory. The one whose recurrence is a rotation goes on "
        "within a few hundred steps; the LSTM rests there.",
    )
    return Result(values, [picture])
