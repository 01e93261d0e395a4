"""How far back the usual norms of a gradient can see in float32."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.pictures import style
from experiments.pictures.floors import draw_floors
from experiments.studies.kit.study import Picture, Result
from seqjax import cells
from seqjax.cell import Cell
from seqjax.cells.lstm import LSTMCarry, LSTMParams
from seqjax.gradients import log_gradient_norms
from seqjax.tree import log_norm

_SIZE, _LENGTH = 128, 1000
_LN10 = float(np.log(10))


def measure(folder: Path, full: bool) -> Result:
    """Counts the steps on which each kind of norm is not zero."""
    draw = jax.nn.initializers.normal(_SIZE**-0.5)
    cell = cells.lstm(
        _SIZE, _SIZE, kernel_init=draw, recurrent_kernel_init=draw, forget_bias=1.0
    )
    keys = jax.random.split(jax.random.key(0), 16 if full else 4)
    # One after the other: the cotangents of all steps are held at once.
    curves = jax.jit(
        lambda keys: jax.lax.map(lambda key: _three_norms(cell, key), keys)
    )
    norms = {name: np.asarray(rows)[:, :-1] for name, rows in curves(keys).items()}
    np.savez(folder / "norms.npz", allow_pickle=False, **norms)
    seen = {
        name: float(np.median(np.isfinite(rows).sum(1))) for name, rows in norms.items()
    }
    start = float(np.median(norms["renormalised"][:, 0])) / _LN10
    path = style.save(draw_floors(norms), folder / "float32_floor.png")
    values = {f"{name}_steps": count for name, count in seen.items()}
    caption = (
        "One gradient, three ways to take its norm. A float32 norm that squares its "
        f"entries reads exactly zero further back than {seen['naive']:.0f} of "
        f"{_LENGTH:,} steps; dividing by the largest entry first reaches "
        f"{seen['scaled']:.0f} steps, where the entries themselves are flushed to "
        "zero. The adjoint that is renormalised after every backward step, also in "
        "float32, has no floor. Lines are medians, bands the extremes over networks."
    )
    title = "The gradient that float32 does not see"
    return Result(
        values | {"log10_norm_at_start": start}, [Picture(path, title, caption)]
    )


def _three_norms(
    cell: Cell[LSTMParams, LSTMCarry], key: jax.Array
) -> dict[str, jax.Array]:
    """Takes ln ‖dL/d carryₜ‖ in three ways, `[time+1]` each."""
    params_key, inputs_key, direction_key = jax.random.split(key, 3)
    params = cell.init(params_key)
    xs = jax.random.normal(inputs_key, (_LENGTH, _SIZE))
    direction = jax.random.normal(direction_key, (_SIZE,))
    cotangents = _autodiff_cotangents(cell, params, xs, direction)
    sums = jax.tree.map(lambda leaf: jnp.sum(jnp.square(leaf), 1), cotangents)
    exact = log_gradient_norms(cell, params, xs, lambda ys: ys[-1] @ direction)
    return {
        "naive": jnp.log(jnp.sqrt(sums.hidden + sums.cell)),
        "scaled": jax.vmap(log_norm)(cotangents),
        "renormalised": exact.joint,
    }


def _autodiff_cotangents(
    cell: Cell[LSTMParams, LSTMCarry],
    params: LSTMParams,
    xs: jax.Array,
    direction: jax.Array,
) -> LSTMCarry:
    """Lets ordinary autodiff give dL/d carryₜ, leaves `[time+1, hidden]`.

    A zero is added to the carry that enters every step; the gradient with respect to
    that zero is the gradient with respect to the carry.
    """

    def loss(taps: LSTMCarry) -> jax.Array:
        def step(carry: LSTMCarry, inputs: tuple[jax.Array, LSTMCarry]):
            x, tap = inputs
            return cell.step(params, jax.tree.map(jnp.add, carry, tap), x)

        entering = jax.tree.map(lambda tap: tap[:-1], taps)
        _, ys = jax.lax.scan(step, cell.initial_carry(params), (xs, entering))
        return ys[-1] @ direction

    zeros = jnp.zeros((_LENGTH + 1, _SIZE))
    return jax.grad(loss)(LSTMCarry(zeros, zeros))
