"""Remedies for vanishing and exploding gradients: penalties, projections, clipping.

The penalties are added to a loss and differentiated with it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, Key, PyTree
from seqjax.cell import Cell
from seqjax.checks import check_positive
from seqjax.gradients.adjoint import carry_gradients
from seqjax.gradients.backward import check_one_sequence
from seqjax.gradients.direction import cosine_similarity
from seqjax.gradients.frames import flat_step, log_diagonal, random_frame, ravel_carry
from seqjax.gradients.lyapunov import first_counted_step
from seqjax.tree import norm
from seqjax.unroll import unroll


class ClipEffect(NamedTuple):
    """What clipping did to a gradient.

    Attributes:
        norm_before: ‖gradient‖.
        norm_after: ‖clipped gradient‖.
        cosine: Of the angle between the two; 1 for clipping by the global norm, 0 where
            one of them is exactly zero.
    """

    norm_before: Array
    norm_after: Array
    cosine: Array


def omega_penalty(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    loss_fn: Callable[[PyTree], Array],
    carry: PyTree | None = None,
    *,
    constant: bool = True,
) -> Array:
    """Penalises every step that changes the length of the error on its way back.

    Ω = Σₜ (‖Jₜᵀ aₜ₊₁‖ / ‖aₜ₊₁‖ − 1)²,  aₜ = ∂L/∂carryₜ,  Jₜ = ∂carryₜ₊₁/∂carryₜ,
    over the steps with aₜ₊₁ ≠ 0 (of an output's loss, those before that output).

    As in the paper, the gradient of Ω takes carryₜ and aₜ₊₁ for constants and goes
    through Jₜ alone: it asks the params of the step to keep lengths, and neither the
    network to seek other states nor the loss to send other errors. All params in Jₜ
    count, those inside an activation's slope as well, which the authors' code holds.

    Args:
        cell: A cell with a step.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`; batch with `jax.vmap`.
        loss_fn: Maps the outputs, `[time, output]`, to a scalar, L.
        carry: Carry that enters the first step; `cell.initial_carry(params)` if None.
        constant: False differentiates everything: the true gradient of Ω.

    Returns:
        Ω, a sum over steps; float32 or wider.

    Raises:
        ValueError: If `xs` is not one sequence, or the cell has no single step.

    References:
        Pascanu, Mikolov, Bengio (2013), On the difficulty of training recurrent neural
        networks.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.elman(1, 4, activation="identity")  # orthogonal kernel
        >>> params = cell.init(jax.random.key(0))
        >>> params = params._replace(recurrent_kernel=0.5 * params.recurrent_kernel)
        >>> penalty = omega_penalty(
        ...     cell, params, jnp.ones((5, 1)), lambda ys: jnp.sum(ys[-1])
        ... )
        >>> print(f"{penalty:.4f}")  # four steps of (1/2 − 1)²
        1.0000
    """
    start = cell.initial_carry(params) if carry is None else carry
    gradients = carry_gradients(cell, params, xs, loss_fn, start)
    carries, _ = unroll(cell, params, xs, start, return_carries=True)
    entering = jax.tree.map(
        lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), start, carries
    )
    later = jax.tree.map(lambda leaf: leaf[1:], gradients.direction)
    if constant:
        entering, later = jax.lax.stop_gradient((entering, later))

    def ratio(carry: PyTree, x: PyTree, later: PyTree) -> Array:
        _, pull = jax.vjp(lambda carry: cell.step(params, carry, x)[0], carry)
        return norm(pull(later)[0])

    changes = jax.vmap(ratio)(entering, xs, later) - 1
    alive = gradients.log_norm[1:] > -jnp.inf
    return jnp.sum(jnp.where(alive, jnp.square(changes), 0))


def flossing_penalty(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    num_exponents: int,
    target: float | Array = 0.0,
    *,
    carry: PyTree | None = None,
    key: Key | None = None,
    burn_in: float = 0.1,
) -> Array:
    """Pulls the largest Lyapunov exponents towards a target.

    mean over i ≤ k of (λᵢ − target)²,  λᵢ = mean over t of ln |Rᵢᵢ(t)|,
    Jₜ Qₜ = Qₜ₊₁ Rₜ

    Everything is differentiated: the carries, the Jacobians, and the QR factorisation
    at every step. The exponents are those of this sequence alone, of a few dozen steps
    in the paper; `lyapunov_exponents` measures those of long ones.

    Args:
        cell: A cell with a step, whose Jacobians have rank k or more: an exponent of
            -inf has no gradient.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`; batch with `jax.vmap`.
        num_exponents: k, at most the entries of the carry.
        target: Nats per step; a scalar or `[k]`.
        carry: Carry that enters the first step; `cell.initial_carry(params)` if None.
        key: Draws the frame at the start; a fixed one if None.
        burn_in: Share of the steps that are run but not counted.

    Returns:
        Scalar, float32 (float64 for float64 carries).

    Raises:
        ValueError: If `xs` is not one sequence, k exceeds the entries of the carry, or
            `burn_in` leaves no step.

    References:
        Engelken (2023), Gradient flossing: improving gradient descent through dynamic
        control of Jacobians.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.elman(1, 2, activation="identity")
        >>> params = cell.init(jax.random.key(0))
        >>> params = params._replace(recurrent_kernel=0.5 * params.recurrent_kernel)
        >>> penalty = flossing_penalty(cell, params, jnp.ones((20, 1)), 2)
        >>> print(f"{penalty:.4f} {jnp.square(jnp.log(0.5)):.4f}")
        0.4805 0.4805
    """
    check_positive(num_exponents=num_exponents)
    skip = first_counted_step(check_one_sequence(cell, xs), burn_in)
    carry = cell.initial_carry(params) if carry is None else carry
    vector = ravel_carry(carry)
    size = vector.shape[0]
    if num_exponents > size:
        raise ValueError(
            f"num_exponents: expected at most {size}, the entries of the carry, got "
            f"{num_exponents}"
        )
    key = jax.random.key(0) if key is None else key
    frame = random_frame(key, size, num_exponents, vector.dtype)

    def advance(state: tuple[PyTree, Array], x: PyTree):
        carry, frame = state
        step = flat_step(cell, params, carry, x)
        _, push, carry = jax.linearize(step, ravel_carry(carry), has_aux=True)
        frame, upper = jnp.linalg.qr(jax.vmap(push, in_axes=1, out_axes=1)(frame))
        return (carry, frame), log_diagonal(upper)

    _, rates = jax.lax.scan(advance, (carry, frame), xs)
    target = jnp.broadcast_to(jnp.asarray(target, rates.dtype), (num_exponents,))
    return jnp.mean(jnp.square(jnp.mean(rates[skip:], axis=0) - target))


def orthogonal_penalty(kernel: Array, *, num_blocks: int = 1) -> Array:
    """Measures how far a kernel is from orthogonal.

    Σ over blocks of ‖KᵀK − I‖²_F, with K Kᵀ in place of KᵀK for a wide block

    Args:
        kernel: `[hidden, num_blocks*units]`.
        num_blocks: Gate blocks side by side, each of which is taken alone: 4 for the
            recurrent kernel of an LSTM.

    Returns:
        Scalar; 0 for orthonormal columns (rows, for a wide block).

    Raises:
        ValueError: If `kernel` is not a matrix of that many blocks.

    References:
        Vorontsov, Trabelsi, Kadoury, Pal (2017), On orthogonality and learning
        recurrent networks with long term dependencies.

    Example:
        >>> import jax.numpy as jnp
        >>> print(orthogonal_penalty(2 * jnp.eye(3)))
        27.0
    """

    def penalty(block: Array) -> Array:
        tall = block if block.shape[0] >= block.shape[1] else block.T
        gram = tall.T @ tall - jnp.eye(tall.shape[1], dtype=tall.dtype)
        return jnp.sum(jnp.square(gram))

    return jnp.sum(jax.vmap(penalty)(_blocks(kernel, num_blocks)))


def limit_spectral_norm(kernel: Array, limit: float, *, num_blocks: int = 1) -> Array:
    """Projects a kernel onto those whose largest singular value is at most a limit.

    K = U diag(σ) Vᵀ  becomes  U diag(min(σ, limit)) Vᵀ,  the nearest one in the
    Frobenius norm, by an exact singular value decomposition. Apply it after an update.

    Args:
        kernel: `[hidden, num_blocks*units]`.
        limit: Largest singular value allowed, above 0.
        num_blocks: Gate blocks side by side, each of which is taken alone.

    Returns:
        Like `kernel`; a block within the limit keeps every bit.

    Raises:
        ValueError: If `kernel` is not a matrix of that many blocks, or `limit` is not
            above 0.

    References:
        Kanai, Fujiwara, Iwata (2017), Preventing gradient explosions in gated recurrent
        units.

    Example:
        >>> import jax.numpy as jnp
        >>> print(limit_spectral_norm(jnp.diag(jnp.asarray([3.0, 0.5])), 1.0))
        [[1.  0. ]
         [0.  0.5]]
    """
    if not limit > 0:
        raise ValueError(f"limit: expected a number above 0, got {limit}")

    def project(block: Array) -> Array:
        left, values, right = jnp.linalg.svd(block, full_matrices=False)
        limited = (left * jnp.minimum(values, limit)[None]) @ right
        return jnp.where(values[0] > limit, limited, block)

    projected = jax.vmap(project)(_blocks(kernel, num_blocks))
    return jnp.concatenate(list(projected), axis=1)


def clip_effect(gradients: PyTree, clipped: PyTree) -> ClipEffect:
    """Measures how much clipping shortens a gradient and how far it turns it.

    Args:
        gradients: Pytree of arrays.
        clipped: The same after clipping.

    Returns:
        Norms, scaled so that none over- or underflows, and the cosine.

    Example:
        >>> import jax.numpy as jnp
        >>> gradient = jnp.asarray([3.0, 4.0])
        >>> effect = clip_effect(gradient, jnp.clip(gradient, -3, 3))
        >>> print(*(f"{value:.4f}" for value in effect))
        5.0000 4.2426 0.9899
    """
    return ClipEffect(
        norm(gradients), norm(clipped), cosine_similarity(gradients, clipped)
    )


def _blocks(kernel: Array, num_blocks: int) -> Array:
    """`[num_blocks, hidden, units]`."""
    check_positive(num_blocks=num_blocks)
    if kernel.ndim != 2 or kernel.shape[1] % num_blocks:
        raise ValueError(
            f"kernel: expected a matrix of {num_blocks} blocks side by side, got shape "
            f"{list(kernel.shape)}"
        )
    return jnp.stack(jnp.split(kernel, num_blocks, axis=1))
