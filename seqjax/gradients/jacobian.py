"""Jacobians of single steps, and the singular values of their long products."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, PyTree
from seqjax.cell import Cell
from seqjax.cells.elman import resolve_activation
from seqjax.checks import check_positive
from seqjax.gradients.backward import check_one_sequence
from seqjax.gradients.frames import (
    flat_step,
    log_diagonal,
    random_frame,
    ravel_carry,
    scan_sum,
)

SLOPE_RANGE = 20.0
SLOPE_SAMPLES = 4001


def carry_jacobians(
    cell: Cell, params: PyTree, xs: PyTree, carry: PyTree | None = None
) -> Array:
    """Measures how every carry moves the next one.

    Jₜ = ∂carryₜ₊₁ / ∂carryₜ,  t = 0 … time−1, of the carry written as one vector: its
    parts in the order of `jax.tree.leaves`, each flattened by rows. Whole numbers in a
    carry (counters) are left out. The product Jₖ₋₁ … Jₜ is ∂carryₖ / ∂carryₜ.

    Args:
        cell: A cell with a step.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`; batch with `jax.vmap`.
        carry: Carry that enters the first step; `cell.initial_carry(params)` if None.

    Returns:
        `[time, n, n]`, row: entry of the later carry, column: of the earlier one;
        float32 (float64 for float64 carries).

    Raises:
        ValueError: If `xs` is not one sequence or the carry is complex.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.irnn(1, 2, gain=0.5)
        >>> params = cell.init(jax.random.key(0))._replace(bias=jnp.ones(2))
        >>> print(carry_jacobians(cell, params, jnp.zeros((3, 1)))[2])
        [[0.5 0. ]
         [0.  0.5]]
    """
    check_one_sequence(cell, xs)
    carry = cell.initial_carry(params) if carry is None else carry

    def advance(carry: PyTree, x: PyTree) -> tuple[PyTree, Array]:
        step = flat_step(cell, params, carry, x)
        jacobian, new = jax.jacfwd(step, has_aux=True)(ravel_carry(carry))
        return new, jacobian

    return jax.lax.scan(advance, carry, xs)[1]


def log_singular_values(jacobians: Array, *, num_sweeps: int = 8) -> Array:
    """Measures ln σᵢ of the product J₍time₋₁₎ … J₀, which is never formed.

    Orthogonal iteration on PᵀP with P taken one factor at a time: an orthonormal frame
    goes forward, Jₜ Qₜ = Qₜ₊₁ Rₜ, and back through the transposes; ln σᵢ is the sum of
    ln |Rᵢᵢ| along the last way back. No length under- or overflows.

    A sweep, there and back, shrinks what is left of a neighbour by (σᵢ₊₁/σᵢ)². Values
    a factor of 2 apart are right to rounding after 8 sweeps. The worst case is a pair
    1/(4 num_sweeps) apart in ln σ: its values are still too close to each other, each
    by 1/(4e num_sweeps) — 0.01 by default — times tan² of the angle by which the random
    frame missed them at the start, which is about 1 and seldom 10. The sum of all ln σᵢ
    is right after any number of sweeps, and so are equal values. A direction that one
    step shrinks by more than 10⁷ (10¹⁵ in float64) against others it mixes with reads
    as rounding noise of that size, and not as smaller.

    Args:
        jacobians: `[time, n, n]` as `carry_jacobians` returns them.
        num_sweeps: Ways there and back. Each costs 2 time QR factorisations of n by n.

    Returns:
        `[n]`, descending; -inf for singular values that are exactly zero.

    Raises:
        ValueError: If `jacobians` is not a sequence of square matrices.

    References:
        Bojanczyk, Golub, Van Dooren (1992), The periodic Schur decomposition:
        algorithms and applications. Stewart (1997), On graded QR decompositions of
        products of matrices.

    Example:
        >>> import jax.numpy as jnp
        >>> halve = jnp.broadcast_to(jnp.diag(jnp.array([2.0, 0.5])), (1000, 2, 2))
        >>> print(log_singular_values(halve) / 1000)
        [ 0.6931472 -0.6931472]
    """
    if jacobians.ndim != 3 or jacobians.shape[1] != jacobians.shape[2]:
        raise ValueError(
            "jacobians: expected square matrices [time, n, n], got shape "
            f"{list(jacobians.shape)}; batch with jax.vmap"
        )
    check_positive(num_sweeps=num_sweeps)
    there = functools.partial(_push_frame, jacobians)
    back = functools.partial(_push_frame, jnp.swapaxes(jacobians, 1, 2), reverse=True)
    size, dtype = jacobians.shape[1], jacobians.dtype
    frame = random_frame(jax.random.key(0), size, size, dtype)

    def sweep(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        return back(there(state[0])[0])

    state = (frame, jnp.zeros(size, dtype))
    _, logarithms = jax.lax.fori_loop(0, num_sweeps, sweep, state)
    return jnp.sort(logarithms, descending=True)


def log_condition_number(log_values: Array) -> Array:
    """Measures ln κ = ln σ₁ − ln σₙ of a product: 0 is an isometry up to scale.

    Args:
        log_values: ln σᵢ, `[n]`, in any order.

    Returns:
        Scalar; inf where the smallest singular value is zero.

    Example:
        >>> import jax.numpy as jnp
        >>> print(log_condition_number(jnp.array([-200.0, -350.0])))
        150.0
    """
    smallest = jnp.min(log_values)
    singular = smallest == -jnp.inf
    return jnp.where(
        singular, jnp.inf, jnp.max(log_values) - jnp.where(singular, 0, smallest)
    )


def one_step_bound(
    recurrent_kernel: Array, activation: str | Callable[[Array], Array]
) -> Array:
    """Bounds the norm of one step's Jacobian of h′ = φ(x W + h R + b) for any state.

    ‖∂h′/∂h‖ ≤ σ₁(R) · max |φ′|

    Below 1 gradients must vanish, at that rate per step or faster; above 1 nothing
    follows.

    Args:
        recurrent_kernel: R, `[hidden, hidden]`.
        activation: φ, element-wise: a name as `elman` takes it, or a function, whose
            steepest slope is looked for between -20 and 20 in steps of 0.01.

    Returns:
        Scalar.

    References:
        Pascanu, Mikolov, Bengio (2013), On the difficulty of training recurrent neural
        networks.

    Example:
        >>> import jax.numpy as jnp
        >>> print(one_step_bound(jnp.diag(jnp.array([2.0, 3.0])), "sigmoid"))
        0.75
    """
    phi = resolve_activation(activation)
    dtype = recurrent_kernel.dtype
    points = jnp.linspace(-SLOPE_RANGE, SLOPE_RANGE, SLOPE_SAMPLES, dtype=dtype)
    slopes = jax.vmap(jax.grad(phi))(points)
    return jnp.linalg.norm(recurrent_kernel, 2) * jnp.max(jnp.abs(slopes))


def _push_frame(
    matrices: Array, frame: Array, *, reverse: bool = False
) -> tuple[Array, Array]:
    """The frame behind all matrices, and the sums of ln |Rᵢᵢ|."""

    def push(frame: Array, matrix: Array) -> tuple[Array, Array]:
        frame, upper = jnp.linalg.qr(matrix @ frame)
        return frame, log_diagonal(upper)

    return scan_sum(push, frame, matrices, reverse=reverse)
