"""Lyapunov exponents of a cell driven by its inputs: growth rates at infinite lag."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, Key, PyTree
from seqjax.cell import Cell
from seqjax.checks import check_positive
from seqjax.gradients.backward import check_one_sequence
from seqjax.gradients.frames import (
    flat_step,
    log_diagonal,
    random_frame,
    ravel_carry,
    scan_sum,
)


class LyapunovExponents(NamedTuple):
    """Growth rates of small disturbances, nats per step.

    Attributes:
        exponents: Descending, `[k]`; -inf where a direction dies exactly.
        standard_errors: From the spread over blocks of time, `[k]`; 0 for -inf.
    """

    exponents: Array
    standard_errors: Array


def lyapunov_exponents(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    num_exponents: int | None = None,
    *,
    carry: PyTree | None = None,
    key: Key | None = None,
    burn_in: float = 0.1,
    qr_every: int = 1,
    num_blocks: int = 20,
) -> LyapunovExponents:
    """Measures the Lyapunov exponents of a cell along one sequence.

    λᵢ = lim 1/time · Σₜ ln |Rᵢᵢ(t)|,  Jₜ Qₜ = Qₜ₊₁ Rₜ,  Jₜ = ∂carryₜ₊₁ / ∂carryₜ

    An orthonormal frame of tangent vectors moves along with the carry (forward mode, no
    Jacobian is formed) and is made orthonormal again by QR. λ₁ is the rate at which
    gradients of a distant loss explode (> 0) or vanish (< 0) per step of lag; the sum
    of all is the mean ln |det J|, at any length.

    The first steps, a share of `burn_in` and what does not fill the blocks, are run but
    not counted. Memory is that of `num_blocks` rows, time that of k tangents and one QR
    factorisation of n by k per `qr_every` steps.

    Args:
        cell: A cell with a step.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`; batch with `jax.vmap`.
        num_exponents: k, how many from the largest down; one per entry of the carry if
            None.
        carry: Carry that enters the first step; `cell.initial_carry(params)` if None.
        key: Draws the frame at the start; a fixed one if None.
        burn_in: Share of the steps left out while the frame turns to its directions.
        qr_every: Steps between factorisations. More is faster, and loses exponents
            below λ₁ − 16/qr_every (36/qr_every in float64): the columns fall together
            to rounding.
        num_blocks: Blocks of time of equal length for the standard errors, which hold
            where a block is longer than the memory of the growth; the errors do not
            see the drift of order 1/time with which some exponents converge.

    Returns:
        Exponents and standard errors, nats per step, float32 (float64 for float64
        carries). An exponent that lies more than 16 nats (36 in float64) below the
        largest in every single step reads as rounding noise of about that size.

    Raises:
        ValueError: If `xs` is not one sequence, is too short for the blocks, or has
            fewer entries in its carry than exponents asked for.

    References:
        Benettin, Galgani, Giorgilli, Strelcyn (1980), Lyapunov characteristic exponents
        for smooth dynamical systems and for Hamiltonian systems. Geist, Parlitz,
        Lauterborn (1990), Comparison of different methods for computing Lyapunov
        exponents. Engelken, Wolf, Abbott (2023), Lyapunov spectra of chaotic recurrent
        neural networks. Vogt, Puelma Touzel, Shlizerman, Lajoie (2022), On Lyapunov
        exponents for RNNs.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.elman(1, 2, activation="identity")
        >>> params = cell.init(jax.random.key(0))
        >>> params = params._replace(recurrent_kernel=jnp.diag(jnp.array([0.5, 2.0])))
        >>> spectrum = lyapunov_exponents(cell, params, jnp.zeros((400, 1)))
        >>> print(jnp.round(spectrum.exponents, 5))
        [ 0.69315 -0.69315]
    """
    check_positive(num_blocks=num_blocks, qr_every=qr_every)
    num_steps = check_one_sequence(cell, xs)
    counted = num_steps - first_counted_step(num_steps, burn_in)
    size = counted // (num_blocks * qr_every) * qr_every
    rates = _block_rates(
        cell, params, xs, carry, key, num_exponents, num_blocks, size, qr_every
    )
    means = jnp.mean(rates, axis=0)
    alive = jnp.isfinite(means)
    deviations = jnp.where(alive[None], rates - jnp.where(alive, means, 0)[None], 0)
    variance = jnp.sum(jnp.square(deviations), axis=0) / max(num_blocks - 1, 1)
    errors = jnp.sqrt(variance / num_blocks) if num_blocks > 1 else jnp.nan * means
    order = jnp.argsort(means, descending=True)
    return LyapunovExponents(means[order], errors[order])


def finite_time_exponents(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    window: int,
    num_exponents: int | None = None,
    *,
    carry: PyTree | None = None,
    key: Key | None = None,
    burn_in: float = 0.1,
) -> Array:
    """Measures growth rates over windows of time: how uneven the way to the mean is.

    λᵢ(w) = 1/window · Σ ln |Rᵢᵢ(t)| over the steps t of window w. A mean rate of 0 with
    a wide distribution still explodes now and then.

    Args:
        cell: A cell with a step.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`; batch with `jax.vmap`.
        window: Steps per window.
        num_exponents: k; one per entry of the carry if None.
        carry: Carry that enters the first step; `cell.initial_carry(params)` if None.
        key: Draws the frame at the start; a fixed one if None.
        burn_in: Share of the steps left out at the start, at least; what does not fill
            a window is left out there too.

    Returns:
        Nats per step, `[num_windows, k]`, in order of time. A column follows one
        direction of the frame, so that its mean is that of `lyapunov_exponents` over
        the same steps; single windows need not descend.

    Raises:
        ValueError: As `lyapunov_exponents`, or if no window fits.

    References:
        Grassberger, Badii, Politi (1988), Scaling laws for invariant measures on
        hyperbolic and nonhyperbolic attractors.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.gru(1, 3)
        >>> params = cell.init(jax.random.key(0))
        >>> rates = finite_time_exponents(cell, params, jnp.ones((100, 1)), 30, 2)
        >>> rates.shape
        (3, 2)
    """
    check_positive(window=window)
    num_steps = check_one_sequence(cell, xs)
    num_windows = (num_steps - first_counted_step(num_steps, burn_in)) // window
    size = window if num_windows else 0
    return _block_rates(
        cell, params, xs, carry, key, num_exponents, num_windows, size, 1
    )


def mean_log_determinant(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    *,
    carry: PyTree | None = None,
    burn_in: float = 0.1,
) -> Array:
    """Measures how volumes of carries grow: the sum of all Lyapunov exponents.

    1/time · Σₜ ln |det Jₜ| = Σᵢ λᵢ  over the same steps, exactly and at any length: the
    check of every computation of a whole spectrum.

    Args:
        cell: A cell with a step.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`; batch with `jax.vmap`.
        carry: Carry that enters the first step; `cell.initial_carry(params)` if None.
        burn_in: Share of the steps left out at the start.

    Returns:
        Nats per step, a scalar; -inf if a step is singular.

    Raises:
        ValueError: If `xs` is not one sequence, or `burn_in` is not in [0, 1).

    References:
        Oseledets (1968), A multiplicative ergodic theorem.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.irnn(1, 2, gain=0.5)
        >>> params = cell.init(jax.random.key(0))._replace(bias=jnp.ones(2))
        >>> print(jnp.exp(mean_log_determinant(cell, params, jnp.zeros((10, 1)))))
        0.25
    """
    num_steps = check_one_sequence(cell, xs)
    skip = first_counted_step(num_steps, burn_in)
    carry = cell.initial_carry(params) if carry is None else carry

    def measure(carry: PyTree, x: PyTree) -> tuple[PyTree, Array]:
        step = flat_step(cell, params, carry, x)
        jacobian, carry = jax.jacfwd(step, has_aux=True)(ravel_carry(carry))
        return carry, jnp.linalg.slogdet(jacobian)[1]

    first, rest = _split_time(xs, skip)
    carry, _ = jax.lax.scan(
        lambda carry, x: (cell.step(params, carry, x)[0], None), carry, first
    )
    return scan_sum(measure, carry, rest)[1] / (num_steps - skip)


def kaplan_yorke_dimension(exponents: Array) -> Array:
    """Estimates the dimension of the attractor from its Lyapunov exponents.

    D = j + (λ₁ + … + λⱼ) / |λⱼ₊₁|,  j the largest number with λ₁ + … + λⱼ ≥ 0

    Args:
        exponents: Descending, `[n]`; all of them, or enough to bring the sum below 0.

    Returns:
        Scalar: 0 for a stable fixed point, and the number of exponents where no sum is
        negative (a lower bound, if more exponents were left out).

    References:
        Kaplan, Yorke (1979), Chaotic behavior of multidimensional difference equations.

    Example:
        >>> import jax.numpy as jnp
        >>> print(f"{kaplan_yorke_dimension(jnp.array([0.9056, 0.0, -14.5723])):.4f}")
        2.0621
    """
    sums = jnp.cumsum(exponents)
    whole = jnp.sum(sums >= 0)
    last = exponents.shape[0] - 1
    surplus = jnp.where(whole > 0, sums[jnp.maximum(whole - 1, 0)], 0)
    below = jnp.where(whole > last, -jnp.inf, exponents[jnp.minimum(whole, last)])
    return whole.astype(exponents.dtype) + surplus / jnp.abs(below)


def entropy_rate(exponents: Array) -> Array:
    """Bounds the information that a chaotic cell makes up: the sum of λᵢ > 0.

    By Pesin's identity it is the Kolmogorov–Sinai entropy where the attractor has a
    smooth measure along its unstable directions, and an upper bound of it anywhere.

    Args:
        exponents: `[n]`, any order; all positive ones must be there.

    Returns:
        Nats per step, a scalar.

    References:
        Pesin (1977), Characteristic Lyapunov exponents and smooth ergodic theory.
        Ruelle (1978), An inequality for the entropy of differentiable maps.

    Example:
        >>> import jax.numpy as jnp
        >>> print(entropy_rate(jnp.array([0.5, 0.25, -3.0])))
        0.75
    """
    return jnp.sum(jnp.maximum(exponents, 0))


def first_counted_step(num_steps: int, burn_in: float) -> int:
    """Returns the number of steps that a burn-in leaves out.

    Args:
        num_steps: Steps of the sequence.
        burn_in: Share, in [0, 1).

    Raises:
        ValueError: If `burn_in` is not in [0, 1), or leaves nothing.

    Example:
        >>> first_counted_step(200, 0.1)
        20
    """
    skip = round(burn_in * num_steps)
    if not 0 <= burn_in < 1 or skip == num_steps:
        raise ValueError(
            f"burn_in: expected a share in [0, 1) that leaves some of {num_steps} "
            f"steps, got {burn_in}"
        )
    return skip


def _block_rates(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    carry: PyTree | None,
    key: Key | None,
    num_exponents: int | None,
    num_blocks: int,
    size: int,
    qr_every: int,
) -> Array:
    """Mean ln |Rᵢᵢ| per step over the last blocks of `size` steps, `[blocks, k]`."""
    num_steps = jax.tree.leaves(xs)[0].shape[0]
    if num_blocks * size == 0:
        raise ValueError(
            f"xs: expected at least one factorisation per block after the burn-in, got "
            f"{num_steps} steps; give more steps, or fewer or shorter blocks"
        )
    carry = cell.initial_carry(params) if carry is None else carry
    frame = _start_frame(ravel_carry(carry), num_exponents, key)

    def push(state: tuple[PyTree, Array], x: PyTree):
        return _push(cell, params, state, x), None

    def factorise(state: tuple[PyTree, Array], xs: PyTree):
        (carry, frame), _ = jax.lax.scan(push, state, xs)
        frame, upper = jnp.linalg.qr(frame)
        return (carry, frame), log_diagonal(upper)

    def block(state: tuple[PyTree, Array], xs: PyTree):
        state, total = scan_sum(factorise, state, xs)
        return state, total / size

    burnt, counted = _split_time(xs, num_steps - num_blocks * size)
    state, _ = jax.lax.scan(factorise, (carry, frame), _fold_time(burnt, 1))
    return jax.lax.scan(
        block, state, _fold_time(_fold_time(counted, qr_every), size // qr_every)
    )[1]


def _start_frame(vector: Array, num_exponents: int | None, key: Key | None) -> Array:
    size = vector.shape[0]
    num_columns = size if num_exponents is None else num_exponents
    check_positive(num_exponents=num_columns)
    if num_columns > size:
        raise ValueError(
            f"num_exponents: expected at most {size}, the entries of the carry, got "
            f"{num_columns}"
        )
    key = jax.random.key(0) if key is None else key
    return random_frame(key, size, num_columns, vector.dtype)


def _push(
    cell: Cell, params: PyTree, state: tuple[PyTree, Array], x: PyTree
) -> tuple[PyTree, Array]:
    """One step of the carry and of every column of the frame."""
    carry, frame = state
    step = flat_step(cell, params, carry, x)
    vector = ravel_carry(carry)

    def column(tangent: Array) -> tuple[Array, PyTree]:
        _, pushed, carry = jax.jvp(step, (vector,), (tangent,), has_aux=True)
        return pushed, carry

    pushed, carry = jax.vmap(column, in_axes=1, out_axes=(1, None))(frame)
    return carry, pushed


def _split_time(xs: PyTree, skip: int) -> tuple[PyTree, PyTree]:
    return (
        jax.tree.map(lambda leaf: leaf[:skip], xs),
        jax.tree.map(lambda leaf: leaf[skip:], xs),
    )


def _fold_time(xs: PyTree, size: int) -> PyTree:
    """`[time, ...]` to `[time/size, size, ...]`."""
    return jax.tree.map(
        lambda leaf: leaf.reshape(leaf.shape[0] // size, size, *leaf.shape[1:]), xs
    )
