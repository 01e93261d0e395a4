"""Gradients of a loss over all steps, exact and truncated, and how far others are off.

Every estimator, here and in `influence`, takes
`(cell, params, xs, targets, step_loss, carry)` for the loss
L = Σₜ step_loss(yₜ, targetₜ) of one sequence, and returns a tree like `params`.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, PyTree
from seqjax.cell import Cell
from seqjax.checks import check_positive
from seqjax.chunks import take_steps
from seqjax.gradients.backward import check_one_sequence
from seqjax.gradients.direction import cosine_similarity
from seqjax.tree import norm, norm_dtype
from seqjax.unroll import unroll

StepLoss: TypeAlias = Callable[[PyTree, PyTree], Array]
"""`(y, target) -> scalar`, the loss of one step."""


class BiasAndVariance(NamedTuple):
    """How far random estimates of a gradient g are off, on average and each.

    Attributes:
        relative_bias: ‖mean − g‖ / ‖g‖.
        standard_error: Of an unbiased mean, √(variance / keys) / ‖g‖: what
            `relative_bias` is by chance alone, in root mean square.
        relative_variance: E ‖estimate − mean‖² / ‖g‖².
        cosine: Of the angle between mean and g.
    """

    relative_bias: Array
    standard_error: Array
    relative_variance: Array
    cosine: Array


def bptt_gradient(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    targets: PyTree,
    step_loss: StepLoss,
    carry: PyTree | None = None,
) -> PyTree:
    """Back-propagates through all of time: the exact gradient.

    Args:
        cell: Any cell.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`; batch with `jax.vmap`.
        targets: Pytree, leaves `[time, ...]`.
        step_loss: `(y, target) -> scalar`.
        carry: Carry that enters the first step; if None `cell.initial_carry(params)`,
            which counts where it depends on the params.

    Returns:
        ∂L/∂params.

    Raises:
        ValueError: If `xs` is not one sequence.

    References:
        Werbos (1990), Backpropagation through time: what it does and how to do it.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.elman(1, 1, activation="identity")
        >>> params = cells.ElmanParams(jnp.ones((1, 1)), jnp.full((1, 1), 0.5),
        ...                            jnp.zeros(1))
        >>> xs = jnp.asarray([[1.0], [0.0], [0.0]])  # h is 1, λ, λ²
        >>> gradient = bptt_gradient(
        ...     cell, params, xs, jnp.asarray([0.0, 0.0, 1.0]), lambda y, w: w * y[0]
        ... )
        >>> print(gradient.recurrent_kernel)
        [[1.]]
    """
    check_one_sequence(cell, xs)

    def loss(params: PyTree) -> Array:
        _, ys = unroll(cell, params, xs, carry)
        return jnp.sum(jax.vmap(step_loss)(ys, targets))

    return jax.grad(loss)(params)


def truncated_gradient(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    targets: PyTree,
    step_loss: StepLoss,
    carry: PyTree | None = None,
    *,
    window: int,
) -> PyTree:
    """Back-propagates the loss of every step through the last `window` steps alone.

    Σₖ ∂Lₖ/∂params with no gradient into the carry that enters step k − window + 1. The
    window slides, so that what is lost depends on the lag and not on where a block
    begins; this costs `window` times as much as back-propagation. The cheap form in
    blocks is the gradient of `unroll(..., window=...)`. A window that reaches the first
    step sees the initial carry too; `window` = time is exact.

    Args:
        cell: A cell with a step.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`.
        targets: Pytree, leaves `[time, ...]`.
        step_loss: `(y, target) -> scalar`.
        carry: As in `bptt_gradient`.
        window: Steps that the loss of one step reaches, itself included.

    Returns:
        Tree like `params`.

    Raises:
        ValueError: If `xs` is not one sequence, or `window` is below 1.

    References:
        Williams, Peng (1990), An efficient gradient-based algorithm for on-line
        training of recurrent network trajectories.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.elman(1, 1, activation="identity")
        >>> params = cells.ElmanParams(jnp.ones((1, 1)), jnp.full((1, 1), 0.5),
        ...                            jnp.zeros(1))
        >>> gradient = truncated_gradient(
        ...     cell, params, jnp.ones((3, 1)), jnp.asarray([0.0, 0.0, 1.0]),
        ...     lambda y, w: w * y[0], window=2
        ... )
        >>> print(gradient.kernel)  # 1 + λ of 1 + λ + λ²
        [[1.5]]
    """
    check_positive(window=window)
    num_steps = check_one_sequence(cell, xs)
    window = min(window, num_steps)
    start = cell.initial_carry(params) if carry is None else carry
    carries, _ = unroll(cell, params, xs, start, return_carries=True)
    entering = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), start, carries)

    def loss(params: PyTree, last: Array) -> Array:
        # The first windows would begin before time 0: they run a full window from 0,
        # of which the steps after `last` do not count.
        first = jnp.maximum(last - (window - 1), 0)
        begin = cell.initial_carry(params) if carry is None else carry
        state = jax.tree.map(
            lambda a, all_: jnp.where(first == 0, a, all_[first]), begin, entering
        )
        _, ys = unroll(cell, params, take_steps(xs, first, window), state)
        y = jax.tree.map(lambda a: a[last - first], ys)
        return step_loss(y, jax.tree.map(lambda a: a[last], targets))

    def add(total: PyTree, last: Array) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, jax.grad(loss)(params, last)), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    return jax.lax.scan(add, zeros, jnp.arange(num_steps))[0]


def bias_and_variance(estimates: PyTree, exact: PyTree) -> BiasAndVariance:
    """Compares estimates of a gradient from many keys with the gradient itself.

    Unbiased where `relative_bias` is not more than about 3 `standard_error`.

    Args:
        estimates: Tree like the gradient, leaves `[keys, ...]`. One estimate alone is
            taken for one without noise.
        exact: The gradient; where it is exactly zero the results are absolute.

    Returns:
        Scalars, float32 or wider.

    Example:
        >>> import jax.numpy as jnp
        >>> estimates = jnp.asarray([[1.0, 2.0], [1.0, 0.0]])
        >>> result = bias_and_variance(estimates, jnp.asarray([1.0, 0.0]))
        >>> print(*(f"{value:.3f}" for value in result))
        1.000 1.000 2.000 0.707
    """
    dtype = norm_dtype(exact)
    length = norm(exact)
    scale = jnp.where(length == 0, 1, length)
    # Divided first, so that no square can underflow.
    estimates, exact = jax.tree.map(
        lambda leaf: leaf.astype(dtype) / scale, (estimates, exact)
    )
    num_keys = jax.tree.leaves(estimates)[0].shape[0]
    mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), estimates)
    deviations = jax.tree.map(lambda leaf, m: leaf - m[None], estimates, mean)
    variance = jnp.square(norm(deviations)) / max(num_keys - 1, 1)
    return BiasAndVariance(
        relative_bias=norm(jax.tree.map(jnp.subtract, mean, exact)),
        standard_error=jnp.sqrt(variance / num_keys),
        relative_variance=variance,
        cosine=cosine_similarity(mean, exact),
    )
