"""Gradients of one sequence in detail: by the output they come from, and by path.

Both are measured of the first sequence of a few subjects, since each makes a picture
of its own.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.out_dir import OutDir
from experiments.laboratory.subjects import Subject
from experiments.pictures import curves, style
from seqjax.array_types import Array, Key, PyTree
from seqjax.cell import Cell
from seqjax.cells import LSTMCarry
from seqjax.gradients import log_lag_norms, path_split

MAX_SUBJECTS = 4
_CELL_PATH, _HIDDEN_PATH = "path_cell", "path_hidden"


def projection(key: Key) -> Callable[[Array], Array]:
    """Returns the loss: each output on a random direction of its own, summed.

    Args:
      key: of the directions, which depend on it and on the shape of the outputs.
    """

    def project(ys: Array) -> Array:
        weights = jax.random.normal(key, ys.shape, ys.dtype)
        weights = weights / jnp.linalg.norm(weights, axis=-1, keepdims=True)
        return jnp.sum(weights * ys)

    return project


def measure_details(
    subject: Subject, key: Key, loss: str, num_anchors: int
) -> dict[str, np.ndarray]:
    """Measures the first sequence of one subject.

    Args:
      subject: what is measured.
      key: of the random directions.
      loss: `last` or `all`, the outputs that the loss sees.
      num_anchors: outputs whose gradients are followed one by one if it sees all.

    Returns:
      `lag_norms`, `[anchor, time+1]`, with `anchors`, and for an LSTM `path_cell` and
      `path_hidden`, `[time+1]`: ln of the norm of what came through c alone, and of
      what passed through h.

    Raises:
      ValueError: the cell cannot be measured so.
    """
    cell, xs = subject.cell, subject.xs[0]
    params = jax.tree.map(lambda leaf: leaf[0], subject.params)
    found: dict[str, np.ndarray] = {}
    if loss == "all" and num_anchors:
        anchors = spread(len(xs), num_anchors)
        norms = _lag_norms(cell, params, xs, key, jnp.asarray(anchors))
        found |= {"anchors": anchors, "lag_norms": np.asarray(norms)}
    if isinstance(jax.eval_shape(cell.initial_carry, params), LSTMCarry):
        paths = _paths(cell, loss, params, xs, key)
        found |= zip((_CELL_PATH, _HIDDEN_PATH), map(np.asarray, paths), strict=True)
    return found


def spread(num_steps: int, num_anchors: int) -> np.ndarray:
    """Returns steps at even distances, the last step among them, `[anchor]`."""
    ends = np.linspace(0, num_steps, min(num_anchors, num_steps) + 1)[1:]
    return np.rint(ends).astype(int) - 1


@functools.partial(jax.jit, static_argnums=0)
def _lag_norms(
    cell: Cell, params: PyTree, xs: Array, key: Key, anchors: Array
) -> Array:
    return log_lag_norms(cell, params, xs, projection(key), anchors).joint


@functools.partial(jax.jit, static_argnums=(0, 1))
def _paths(
    cell: Cell, loss: str, params: PyTree, xs: Array, key: Key
) -> tuple[Array, Array]:
    project = projection(key)

    def seen(ys: Array) -> Array:
        return project(ys if loss == "all" else ys[-1])

    split = path_split(cell, params, xs, seen)
    return split.log_cell, split.log_hidden


def draw_details(
    number: int, title: str, details: dict[str, np.ndarray], folder: OutDir
) -> None:
    """Draws what `measure_details` found.

    Args:
      number: of the subject; part of the files' names.
      title: of the subject.
      details: what was found.
      folder: where the pictures go.
    """
    figures = {}
    if "anchors" in details:
        figures["lags"] = curves.draw_lag_matrix(
            details["lag_norms"], details["anchors"]
        )
    if _CELL_PATH in details:
        # The loss does not see the final carry.
        paths = {
            "through c alone": details[_CELL_PATH][:-1],
            "through h between two steps": details[_HIDDEN_PATH][:-1],
        }
        figures["paths"] = curves.draw_paths(paths)
    for name, figure in figures.items():
        figure.axes[0].set_title(f"{title}, first sequence")
        style.save(figure, folder.path(f"_{name}_{number}.png"))
