"""From flags to what is measured: a cell, parameters, and the inputs that drive it."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.common.launch import BAD_FLAG, Exit
from experiments.common.names import TASKS
from experiments.laboratory.subject_flags import (
    GAUSSIAN,
    InputFlags,
    NetworkFlags,
    SubjectFlags,
    takes_init,
)
from experiments.runs import loop, run_dir, training_state
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.flow import cell_inputs
from seqjax import tasks
from seqjax.array_types import Array, Key, PyTree
from seqjax.cell import Cell
from seqjax.cells import CELLS

_DEFAULT_LENGTH = 1000
_normal = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")


class Keys(NamedTuple):
    """One key per purpose; the same for every cell, so that all see the same inputs."""

    params: Key
    inputs: Key
    measure: Key


class Subject(NamedTuple):
    """What is measured at once.

    Attributes:
      labels: names it in tables: cell, init and length.
      cell: the cell.
      params: leaves `[sequence, ...]`, a network for each sequence.
      xs: inputs, `[sequence, time, input]`.
    """

    labels: dict[str, Any]
    cell: Cell
    params: PyTree
    xs: Array

    @property
    def title(self) -> str:
        """Cell and initialisation in a few words."""
        return ", ".join(filter(None, (self.labels["cell"], self.labels["init"])))


def split_keys(seed: int) -> Keys:
    """Returns the keys of a measurement."""
    return Keys(*jax.random.split(jax.random.key(seed), 3))


def build_subjects(options: SubjectFlags, inputs: InputFlags) -> Iterator[Subject]:
    """Yields everything that the flags ask for, one length after the other.

    Args:
      options: which cells, or which run.
      inputs: what drives them.

    Raises:
      Exit: the flags do not make a cell or a task, or there is no such checkpoint.
    """
    if options.run_dir:
        yield from _restore(options, inputs)
        return
    keys = split_keys(inputs.seed)
    for length in options.chosen_lengths(_DEFAULT_LENGTH):
        xs = draw_inputs(inputs, length, keys.inputs)
        for name, init in options.pairs():
            cell = make_cell(options, name, init, xs.shape[-1])
            param_keys = jax.random.split(keys.params, inputs.num_sequences)
            params = init_networks(cell, param_keys)
            params = scale_recurrence(params, options.gain, name)
            labels = {"cell": name, "init": init or "", "length": length}
            yield Subject(labels, cell, params, xs)


@functools.partial(jax.jit, static_argnums=0)
def init_networks(cell: Cell, keys: Key) -> PyTree:
    """Returns the initial parameters of a network per key, leaves `[key, ...]`."""
    return jax.vmap(cell.init)(keys)


def make_cell(
    options: NetworkFlags, name: str, init: str | None, input_size: int
) -> Cell:
    """Returns an untrained cell.

    Args:
      options: its size and options; those that it does not have are left out.
      name: of the cell.
      init: of its initialisation, or None for its own.
      input_size: features of a step.

    Raises:
      Exit: the options do not make a cell.
    """
    arguments: dict[str, Any] = {}
    if takes_init(name):
        arguments["init"] = init
    if init == GAUSSIAN:
        arguments = {
            "kernel_init": _normal,
            "recurrent_kernel_init": _normal,
            "bias_init": jax.nn.initializers.zeros,
        }
    if name == "lstm":
        arguments["forget_bias"] = options.forget_bias
    if name in ("gru", "lstm"):
        arguments["max_lag"] = options.max_lag
    try:
        return CELLS[name](input_size, options.hidden_size, **arguments)
    except ValueError as error:
        raise Exit(BAD_FLAG, str(error)) from error


def scale_recurrence(params: PyTree, gain: float | Array, name: str) -> PyTree:
    """Multiplies the recurrent kernel by the gain.

    Args:
      params: of a cell.
      gain: the factor; a plain 1 leaves any cell as it is.
      name: of the cell, for the error.

    Raises:
      Exit: the cell has no recurrent kernel.
    """
    if isinstance(gain, float) and gain == 1.0:
        return params
    if not hasattr(params, "recurrent_kernel"):
        raise Exit(BAD_FLAG, f"--gain: {name} has no recurrent kernel to multiply")
    return params._replace(recurrent_kernel=gain * params.recurrent_kernel)


def random_carry(cell: Cell, params: PyTree, key: Key) -> PyTree:
    """Returns the initial carry of one network with N(0, 1) added to all its numbers.

    Without inputs the usual start, zero, is a fixed point of most untrained cells, and
    what happens there says nothing of where their orbits go.

    Args:
      cell: the cell.
      params: of one network.
      key: consumed.
    """
    leaves, treedef = jax.tree.flatten(cell.initial_carry(params))
    leaf_keys = jax.random.split(key, len(leaves))
    moved = [
        leaf + jax.random.normal(leaf_key, leaf.shape, leaf.dtype)
        for leaf, leaf_key in zip(leaves, leaf_keys, strict=True)
    ]
    return jax.tree.unflatten(treedef, moved)


def draw_inputs(options: InputFlags, length: int, key: Key) -> Array:
    """Draws the inputs of all sequences, `[sequence, time, input]`.

    Args:
      options: what to draw.
      length: T of the task, or the number of steps.
      key: consumed.

    Raises:
      Exit: the task has no sequences of that length.
    """
    if options.inputs == "normal":
        shape = (options.num_sequences, length, options.input_size)
        return options.amplitude * jax.random.normal(key, shape)
    try:
        task = tasks.TASKS[options.inputs](length)
    except ValueError as error:
        raise Exit(BAD_FLAG, f"--inputs={options.inputs}: {error}") from error
    batch = tasks.sample_batch(task, key, options.num_sequences)
    return options.amplitude * batch.inputs


def _restore(options: SubjectFlags, inputs: InputFlags) -> Iterator[Subject]:
    """Yields the cell of a run, on validation sequences of its own task."""
    path = Path(options.run_dir)
    run_options = dataclasses.replace(
        run_dir.read_options(path), batch_size=inputs.num_sequences, host_devices=1
    )
    for length in options.chosen_lengths(run_options.length):
        if length != run_options.length and run_options.task not in TASKS:
            raise Exit(
                BAD_FLAG, f"--lengths={length}: the length of {run_options.task} is set"
            )
        programs = loop.build(dataclasses.replace(run_options, length=length))
        step, training = training_state.choose(
            Checkpoints(path / "checkpoints"), programs.state_shape, options.checkpoint
        )
        source = programs.source
        example = source.expand(source.probe_batch)
        params = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (inputs.num_sequences, *leaf.shape)),
            training.state.params["cell"],
        )
        labels = {
            "cell": run_options.cell,
            "init": f"{path.name}, step {step:,}",
            "length": length,
        }
        xs = cell_inputs(programs.model, training.state.params, example.inputs)
        yield Subject(labels, programs.model.cell, params, xs)
