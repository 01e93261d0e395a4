"""The order of two symbols among a hundred distractors."""

from pathlib import Path

import numpy as np

from experiments.pictures import style
from experiments.pictures.learning import Curve, Panel, draw_learning
from experiments.studies.kit.learning import first_step, rates_of, summarise
from experiments.studies.kit.study import Picture, Result
from experiments.studies.kit.training_runs import train

_SOLVED, _BATCH = 0.99, 50
_FLAGS = {
    "task": "temporal_order",
    "variant": "6a",
    "length": 100,
    "cell": "lstm",
    "hidden_size": 64,
    "max_lag": 100.0,
    "batch_size": _BATCH,
    "optimizer": "adam",
    "learning_rate": 3e-3,
    "clip_norm": 1.0,
    "num_steps": 1500,
    "eval_every": 20,
    "eval_size": 500,
    "gradient_every": 20,
    "steps_per_call": 20,
}


def measure(folder: Path, full: bool) -> Result:
    """Trains an LSTM, several seeds in the larger version, and takes the worst."""
    # The short version ends once it is solved; without that the slope can be followed.
    flags = _FLAGS | ({} if full else {"stop_at": 0.998})
    names = {f"seed_{seed}": flags | {"seed": seed} for seed in range(5 if full else 1)}
    runs = train(folder, names, full=full)
    ends = [summarise(run) for run in runs.values()]
    solved = []
    for run in runs.values():
        steps, accuracy = run.series("valid", "accuracy")
        solved.append(first_step(steps, accuracy >= _SOLVED))
    values = {
        "test_accuracy": float(np.min([end.metric for end in ends])),
        "sequences_until_solved": float(np.max(solved)) * _BATCH,
        "initial_rate": float(np.min([end.initial_rate for end in ends])),
        "final_rate": float(np.min([end.final_rate for end in ends])),
    }
    accuracy = [Curve(*run.series("valid", "accuracy")) for run in runs.values()]
    rates = [Curve(*rates_of(run)) for run in runs.values()]
    figure = draw_learning(
        [
            Panel("accuracy", {"LSTM": accuracy}, {"guess without memory": 0.25}),
            Panel(
                "decay rate (nats per step)", {"LSTM": rates}, {"level gradient": 0.0}
            ),
        ]
    )
    picture = Picture(
        style.save(figure, folder / "temporal_order.png"),
        "Two symbols in their order, 100 to 110 steps",
        "Above the share of right answers among four, below the slope of the gradient. "
        "The gate biases were drawn for lags up to 100, so that the gradient reaches "
        "the first symbol from the first training step on.",
    )
    return Result(values, [picture])
