"""Norms of the gradient with respect to every carry, in the log domain.

Ordinary back-propagation in float32 reads exact zeros a few hundred steps back. Here
the cotangent is rescaled to unit size after each backward step and the logarithm of
its scale is carried beside it, as an unevaluated sum of two floats.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, PyTree
from seqjax.cell import Cell
from seqjax.tree import log_norm, norm_dtype
from seqjax.unroll import leading_shape, unroll


class LogNorms(NamedTuple):
    """Natural logarithms of gradient norms.

    Attributes:
        parts: Pytree like the carry, one `[time+1]` row per carry part.
        joint: Norm over all parts together, `[time+1]`.
    """

    parts: PyTree
    joint: Array


class _Scaled(NamedTuple):
    """The cotangent e^(high + low) · direction."""

    direction: PyTree
    high: Array
    low: Array


def log_gradient_norms(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    loss_fn: Callable[[PyTree], Array],
    carry: PyTree | None = None,
) -> LogNorms:
    """Measures how a loss reaches back to every carry of one sequence.

    Returns ln ‖∂L/∂carryₜ‖₂ for t = 0 … time, where carryₜ enters step t (0: the
    initial carry; time: the final one, which a loss on the outputs does not reach, so
    its entry is -inf). The gradient is the total one, through all later steps.
    With aₜ = ∂L/∂carryₜ and fₜ the step,  aₜ = (∂fₜ/∂carryₜ)ᵀ (aₜ₊₁, ∂L/∂yₜ);  each aₜ
    is kept as a unit vector and the logarithm of its length, so that lags far beyond
    the range of float32 are measured without loss.

    Args:
        cell: A cell with a step; for a stack the parts are those of all layers.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`; batch with `jax.vmap`.
        loss_fn: Maps the outputs, `[time, output]`, to a scalar. Any loss: on the last
            output, or on all.
        carry: Carry that enters the first step; `cell.initial_carry(params)` if None.

    Returns:
        Natural logarithms, float32 (float64 for float64 carries); -inf where a
        gradient is exactly zero.

    Raises:
        ValueError: If `xs` is not one sequence, or the cell has no single step.

    References:
        Bengio, Simard, Frasconi (1994), Learning long-term dependencies with gradient
        descent is difficult. Pascanu, Mikolov, Bengio (2013), On the difficulty of
        training recurrent neural networks.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.elman(1, 8, activation="identity")
        >>> params = cell.init(jax.random.key(0))
        >>> params = params._replace(recurrent_kernel=0.5 * params.recurrent_kernel)
        >>> norms = log_gradient_norms(
        ...     cell, params, jnp.zeros((4, 1)), lambda ys: jnp.sum(ys[-1])
        ... )
        >>> print(jnp.round(jnp.exp(jnp.diff(norms.joint[:-1])), 3))
        [2. 2. 2.]
    """
    batch_shape, _ = leading_shape(cell, xs)
    if batch_shape:
        raise ValueError(
            f"xs: expected one sequence, got batch axes {list(batch_shape)}; batch "
            "with jax.vmap(log_gradient_norms, ...) over xs"
        )
    carry = cell.initial_carry(params) if carry is None else carry
    entering, ys = _entering_carries(cell, params, xs, carry)
    output_gradients = jax.grad(loss_fn)(ys)

    def backward(later: _Scaled, step: tuple[PyTree, PyTree, PyTree]):
        carry, x, output_gradient = step
        earlier = _pull_back(
            lambda carry: cell.step(params, carry, x), carry, later, output_gradient
        )
        return _normalise(earlier)

    zeros = jax.tree.map(jnp.zeros_like, carry)
    last, last_row = _normalise(_nothing(zeros))
    _, rows = jax.lax.scan(
        backward, last, (entering, xs, output_gradients), reverse=True
    )
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), rows, last_row)


def _entering_carries(
    cell: Cell, params: PyTree, xs: PyTree, carry: PyTree
) -> tuple[PyTree, PyTree]:
    """The carry that enters each step, leaves `[time, ...]`, and the outputs."""
    carries, ys = unroll(cell, params, xs, carry, return_carries=True)
    entering = jax.tree.map(
        lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), carry, carries
    )
    return entering, ys


def _nothing(zeros: PyTree) -> _Scaled:
    dtype = norm_dtype(zeros)
    return _Scaled(zeros, jnp.asarray(-jnp.inf, dtype), jnp.zeros((), dtype))


def _pull_back(
    step: Callable[[PyTree], tuple[PyTree, PyTree]],
    carry: PyTree,
    later: _Scaled,
    output_gradient: PyTree,
) -> _Scaled:
    """The cotangent of one step's carry, at a scale common to both sources."""
    later_log = later.high + later.low
    source_log = log_norm(output_gradient).astype(later_log.dtype)
    from_later = later_log >= source_log
    high = jnp.where(from_later, later.high, source_log)
    low = jnp.where(from_later, later.low, 0)
    common = high + low
    # An exactly zero source stays out: 0 · e^(−common) may be 0 · inf.
    own = jnp.where(source_log == -jnp.inf, -jnp.inf, jnp.zeros_like(common))
    cotangent = (
        _times_exp(later.direction, later_log, common),
        _times_exp(output_gradient, own, common),
    )
    _, vjp = jax.vjp(step, carry)
    (pulled,) = vjp(cotangent)
    return _Scaled(pulled, high, low)


def _times_exp(tree: PyTree, logarithm: Array, common: Array) -> PyTree:
    """Takes tree · e^(logarithm − common), and zero for a logarithm of -inf."""
    empty = logarithm == -jnp.inf
    factor = jnp.where(empty, 0, jnp.exp(jnp.where(empty, 0, logarithm - common)))
    return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), tree)


def _normalise(cotangent: _Scaled) -> tuple[_Scaled, LogNorms]:
    """Moves the length of the direction into the logarithm; reports all norms."""
    direction, high, low = cotangent
    length = log_norm(direction).astype(high.dtype)
    row = LogNorms(
        parts=jax.tree.map(
            lambda part: high + (low + log_norm(part).astype(high.dtype)), direction
        ),
        joint=high + (low + length),
    )
    alive = length > -jnp.inf
    shrink = jnp.exp(-jnp.where(alive, length, 0))
    unit = jax.tree.map(lambda leaf: leaf * shrink.astype(leaf.dtype), direction)
    total, error = _two_sum(high, jnp.where(alive, length, 0))
    return (
        _Scaled(
            unit,
            jnp.where(alive, total, -jnp.inf),
            jnp.where(alive & (high > -jnp.inf), low + error, 0),
        ),
        row,
    )


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Adds two floats and returns what rounding lost as well (Knuth)."""
    total = a + b
    b_kept = total - a
    return total, (a - (total - b_kept)) + (b - b_kept)
