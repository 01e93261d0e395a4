"""Evaluating a recurrence for all steps at once, by Newton's method on the trajectory.

A recurrence need not be run step by step: its whole trajectory is the root of one
system of equations, and Newton's iteration solves it with a number of parallel stages
that grows with the logarithm of the time. How many iterations that takes is a property
of the dynamics: few where they forget, as many as there are steps where they are
chaotic.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from seqjax.array_types import Array, PyTree
from seqjax.cell import Cell
from seqjax.checks import check_positive
from seqjax.unroll import leading_shape


class NewtonResult(NamedTuple):
    """A trajectory, and how the iteration reached it.

    Attributes:
        carries: After every step, leaves `[time, ...]`.
        ys: Outputs, leaves `[time, ...]`.
        num_iterations: How many were made, a scalar, int32; the last of them only
            confirmed what the one before had found, if `converged`.
        errors: Largest change of an entry of a carry in each iteration,
            `[max_iterations]`; NaN for those not made, inf where a number overflowed.
        converged: Whether the last change was within the tolerance, a scalar bool. If
            not, `carries` and `ys` are right at the first `num_iterations` steps alone.
    """

    carries: PyTree
    ys: PyTree
    num_iterations: Array
    errors: Array
    converged: Array


def newton_unroll(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    carry: PyTree | None = None,
    *,
    max_iterations: int = 100,
    tolerance: float | None = None,
    diagonal: bool = False,
) -> NewtonResult:
    """Runs a cell over one sequence, in parallel over time.

    With the carries s₁ … s_T as one unknown and fₜ the step, an iteration linearises
    all steps at the present guess, and solves for the change δ of the guess

    δₜ₊₁ = Jₜ δₜ + rₜ,  rₜ = fₜ(sₜ) − sₜ₊₁,  Jₜ = ∂fₜ/∂s at sₜ,  δ₀ = 0

    by an associative scan: log₂ T stages, T n³ operations and T n² memory for a carry
    of n numbers. The error is squared in each iteration once it is small, and every
    iteration makes at least one more step exact. A step that is linear in the carry is
    solved by the first. The number of iterations grows as the largest Lyapunov exponent
    rises to 0, and without bound above it.

    `jit`, `vmap` and `grad` work. The gradient is that of the solution (the implicit
    function theorem), taken through one last iteration and not through the others.

    Args:
        cell: A cell with a step.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`; batch with `jax.vmap`.
        carry: Carry that enters the first step, and the first guess of all the others;
            `cell.initial_carry(params)` if None.
        max_iterations: Where to give up.
        tolerance: Change of a carry entry at which to stop. If None the square root of
            the rounding unit, 3e-4 in float32, whose square is a rounding.
        diagonal: Keeps the diagonal of each J alone, so that the scan needs T n
            operations and memory: more iterations of less work. Converges linearly,
            and is meant for units that hardly talk to each other. Its gradient is
            that of the approximation.

    Returns:
        The trajectory, and how it was reached; see `NewtonResult`.

    Raises:
        ValueError: If `xs` is not one sequence, the cell has no single step, or
            `max_iterations` is below 1.

    References:
        Lim, Zhu, Selfridge, Kasim (2024), Parallelizing non-linear sequential models
        over the sequence length. Gonzalez, Warrington, Smith, Linderman (2024),
        Towards scalable and stable parallelization of nonlinear RNNs (`diagonal`).
        Gonzalez, Kozachkov, Zoltowski, Clarkson, Linderman (2025), Predictability
        enables parallelization of nonlinear state space models.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells, unroll
        >>> cell = cells.gru(input_size=3, hidden_size=4)
        >>> params = cell.init(jax.random.key(0))
        >>> xs = jax.random.normal(jax.random.key(1), (20, 3))
        >>> result = jax.jit(newton_unroll, static_argnums=0)(cell, params, xs)
        >>> bool(result.converged), bool(result.num_iterations < 10)
        (True, True)
        >>> bool(jnp.allclose(result.ys, unroll(cell, params, xs)[1], atol=1e-6))
        True
    """
    check_positive(max_iterations=max_iterations)
    batch_shape, num_steps = leading_shape(cell, xs)
    if batch_shape:
        raise ValueError(
            f"xs: expected one sequence, got batch axes {list(batch_shape)}; batch "
            "with jax.vmap(newton_unroll, ...) over xs"
        )
    carry = cell.initial_carry(params) if carry is None else carry
    start, unravel = ravel_pytree(carry)
    limit = jnp.finfo(start.dtype).eps ** 0.5 if tolerance is None else tolerance

    def step(entering: Array, x: PyTree) -> Array:
        return ravel_pytree(cell.step(params, unravel(entering), x)[0])[0]

    def slope(entering: Array, x: PyTree) -> Array:
        jacobian = jax.jacfwd(step)(entering, x)
        return jnp.diagonal(jacobian) if diagonal else jacobian

    def change(guess: Array) -> Array:
        entering = _entering(start, guess)
        slopes = jax.lax.stop_gradient(jax.vmap(slope)(entering, xs))
        return _solve(slopes, jax.vmap(step)(entering, xs) - guess)

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        _, errors, count = state
        # NaN, in front of the first iteration, is not within the limit.
        within = errors[count - 1] <= limit
        return (count < max_iterations) & ~within

    def iterate(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        guess, errors, count = state
        delta = change(guess)
        finite = jnp.isfinite(delta)
        error = jnp.max(jnp.where(finite, jnp.abs(delta), jnp.inf), initial=0)
        # What overflowed waits until the exact steps have come near.
        guess = guess + jnp.where(finite, delta, 0)
        return guess, errors.at[count].set(error), count + 1

    guess = jnp.broadcast_to(start, (num_steps, *start.shape))
    errors = jnp.full(max_iterations, jnp.nan, start.dtype)
    first = (guess, errors, jnp.zeros((), jnp.int32))
    guess, errors, count = jax.lax.stop_gradient(
        jax.lax.while_loop(unfinished, iterate, jax.lax.stop_gradient(first))
    )
    solved = guess + change(guess)
    entering = jax.vmap(unravel)(_entering(start, solved))
    _, ys = jax.vmap(cell.step, (None, 0, 0))(params, entering, xs)
    converged = errors[count - 1] <= limit
    return NewtonResult(jax.vmap(unravel)(solved), ys, count, errors, converged)


def _entering(start: Array, carries: Array) -> Array:
    """The carry that enters each step, of those after each step, `[time, n]`."""
    return jnp.concatenate([start[None], carries[:-1]])


def _solve(slopes: Array, residuals: Array) -> Array:
    """Solves δₜ₊₁ = Jₜ δₜ + rₜ with δ₀ = 0.

    Args:
        slopes: J, `[time, n, n]`, or their diagonals, `[time, n]`.
        residuals: r, `[time, n]`.
    """

    def times(a: Array, b: Array) -> Array:
        return a * b if slopes.ndim == 2 else a @ b

    def apply(a: Array, v: Array) -> Array:
        return a * v if slopes.ndim == 2 else (a @ v[..., None])[..., 0]

    def then(
        earlier: tuple[Array, Array], later: tuple[Array, Array]
    ) -> tuple[Array, Array]:
        return times(later[0], earlier[0]), apply(later[0], earlier[1]) + later[1]

    return jax.lax.associative_scan(then, (slopes, residuals))[1]
