"""The first word of a sentence, asked for at its end."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.common import files
from experiments.pictures import style
from experiments.pictures.training import Score, draw_scoreboard
from experiments.studies.kit.learning import Summary, summarise
from experiments.studies.kit.study import Picture, Result
from experiments.studies.kit.training_runs import train

_SOLVED = 0.95
_LABELS = {"elman": "tanh", "gru": "GRU", "lstm": "LSTM", "chrono": "LSTM, chrono"}
_FLAGS = {
    "task": "long_sentence",
    "hidden_size": 64,
    "batch_size": 50,
    "optimizer": "adam",
    "learning_rate": 2e-3,
    "clip_norm": 1.0,
    "num_steps": 401,
    "eval_every": 50,
    "eval_size": 500,
    "gradient_every": 50,
    "steps_per_call": 50,
}


def measure(folder: Path, full: bool) -> Result:
    """Trains every cell on sentences of every length."""
    fillers = (10, 30, 100, 300, 1000) if full else (10, 30, 100)
    runs = train(
        folder,
        {
            f"{name}_{count}": _FLAGS | _cell(name, count) | {"length": count + 2}
            for count in reversed(fillers)
            for name in _LABELS
        },
        full=full,
    )
    ends = {name: summarise(run) for name, run in runs.items()}
    values = {
        f"{name}_accuracy_{count}": ends[f"{name}_{count}"].metric
        for name in _LABELS
        for count in fillers
    }
    for name in _LABELS:
        values[f"{name}_initial_rate_100"] = ends[f"{name}_100"].initial_rate
        values[f"{name}_final_rate_100"] = ends[f"{name}_100"].final_rate
    scores = {name: end._asdict() for name, end in ends.items()}
    files.write_json(folder / "scores.json", scores)
    return Result(values | _reach(ends), [_picture(folder, ends, fillers)])


def _reach(ends: Mapping[str, Summary]) -> dict[str, float]:
    """Returns how far the first gradient fades from end to start, in nats.

    The most with which a run was solved, and the least with which one was not.
    """
    fades: dict[bool, list[float]] = {True: [], False: []}
    for name, end in ends.items():
        count = int(name.rpartition("_")[2])
        fades[end.metric >= _SOLVED].append(-end.initial_rate * count)
    return {
        "faded_most_and_solved": max(fades[True], default=math.nan),
        "faded_least_and_not_solved": min(fades[False], default=math.nan),
    }


def _cell(name: str, count: int) -> dict[str, Any]:
    """Returns the flags of a cell; chrono biases fit the sentence's length."""
    if name == "chrono":
        return {"cell": "lstm", "max_lag": float(count)}
    return {"cell": name}


def _picture(
    folder: Path, ends: dict[str, Summary], fillers: tuple[int, ...]
) -> Picture:
    scores = [
        Score(label, count, end.metric >= _SOLVED, end.initial_rate, end.final_rate)
        for name, label in _LABELS.items()
        for count in fillers
        for end in [ends[f"{name}_{count}"]]
    ]
    return Picture(
        style.save(draw_scoreboard(scores), folder / "long_sentence.png"),
        "Which cell still knows the first word",
        "Solved means that 95 % of new sentences are answered right after 400 training "
        "steps at most. Not the kind of cell decides here, but how much of the first "
        "gradients arrives at the first word: the slope times the length. In most runs "
        "that were solved the slope ends near zero or above.",
    )
