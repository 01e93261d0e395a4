"""Eigenvalues of recurrent kernels, gate by gate, and along the training of a run."""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from experiments.common.launch import Exit
from experiments.laboratory.subjects import Subject
from experiments.runs import loop, run_dir, training_state
from experiments.runs.checkpoints import Checkpoints
from seqjax.array_types import PyTree
from seqjax.cells.lru import eigenvalues

_GATES = {"gru": ("r", "z", "n"), "lstm": ("i", "f", "g", "o")}
_MAX_CHECKPOINTS = 7


def run_snapshots(path: Path) -> dict[str, PyTree]:
    """Returns the parameters of a run's cell as they were along its training.

    Args:
      path: the directory of the run.

    Returns:
      Those before training and those of its checkpoints, seven at most, by when they
      were. A checkpoint that is damaged is named on standard error, and left out.
    """
    options = dataclasses.replace(run_dir.read_options(path), host_devices=1)
    programs = loop.build(options)
    checkpoints = Checkpoints(path / "checkpoints")
    found = {"untrained": programs.initial_state().params["cell"]}
    for step in _some(checkpoints.steps()):
        try:
            training = training_state.restore_step(
                checkpoints, programs.state_shape, step
            )
        except Exit as error:
            print(f"{error}; left out of the eigenvalues", file=sys.stderr)
            continue
        found[f"step {step:,}"] = training.state.params["cell"]
    return found


def _some(steps: list[int]) -> list[int]:
    """Returns at most seven of the steps, the first and the last among them."""
    count = min(len(steps), _MAX_CHECKPOINTS)
    return [steps[i] for i in np.linspace(0, len(steps) - 1, count).round().astype(int)]


def first_network(subject: Subject) -> dict[str, PyTree]:
    """Returns the parameters of the first sequence's network, the one snapshot."""
    return {"": jax.tree.map(lambda leaf: leaf[0], subject.params)}


def kernel_eigenvalues(
    subject: Subject, snapshots: Mapping[str, PyTree]
) -> dict[str, np.ndarray]:
    """Computes the eigenvalues of every square block of the recurrent kernel.

    For `exprnn` that is the rotation that its parameters stand for. An `lru` has its
    eigenvalues, one of every conjugate pair, among its parameters.

    Args:
      subject: its cell.
      snapshots: parameters of the cell.

    Returns:
      Complex, `[snapshot, hidden]`, for an LRU `[snapshot, state]`, by name of the
      gate, "" where there is one block; empty for a cell without such blocks: layers,
      directions, a projected LSTM.
    """
    affine, gates = subject.cell.affine, _GATES.get(subject.labels["cell"], ("",))
    if affine is None:
        return {}
    if subject.labels["cell"] == "lru":
        return {"": np.stack([eigenvalues(p) for p in snapshots.values()])}
    kernels = [affine.split(p).recurrent_kernel for p in snapshots.values()]
    stacked = np.stack([np.asarray(kernel, float) for kernel in kernels])
    if stacked.shape[2] != len(gates) * stacked.shape[1]:
        return {}
    blocks = np.split(stacked, len(gates), axis=2)
    values = (np.linalg.eigvals(block).astype(complex) for block in blocks)
    return dict(zip(gates, values, strict=True))
