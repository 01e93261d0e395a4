"""Directories of runs whose models have seen nothing yet, made without any data."""

from pathlib import Path
from typing import Any

import jax

from experiments.common.launch import parse
from experiments.datasets.description import TaskDescription
from experiments.runs import task_file, training_state
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.factories import build_model
from experiments.runs.options import Options, format_flags
from experiments.runs.served import initial_state

SMALL = ("--hidden_size=6", "--batch_size=4", "--gradient_every=0", "--progress=none")
WORDS = ("<pad>", "<unk>", "<start>", "<end>", "我", "不", "喜欢", "这本书", "w1")


def describe(name: str, kind: str, **entries: Any) -> TaskDescription:
    """What task.json says of a task; of one input and two outputs if not told."""
    sizes: dict[str, Any] = {"input_size": 1, "output_size": 2}
    return TaskDescription(
        name=name,
        kind=kind,
        metric="mean_squared_error" if kind == "forecast" else "accuracy",
        baseline_loss=1.0,
        baseline_metric=0.5,
        **(sizes | entries),
    )


TEXT = describe(
    "word_order",
    "classify",
    input_size=0,
    classes=("praise", "blame"),
    tokens="words",
    vocabulary=WORDS,
)
SERIES = describe("random_walk", "forecast", output_size=1, horizon=3)
TAGS = describe("parity", "label")


def write_run(path: Path, task: TaskDescription, *flags: str) -> Path:
    """Writes the directory of a run of zero steps, and returns it."""
    options = parse(
        [*SMALL, f"--task={task.name}", f"--run_dir={path}", *flags], Options
    )
    model = build_model(options, task)
    state = jax.jit(lambda: initial_state(options, task, model))()
    path.mkdir()
    (path / "flags.txt").write_text(format_flags(options))
    task_file.write(path, task)
    training = training_state.start(state).evaluated(0, 1.0, better=True)
    Checkpoints(path / "checkpoints").save(0, training)
    return path
