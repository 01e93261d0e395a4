"""Norms of the gradient with respect to every carry, in the log domain.

Ordinary back-propagation in float32 reads exact zeros a few hundred steps back. Here
the cotangent is rescaled to unit size after each backward step and the logarithm of
its scale is carried beside it.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, PyTree
from seqjax.cell import Cell
from seqjax.checks import check_choice
from seqjax.gradients.backward import (
    check_one_sequence,
    has_step,
    pull_back,
    run_forward,
    scan_adjoint,
)
from seqjax.gradients.layered import layered_log_norms
from seqjax.gradients.scaled import LogNorms, Scaled, normalise, nothing

OUTPUTS = ("all", "last")


class CarryGradients(NamedTuple):
    """Gradients with respect to every carry, as directions and lengths.

    Attributes:
        direction: Pytree like the carry, leaves `[time+1, ...]`; the parts of one
            time together have length 1 (0 for an exact zero).
        log_norm: ln of the length, `[time+1]`.
    """

    direction: PyTree
    log_norm: Array


def log_gradient_norms(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    loss_fn: Callable[[PyTree], Array],
    carry: PyTree | None = None,
    *,
    outputs: str = "all",
) -> LogNorms:
    """Measures how a loss reaches back to every carry of one sequence.

    Returns ln ‖∂L/∂carryₜ‖₂ for t = 0 … time, where carryₜ enters step t (0: the
    initial carry; time: the final one, which a loss on the outputs does not reach, so
    its entry is -inf). The gradient is the total one, through all later steps.
    With aₜ = ∂L/∂carryₜ and fₜ the step,  aₜ = (∂fₜ/∂carryₜ)ᵀ (aₜ₊₁, ∂L/∂yₜ);  each aₜ
    is kept as a unit vector and the logarithm of its length, so that lags far beyond
    the range of float32 are measured without loss. Carries are kept at every √time
    steps and computed again in between: beside inputs, outputs and results, memory
    grows with √time.

    A cell without a single step (`bidirectional`, and what contains it) is measured
    one run after another, and keeps all of its carries; a cell that runs backwards
    has its initial carry at `time`, its final one at 0.

    Args:
        cell: Any cell; for a stack the parts are those of all layers.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`; batch with `jax.vmap`.
        loss_fn: Maps the outputs, `[time, output]`, to a scalar. Any loss: on the last
            output, or on all.
        carry: Carry that enters the first step; `cell.initial_carry(params)` if None.
        outputs: `all`, or `last` for a `loss_fn` of the last output alone, `[output]`:
            then no outputs are kept.

    Returns:
        Natural logarithms, float32 (float64 for float64 carries); -inf where a
        gradient is exactly zero.

    Raises:
        ValueError: If `xs` is not one sequence or has no step, or `outputs` is unknown
            or not `all` for a cell without a step.

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
    check_choice("outputs", outputs, OUTPUTS)
    check_one_sequence(cell, xs)
    if outputs == "all" and not has_step(cell, params, xs):
        return layered_log_norms(cell, params, xs, loss_fn, carry)
    return _measure(cell, params, xs, loss_fn, carry, outputs, lambda _, row: row)


def carry_gradients(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    loss_fn: Callable[[PyTree], Array],
    carry: PyTree | None = None,
) -> CarryGradients:
    """Returns the gradients themselves where `log_gradient_norms` gives their norms.

    ∂L/∂carryₜ = e^(log_normₜ) · directionₜ, for angles, ranks and shares of units.

    Args:
        cell: A cell with a step.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`.
        loss_fn: Maps the outputs, `[time, output]`, to a scalar.
        carry: Carry that enters the first step; `cell.initial_carry(params)` if None.

    Returns:
        Directions and logarithms; memory grows with time · hidden.

    Raises:
        ValueError: If `xs` is not one sequence, or the cell has no single step.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.gru(1, 2)
        >>> gradients = carry_gradients(
        ...     cell, cell.init(jax.random.key(0)), jnp.ones((3, 1)), jnp.sum
        ... )
        >>> print(jnp.round(jnp.linalg.norm(gradients.direction.hidden, axis=1), 5))
        [1. 1. 1. 0.]
    """

    def keep(vector: Scaled, row: LogNorms) -> CarryGradients:
        return CarryGradients(vector.direction, row.joint)

    return _measure(cell, params, xs, loss_fn, carry, "all", keep)


def _measure(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    loss_fn: Callable[[PyTree], Array],
    carry: PyTree | None,
    outputs: str,
    emit: Callable[[Scaled, LogNorms], PyTree],
) -> PyTree:
    last = check_one_sequence(cell, xs) - 1
    carry = cell.initial_carry(params) if carry is None else carry
    starts, ys = run_forward(cell, params, xs, carry, None if outputs == "all" else 1)
    if outputs == "last":
        ys = jax.tree.map(lambda y: y[-1], ys)
    output_gradients = jax.grad(loss_fn)(ys)

    def source(t: Array) -> PyTree:
        if outputs == "all":
            return jax.tree.map(lambda g: g[t], output_gradients)
        return jax.tree.map(lambda g: jnp.where(t == last, g, 0), output_gradients)

    def backward(later: Scaled, carry: PyTree, x: PyTree, t: Array):
        step = functools.partial(cell.step, params)
        unit, row = normalise(pull_back(lambda c: step(c, x), carry, later, source(t)))
        return unit, emit(unit, row)

    end = nothing(carry)
    _, rows = scan_adjoint(cell, params, xs, starts, backward, end)
    final = emit(*normalise(end))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), rows, final)
