"""The model of a finished or unfinished run, to be used without its data."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.training.train_state import TrainState

from experiments.common.launch import BAD_FLAG, Exit
from experiments.datasets.description import TaskDescription
from experiments.runs import run_dir, task_file, training_state
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.factories import build_model, build_optimizer, build_schedule
from experiments.runs.options import Options
from seqjax.array_types import PyTree


class Served(NamedTuple):
    """A trained model and what using it needs.

    Attributes:
      options: the flags of the run.
      task: what the model reads and answers.
      model: the Flax module.
      params: its parameters, NumPy arrays: `model.apply({"params": params}, inputs,
        lengths)`.
      step: number of updates that made them.
    """

    options: Options
    task: TaskDescription
    model: nn.Module
    params: PyTree
    step: int


def load_model(path: Path, checkpoint: str) -> Served:
    """Rebuilds the model of a run and restores its parameters.

    Args:
      path: directory of the run.
      checkpoint: `latest`, `best` on the validation set, or a step.

    Raises:
      Exit: there is no run, or no such checkpoint, or one of them is damaged.
    """
    options, task = run_dir.read_options(path), task_file.read(path)
    try:
        model = build_model(options, task)
        state_shape = jax.eval_shape(lambda: initial_state(options, task, model))
    except ValueError as error:
        raise Exit(BAD_FLAG, f"--run_dir={path}: {error}") from error
    step, training = training_state.choose(
        Checkpoints(path / "checkpoints"), state_shape, checkpoint
    )
    return Served(options, task, model, training.state.params, step)


def example_inputs(task: TaskDescription) -> tuple[PyTree, PyTree]:
    """Returns inputs of one sequence of one step, and its length, `[1]`.

    Both are pairs for a translation, of the source and of what is written.
    """
    lengths = jnp.ones(1, jnp.int32)
    if task.source_vocabulary:
        return (jnp.zeros((1, 1), jnp.int32),) * 2, (lengths,) * 2
    if task.vocabulary:
        return jnp.zeros((1, 1), jnp.int32), lengths
    return jnp.zeros((1, 1, task.input_size)), lengths


def initial_state(
    options: Options, task: TaskDescription, model: nn.Module
) -> TrainState:
    """Returns a state of the structure, shapes and dtypes of those of a run.

    Args:
      options: the flags of the run.
      task: what the model reads and answers.
      model: the Flax module.
    """
    return TrainState.create(
        apply_fn=model.apply,
        params=model.init(jax.random.key(0), *example_inputs(task))["params"],
        tx=build_optimizer(options, build_schedule(options)),
    )
