"""Norms of a perturbation carried forward in time, in the log domain."""

import jax
import jax.numpy as jnp

from seqjax.array_types import PyTree
from seqjax.cell import Cell
from seqjax.gradients.backward import check_one_sequence
from seqjax.gradients.scaled import LogNorms, Scaled, normalise, scaled


def log_tangent_norms(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    tangent: PyTree,
    carry: PyTree | None = None,
) -> LogNorms:
    """Measures how a small change of the initial carry grows or dies out.

    Returns ln ‖∂carryₜ/∂carry₀ · v‖₂ for t = 0 … time, by forward mode: with vₜ the
    tangent, vₜ₊₁ = (∂fₜ/∂carryₜ) vₜ, rescaled to length 1 after each step. Over long
    spans its slope and that of `log_gradient_norms` per step of lag are both the
    largest Lyapunov exponent. Memory does not grow with time, beside the result.

    Args:
        cell: A cell with a step.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`; batch with `jax.vmap`.
        tangent: v, shaped like the carry.
        carry: Carry that enters the first step; `cell.initial_carry(params)` if None.

    Returns:
        Natural logarithms, rows `[time+1]`; -inf where the change is exactly zero.

    Raises:
        ValueError: If `xs` is not one sequence, or the cell has no single step.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.elman(1, 2, activation="identity")
        >>> params = cells.ElmanParams(jnp.zeros((1, 2)), 2 * jnp.eye(2), jnp.zeros(2))
        >>> tangent = cells.ElmanCarry(jnp.array([1.0, 0.0]))
        >>> norms = log_tangent_norms(cell, params, jnp.zeros((3, 1)), tangent)
        >>> print(jnp.exp(norms.joint))
        [1. 2. 4. 8.]
    """
    check_one_sequence(cell, xs)
    carry = cell.initial_carry(params) if carry is None else carry

    def forward(state: tuple[PyTree, Scaled], x: PyTree):
        carry, vector = state
        carry, pushed = jax.jvp(
            lambda c: cell.step(params, c, x)[0], (carry,), (vector.direction,)
        )
        unit, row = normalise(vector._replace(direction=pushed))
        return (carry, unit), row

    start = scaled(tangent)
    _, rows = jax.lax.scan(forward, (carry, start), xs)
    _, first = normalise(start)
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rows)
