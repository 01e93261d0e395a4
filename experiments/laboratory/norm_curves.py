"""Gradient norms of cells over time: measured, summed up in a table, drawn."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.launch import BAD_FLAG, Exit
from experiments.common.out_dir import OutDir, print_table
from experiments.laboratory.norm_details import (
    MAX_SUBJECTS,
    draw_details,
    measure_details,
    projection,
)
from experiments.laboratory.subject_flags import InputFlags, SubjectFlags
from experiments.laboratory.subjects import Subject, build_subjects, split_keys
from experiments.pictures import curves, style
from experiments.runs.checkpoints import leaves_by_name
from seqjax.array_types import Array, Key, PyTree
from seqjax.cell import Cell
from seqjax.gradients import LogNorms, decay_rate, log_gradient_norms

_MAX_LINES = 8  # in one picture
_COLUMNS = {
    "cell": "cell",
    "init": "parameters",
    "time": "steps",
    "decay_rate": "rate, nats/step",
    "standard_error": "± s.e.",
    "half_life": "half-life, steps",
    "float32_steps": "steps seen in float32",
    "log_norm_start": "ln norm at t = 0",
    "dead_carries": "exact zeros",
}


class Curves(NamedTuple):
    """The curves of one subject.

    Attributes:
      labels: of the subject.
      title: of the subject.
      parts: ln ‖dL/d carryₜ‖ by part of the carry, `joint` last,
        `[sequence, time+1]`.
      details: of the first sequence; see `measure_details`.
    """

    labels: dict[str, Any]
    title: str
    parts: dict[str, np.ndarray]
    details: dict[str, np.ndarray]


def sequence_norms(
    cell: Cell,
    params: PyTree,
    xs: Array,
    key: Key,
    loss: str,
    carry: PyTree | None = None,
) -> LogNorms:
    """Measures one sequence.

    Args:
      cell: the cell.
      params: of the cell.
      xs: inputs, `[time, input]`.
      key: of the random direction.
      loss: `last` for w · y at the last step with a random unit vector w, `all` for
        the sum of such terms over all steps.
      carry: enters the first step; the cell's own if None.
    """
    return log_gradient_norms(cell, params, xs, projection(key), carry, outputs=loss)


@functools.partial(jax.jit, static_argnums=(0, 4))
def batch_norms(
    cell: Cell, params: PyTree, xs: Array, keys: Key, loss: str
) -> LogNorms:
    """Measures sequences with a network each; leaves `[sequence, time+1]`."""
    return jax.vmap(sequence_norms, (None, 0, 0, 0, None))(cell, params, xs, keys, loss)


def report(
    options: SubjectFlags,
    inputs: InputFlags,
    loss: str,
    num_anchors: int,
    folder: OutDir,
) -> list[dict[str, Any]]:
    """Measures all subjects, prints the table, and writes all files.

    Args:
      options: which cells.
      inputs: what drives them.
      loss: see `sequence_norms`.
      num_anchors: see `measure_details`.
      folder: where files go.

    Returns:
      The rows of the table, one per subject and part of the carry.
    """
    keys = jax.random.split(split_keys(inputs.seed).measure, inputs.num_sequences)
    measured = [
        measure(subject, keys, loss, num_anchors, detailed=number < MAX_SUBJECTS)
        for number, subject in enumerate(build_subjects(options, inputs))
    ]
    rows = [
        {"curve": str(number), **row}
        for number, each in enumerate(measured)
        for row in summarise(each)
    ]
    folder.write_rows(rows)
    folder.write_arrays(
        {
            f"{number}.{name}": values
            for number, each in enumerate(measured)
            for name, values in (each.parts | each.details).items()
        }
    )
    joint = [row for row in rows if row["part"] == "joint"]
    print_table(f"Gradient of the loss ({loss}), whole carry", _COLUMNS, joint)
    _draw(measured, folder)
    for number, each in enumerate(measured):
        draw_details(number, each.title, each.details, folder)
    return rows


_fit_rates = jax.jit(jax.vmap(decay_rate))


def measure(
    subject: Subject, keys: Key, loss: str, num_anchors: int, *, detailed: bool
) -> Curves:
    """Returns the curves of one subject.

    Args:
      subject: what is measured.
      keys: of the random directions, `[sequence]`.
      loss: see `sequence_norms`.
      num_anchors: see `measure_details`.
      detailed: whether to measure the first sequence in detail, too.

    Raises:
      Exit: the cell cannot be measured so.
    """
    try:
        norms = batch_norms(subject.cell, subject.params, subject.xs, keys, loss)
        details = (
            measure_details(subject, keys[0], loss, num_anchors) if detailed else {}
        )
    except ValueError as error:
        raise Exit(BAD_FLAG, f"--loss={loss}, {subject.title}: {error}") from error
    parts = {name: np.asarray(v) for name, v in leaves_by_name(norms.parts).items()}
    parts["joint"] = np.asarray(norms.joint)
    return Curves(subject.labels, subject.title, parts, details)


def summarise(measured: Curves) -> list[dict[str, Any]]:
    """Returns a row for every part of the carry.

    The rate is that of the median curve; `rate_low` and `rate_high` are the 10 and 90 %
    quantiles over the sequences' own rates.
    """
    rows = []
    for part, log_norms in measured.parts.items():
        median = curves.quantiles(log_norms)[1].astype(log_norms.dtype)
        fits = _fit_rates(jnp.asarray(np.concatenate([median[None], log_norms])))
        fit, own = (
            jax.tree.map(lambda x, at=at: np.asarray(x)[at], fits)
            for at in (0, slice(1, None))
        )
        low, _, high = curves.quantiles(own.rate[:, None])[:, 0].tolist()
        reached = curves.by_lag(log_norms)
        rows.append(
            measured.labels
            | {
                "part": part,
                "time": log_norms.shape[1] - 1,
                "num_sequences": log_norms.shape[0],
                "decay_rate": float(fit.rate),
                "standard_error": float(fit.standard_error),
                "half_life": float(fit.half_life),
                "rate_low": low,
                "rate_high": high,
                "float32_steps": _seen_steps(median),
                "log_norm_start": float(median[0]),
                "dead_carries": int(np.sum(np.isneginf(reached))),
            }
        )
    return rows


def _seen_steps(median: np.ndarray) -> int:
    """Counts the last carries whose norm a float32 sum of squares tells from zero."""
    by_lag = curves.by_lag(median)[0]
    below = np.flatnonzero(by_lag < style.NORM_FLOOR)
    return int(below[0]) if len(below) else len(by_lag)


def _draw(measured: list[Curves], folder: OutDir) -> None:
    """Draws the whole carry, and its parts where there are several, per length."""
    lengths = dict.fromkeys(each.labels["length"] for each in measured)
    for length in lengths:
        group = [each for each in measured if each.labels["length"] == length]
        for first in range(0, len(group), _MAX_LINES):
            chunk = group[first : first + _MAX_LINES]
            ending = f"_T{length}" + (f"_from_{first}" if first else "") + ".png"
            joint = {each.title: each.parts["joint"] for each in chunk}
            style.save(curves.draw_log_norms(joint), folder.path(ending))
            several = {e.title: e.parts for e in chunk if len(e.parts) > 2}
            if several:
                figure = curves.draw_carry_parts(several)
                style.save(figure, folder.path(f"_parts{ending}"))
