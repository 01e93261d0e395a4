"""The product of Jacobians that every tutorial draws, with and without tanh."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.pictures import style
from experiments.pictures.curves import draw_log_norms
from experiments.studies.kit.study import Picture, Result
from seqjax import cells, initializers
from seqjax.cell import Cell
from seqjax.gradients import log_tangent_norms
from seqjax.gradients.jacobian import one_step_bound

_SIZE, _SHOWN = 128, 300
_GAINS = {"below": 0.9, "above": 1.1, "far_above": 1.5}
_DRIVE = 0.1  # standard deviation of what the input adds to a unit


def measure(folder: Path, full: bool) -> Result:
    """Follows ‖∂h_t/∂h_0 v‖ for orthogonal recurrent kernels times a gain."""
    num_networks, length = (16, 4000) if full else (4, 1000)
    curves: dict[str, np.ndarray] = {}
    values: dict[str, float] = {}
    for name, gain in _GAINS.items():
        for activation in ("identity", "tanh"):
            cell = _build(activation, gain)
            rows = _norms(cell, jax.random.key(0), num_networks, length)
            kind = "linear" if activation == "identity" else "tanh"
            curves[f"{kind}, gain {gain:g}"] = rows
            values[f"{kind}_{name}_slope"] = _late_slope(rows)
    np.savez(folder / "log_norms.npz", allow_pickle=False, **curves)
    params = _build("tanh", _GAINS["above"]).init(jax.random.key(0))
    bound = one_step_bound(params.recurrent_kernel, "tanh")
    values["bound_above"] = math.log(float(bound))
    figure = draw_log_norms(
        {name: rows[:, : _SHOWN + 1] for name, rows in curves.items()},
        label="norm of (∂hₜ/∂h₀) v",
    )
    picture = Picture(
        style.save(figure, folder / "exploding_product.png"),
        "Products of Jacobians against their length",
        "Without tanh the norm is gain to the power of the steps, below one or above. "
        "With tanh a gain of 1.1 still vanishes: units driven by noise sit where the "
        "slope of tanh is below one, and the bound ln(gain) only does not exclude an "
        "explosion.",
    )
    return Result(values, [picture])


def _build(activation: str, gain: float) -> Cell[Any, Any]:
    return cells.elman(
        1,
        _SIZE,
        activation=activation,
        kernel_init=jax.nn.initializers.normal(_DRIVE),
        recurrent_kernel_init=initializers.orthogonal(gain),
    )


def _norms(
    cell: Cell[Any, Any], key: jax.Array, num_networks: int, length: int
) -> np.ndarray:
    """Measures ln ‖∂h_t/∂h_0 v‖ for a random unit v, `[network, time+1]`."""

    def one(key: jax.Array) -> jax.Array:
        params_key, inputs_key, tangent_key = jax.random.split(key, 3)
        tangent = jax.random.normal(tangent_key, (_SIZE,))
        tangent = cells.ElmanCarry(tangent / jnp.linalg.norm(tangent))
        xs = jax.random.normal(inputs_key, (length, 1))
        return log_tangent_norms(cell, cell.init(params_key), xs, tangent).joint

    keys = jax.random.split(key, num_networks)
    return np.asarray(jax.jit(jax.vmap(one))(keys), float)


def _late_slope(rows: np.ndarray) -> float:
    """Takes the mean growth per step without the first fifth."""
    start = rows.shape[1] // 5
    return float(np.mean(rows[:, -1] - rows[:, start]) / (rows.shape[1] - 1 - start))
