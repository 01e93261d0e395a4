"""Rates of an untrained cell on a grid of two parameters, in one compiled program."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.launch import BAD_FLAG, Exit
from experiments.common.out_dir import OutDir, print_table
from experiments.laboratory.norm_curves import sequence_norms
from experiments.laboratory.phase_axes import Axis
from experiments.laboratory.subject_flags import GAUSSIAN, InputFlags, NetworkFlags
from experiments.laboratory.subjects import (
    draw_inputs,
    init_networks,
    make_cell,
    random_carry,
    scale_recurrence,
    split_keys,
)
from experiments.pictures import phase, style
from seqjax.array_types import Array, Key, PyTree
from seqjax.cell import Cell
from seqjax.gradients import decay_rate
from seqjax.gradients.lyapunov import lyapunov_exponents
from seqjax.gradients.theory import critical_gain

_LABELS = {
    "exponent": "largest Lyapunov exponent (nats per step)",
    "rate": "decay rate of the gradient (nats per step)",
}
_CURVE_POINTS = 200


class Plan(NamedTuple):
    """What is mapped.

    Attributes:
      cell: name of the cell.
      init: name of its initialisation, or None for its own.
      length: steps, or T of the task.
      x: horizontal axis.
      y: vertical axis.
      measure: `exponent` or `rate`.
    """

    cell: str
    init: str | None
    length: int
    x: Axis
    y: Axis
    measure: str


class Point(NamedTuple):
    """One point of the grid, or all of them, `[point]`."""

    gain: Array
    amplitude: Array
    network: Array  # which of the stacked parameters


def report(
    options: NetworkFlags, inputs: InputFlags, plan: Plan, folder: OutDir
) -> np.ndarray:
    """Measures the grid, prints its range, and writes all files.

    Args:
      options: the cell's size and options.
      inputs: what drives it.
      plan: what is mapped.
      folder: where files go.

    Returns:
      Rates, `[row, column, sequence]`.
    """
    rates = measure(options, inputs, plan)
    median = np.sort(rates, axis=2)[:, :, rates.shape[2] // 2]
    critical = _critical(options, inputs, plan)
    arrays = {
        "x": np.array(plan.x.values),
        "y": np.array(plan.y.values),
        "rates": rates,
        "median": median,
    }
    if critical is not None:
        arrays |= {"critical_x": critical[0], "critical_y": critical[1]}
    folder.write_arrays(arrays)
    rows = [
        {plan.x.name: x, plan.y.name: y, plan.measure: float(rate)}
        for y, line in zip(plan.y.values, median, strict=True)
        for x, rate in zip(plan.x.values, line, strict=True)
    ]
    folder.write_rows(rows)
    figure = phase.draw_phase_diagram(
        plan.x.values,
        plan.y.values,
        median,
        x_label=plan.x.label,
        y_label=plan.y.label,
        label=_LABELS[plan.measure],
        critical=critical,
    )
    picture = style.save(figure, folder.path(".png"))
    _print_range(plan, median)
    print(f"picture: {picture}")
    return rates


def measure(options: NetworkFlags, inputs: InputFlags, plan: Plan) -> np.ndarray:
    """Returns the rate of every sequence at every point, `[row, column, sequence]`.

    All points share their random numbers, so that neighbours differ by the parameters
    alone.

    Args:
      options: the cell's size and options.
      inputs: what drives it.
      plan: what is mapped.

    Raises:
      Exit: the flags do not make a cell or a task, or the sequences are too short.
    """
    keys = split_keys(inputs.seed)
    unit = dataclasses.replace(inputs, amplitude=1.0)
    xs = draw_inputs(unit, plan.length, keys.inputs)
    biases = _axis_values(plan, "forget_bias", options.forget_bias)
    cells = [
        make_cell(
            dataclasses.replace(options, forget_bias=bias),
            plan.cell,
            plan.init,
            xs.shape[-1],
        )
        for bias in biases
    ]
    param_keys = jax.random.split(keys.params, inputs.num_sequences)
    networks = [init_networks(cell, param_keys) for cell in cells]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)
    sequence_keys = jax.random.split(keys.measure, inputs.num_sequences)
    points = _points(options, inputs, plan)
    try:
        rates = grid_rates(
            cells[0],
            plan.measure,
            plan.x.num_values,
            stacked,
            xs,
            sequence_keys,
            points,
        )
    except ValueError as error:
        raise Exit(BAD_FLAG, f"--length={plan.length}: {error}") from error
    return np.asarray(rates).reshape(plan.y.num_values, plan.x.num_values, -1)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def grid_rates(
    cell: Cell,
    what: str,
    batch_size: int,
    networks: PyTree,
    xs: Array,
    keys: Key,
    points: Point,
) -> Array:
    """Measures every sequence at every point, `[point, sequence]`.

    Args:
      cell: the cell; its parameters are all in `networks`.
      what: `exponent` or `rate`.
      batch_size: points that are measured at a time.
      networks: leaves `[network, sequence, ...]`.
      xs: inputs of amplitude 1, `[sequence, time, input]`.
      keys: what else is random in a sequence, `[sequence]`.
      points: leaves `[point]`.
    """

    def at_point(point: Point) -> Array:
        params = jax.tree.map(lambda leaf: leaf[point.network], networks)
        params = scale_recurrence(params, point.gain, "the cell")
        scaled = point.amplitude * xs
        return jax.vmap(sequence_rate, (None, None, 0, 0, 0))(
            cell, what, params, scaled, keys
        )

    return jax.lax.map(at_point, points, batch_size=batch_size)


def sequence_rate(cell: Cell, what: str, params: PyTree, xs: Array, key: Key) -> Array:
    """Measures one sequence, nats per step.

    Args:
      cell: the cell.
      what: `exponent` or `rate`.
      params: of the cell.
      xs: inputs, `[time, input]`.
      key: of the carry at the start, and of the direction that the loss looks at.
    """
    carry_key, direction_key = jax.random.split(key)
    carry = random_carry(cell, params, carry_key)
    if what == "exponent":
        return lyapunov_exponents(cell, params, xs, 1, carry=carry).exponents[0]
    norms = sequence_norms(cell, params, xs, direction_key, "last", carry)
    return decay_rate(norms.joint).rate


def _axis_values(plan: Plan, name: str, fixed: float | None) -> list[float | None]:
    """Returns the values of an axis, or the one of the flag where it is not an axis."""
    for axis in (plan.x, plan.y):
        if axis.name == name:
            return list(axis.values)
    return [fixed]


def _points(options: NetworkFlags, inputs: InputFlags, plan: Plan) -> Point:
    """Returns the grid, row after row."""
    grids: dict[str, Any] = {
        "gain": options.gain,
        "amplitude": inputs.amplitude,
        "forget_bias": 0,
    }
    columns, rows = np.meshgrid(_places(plan.x), _places(plan.y))
    grids |= {plan.x.name: columns, plan.y.name: rows}
    flat = {name: np.broadcast_to(g, rows.shape).ravel() for name, g in grids.items()}
    return Point(
        jnp.asarray(flat["gain"], jnp.float32),
        jnp.asarray(flat["amplitude"], jnp.float32),
        jnp.asarray(flat["forget_bias"], jnp.int32),
    )


def _places(axis: Axis) -> np.ndarray:
    """Returns the values of an axis; a forget bias is the number of its network."""
    numbered = axis.name == "forget_bias"
    return np.arange(axis.num_values) if numbered else np.array(axis.values)


def _critical(
    options: NetworkFlags, inputs: InputFlags, plan: Plan
) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the critical curve of mean-field theory, or None where it has none."""
    names = {plan.x.name, plan.y.name}
    known = (plan.cell, plan.init) == ("elman", GAUSSIAN)
    if not known or inputs.inputs != "normal" or names != {"gain", "amplitude"}:
        return None
    drive = plan.x if plan.x.name == "amplitude" else plan.y
    amplitudes = np.linspace(drive.low, drive.high, _CURVE_POINTS)
    gains = np.asarray(critical_gain(jnp.asarray(np.square(amplitudes))))
    return (gains, amplitudes) if drive is plan.y else (amplitudes, gains)


def _print_range(plan: Plan, median: np.ndarray) -> None:
    """Prints each row's range, and where on it the rate first exceeds zero."""
    rows = []
    for y, line in zip(plan.y.values, median, strict=True):
        above = np.flatnonzero(line > 0)
        first = plan.x.values[above[0]] if len(above) else np.nan
        rows.append(
            {
                plan.y.name: y,
                "low": float(np.min(line)),
                "high": float(np.max(line)),
                "first": first,
            }
        )
    columns = {
        plan.y.name: plan.y.name.replace("_", " "),
        "low": "smallest",
        "high": "largest",
        "first": f"above 0 from {plan.x.name.replace('_', ' ')}",
    }
    print_table(_LABELS[plan.measure], columns, rows)
