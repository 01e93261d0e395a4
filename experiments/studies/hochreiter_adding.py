"""The adding problem as it was first posed."""

from pathlib import Path

import numpy as np

from experiments.pictures import style
from experiments.pictures.learning import Curve, Panel, draw_learning
from experiments.studies.kit.learning import first_step, rates_of, summarise
from experiments.studies.kit.study import Picture, Result
from experiments.studies.kit.training_runs import train

_SOLVED, _BATCH = 0.98, 50
_FLAGS = {
    "task": "adding",
    "variant": "hochreiter",
    "length": 100,
    "cell": "lstm",
    "hidden_size": 64,
    "max_lag": 110.0,
    "batch_size": _BATCH,
    "optimizer": "adam",
    "learning_rate": 3e-3,
    "clip_norm": 1.0,
    "stop_at": 0.995,
    "eval_every": 100,
    "gradient_every": 100,
    "steps_per_call": 50,
}


def measure(folder: Path, full: bool) -> Result:
    """Trains an LSTM, several seeds in the larger version, and takes the worst."""
    flags = _FLAGS | {"num_steps": 4500}
    seeds = range(3 if full else 1)
    runs = train(
        folder, {f"seed_{seed}": flags | {"seed": seed} for seed in seeds}, full=full
    )
    ends = [summarise(run) for run in runs.values()]
    solved = []
    for run in runs.values():
        steps, right = run.series("valid", "fraction_within")
        solved.append(first_step(steps, right >= _SOLVED))
    values = {
        "test_share_right": float(np.min([end.metric for end in ends])),
        "sequences_until_solved": float(np.max(solved)) * _BATCH,
        "initial_rate": float(np.min([end.initial_rate for end in ends])),
        "final_rate": float(np.min([end.final_rate for end in ends])),
    }
    task = next(iter(runs.values())).task
    guess = {"guess without memory": task["baseline_metric"]}
    right = [Curve(*run.series("valid", "fraction_within")) for run in runs.values()]
    rates = [Curve(*rates_of(run)) for run in runs.values()]
    figure = draw_learning(
        [
            Panel("share within 0.04", {"LSTM": right}, guess),
            Panel(
                "decay rate (nats per step)", {"LSTM": rates}, {"level gradient": 0.0}
            ),
        ]
    )
    picture = Picture(
        style.save(figure, folder / "hochreiter_adding.png"),
        "The first adding problem, 100 to 110 steps",
        "Above the share of sequences whose sum is right within 0.04, below the slope "
        "of the gradient.",
    )
    return Result(values, [picture])
