"""Gradient flow by lag: which distance in time the error of one output bridges.

Under a loss at every step the gradient norm at time t is dominated by the outputs just
after t, whatever the memory of the network. Following single outputs back separates
the two.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, ArrayLike, PyTree
from seqjax.cell import Cell
from seqjax.checks import check_positive
from seqjax.gradients.backward import (
    check_one_sequence,
    pull_back,
    run_forward,
    scan_adjoint,
)
from seqjax.gradients.direction import cosine_similarity
from seqjax.gradients.scaled import (
    LogNorms,
    Scaled,
    add,
    normalise,
    nothing,
    times_exp,
    with_source,
)
from seqjax.tree import log_norm
from seqjax.unroll import unroll

Loss = Callable[[PyTree], Array]


class GradientShares(NamedTuple):
    """The parameter gradient, sorted by the lag that its contributions bridge.

    Attributes:
        log_norms: ln ‖g_b‖ of each bucket's part of the gradient, `[buckets]`.
        projections: ⟨g_b, g⟩ / ‖g‖² with g = Σ g_b, `[buckets]`: sums to 1, single
            entries may be negative; zeros where g is exactly zero.
    """

    log_norms: Array
    projections: Array


class TruncationError(NamedTuple):
    """What truncated back-propagation makes of the parameter gradient.

    Attributes:
        relative_error: ‖g_window − g‖ / ‖g‖, `[windows]`.
        cosine: Of the angle between both, `[windows]`.
    """

    relative_error: Array
    cosine: Array


def log_lag_norms(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    loss_fn: Loss,
    anchors: ArrayLike,
    carry: PyTree | None = None,
) -> LogNorms:
    """Measures how the error of single outputs reaches back.

    ln ‖(∂y_k/∂carryₜ)ᵀ ∂L/∂y_k‖₂ for chosen outputs k and all t ≤ k: the part of the
    loss's gradient that enters at output k alone. By linearity the gradients that
    `log_gradient_norms` measures are the sums of these vectors over all k.

    Args:
        cell: A cell with a step.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`; batch with `jax.vmap`.
        loss_fn: Maps the outputs, `[time, output]`, to a scalar.
        anchors: The steps k, `[anchors]`; time and memory grow with their number.
        carry: Carry that enters the first step; `cell.initial_carry(params)` if None.

    Returns:
        Rows `[anchors, time+1]`; -inf for t > k.

    Raises:
        ValueError: If `xs` is not one sequence, or the cell has no single step.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.elman(1, 1, activation="identity")
        >>> params = cells.ElmanParams(jnp.ones((1, 1)), jnp.full((1, 1), 0.5),
        ...                            jnp.zeros(1))
        >>> norms = log_lag_norms(
        ...     cell, params, jnp.ones((4, 1)), jnp.sum, jnp.array([1, 3])
        ... )
        >>> print(jnp.round(jnp.exp(norms.joint), 4))
        [[0.25   0.5    0.     0.     0.    ]
         [0.0625 0.125  0.25   0.5    0.    ]]
    """
    carry, starts, output_gradients = _forward(cell, params, xs, loss_fn, carry)
    anchors = jnp.asarray(anchors)

    def backward(later: Scaled, carry: PyTree, x: PyTree, t: Array):
        def one(later: Scaled, anchor: Array) -> tuple[Scaled, LogNorms]:
            source = _source(output_gradients, t, anchor)
            return normalise(
                pull_back(lambda c: cell.step(params, c, x), carry, later, source)
            )

        return jax.vmap(one)(later, anchors)

    end = jax.vmap(lambda _: nothing(carry))(anchors)
    _, rows = scan_adjoint(cell, params, xs, starts, backward, end)
    _, final = jax.vmap(normalise)(end)
    rows = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), rows, final)
    return jax.tree.map(jnp.transpose, rows)


def align_lags(log_norms: Array, anchors: ArrayLike) -> Array:
    """Sorts rows over time by lag.

    Args:
        log_norms: A leaf of `log_lag_norms`, `[anchors, time+1]`.
        anchors: The steps k, `[anchors]`.

    Returns:
        `[anchors, time]`: entry l is the value at t = k − l, lag 0 being the carry
        that enters step k itself; NaN where that lies before the start.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.array([[-1.0, 0.0, -jnp.inf], [-2.0, -1.0, -jnp.inf]])
        >>> print(align_lags(rows, jnp.array([1, 1])))
        [[ 0. -1.]
         [-1. -2.]]
    """
    times = jnp.asarray(anchors)[:, None] - jnp.arange(log_norms.shape[1] - 1)[None]
    picked = jnp.take_along_axis(log_norms, jnp.maximum(times, 0), axis=1)
    return jnp.where(times >= 0, picked, jnp.nan)


def gradient_shares(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    loss_fn: Loss,
    *,
    edges: Sequence[int] = (1, 10, 100, 1000),
    anchors: ArrayLike | None = None,
    carry: PyTree | None = None,
) -> GradientShares:
    """Splits the gradient of the parameters by the lag it comes from.

    g = Σ_k Σ_{t≤k} (∂fₜ/∂params)ᵀ (contribution of output k), and a contribution has
    the lag k − t: 0 for what step k itself does to its output. Buckets are
    [0, edges₀), [edges₀, edges₁), …, [edges₋₁, ∞).

    Args:
        cell: A cell with a step.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`; batch with `jax.vmap`.
        loss_fn: Maps the outputs, `[time, output]`, to a scalar.
        edges: Lags, rising.
        anchors: The steps k whose errors are followed, `[anchors]`; time grows with
            their number times that of the steps. None follows all; a loss on the last
            output needs only `[time − 1]`.
        carry: Carry that enters the first step; `cell.initial_carry(params)` if None.

    Returns:
        Norms and projections; right where lags differ by more than float32 holds.

    Raises:
        ValueError: If `xs` is not one sequence, the cell has no single step, or the
            edges do not rise.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.elman(1, 1, activation="identity")
        >>> params = cells.ElmanParams(jnp.ones((1, 1)), jnp.full((1, 1), 0.5),
        ...                            jnp.zeros(1))
        >>> last = lambda ys: ys[-1, 0]
        >>> shares = gradient_shares(
        ...     cell, params, jnp.ones((50, 1)), last, edges=(1, 2, 3)
        ... )
        >>> print(jnp.round(shares.projections, 4))
        [0.5   0.25  0.125 0.125]
    """
    lags = [*edges]
    if lags != sorted(set(lags)) or not lags or lags[0] < 1:
        raise ValueError(f"edges: expected rising lags of at least 1, got {lags}")
    carry, starts, output_gradients = _forward(cell, params, xs, loss_fn, carry)
    num_steps = check_one_sequence(cell, xs)
    anchors = jnp.arange(num_steps) if anchors is None else jnp.asarray(anchors)

    def follow(buckets: Scaled, anchor: Array) -> tuple[Scaled, None]:
        def backward(state, carry: PyTree, x: PyTree, t: Array):
            later, buckets = state
            source = _source(output_gradients, t, anchor)
            later, source = with_source(later, source)
            _, vjp = jax.vjp(lambda p, c: cell.step(p, c, x), params, carry)
            contribution, pulled = vjp((later.direction, source))
            bucket = jnp.searchsorted(jnp.asarray(lags), anchor - t, side="right")
            own = jax.tree.map(lambda a: a[bucket], buckets)
            own = add(own, later._replace(direction=contribution))
            buckets = jax.tree.map(lambda a, b: a.at[bucket].set(b), buckets, own)
            return (normalise(later._replace(direction=pulled))[0], buckets), None

        state = nothing(carry), buckets
        (_, buckets), _ = scan_adjoint(cell, params, xs, starts, backward, state)
        return buckets, None

    empty = jax.vmap(lambda _: nothing(params))(jnp.arange(len(lags) + 1))
    buckets, _ = jax.lax.scan(follow, empty, anchors)
    return _shares(buckets)


def truncation_error(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    loss_fn: Loss,
    windows: Sequence[int],
    carry: PyTree | None = None,
) -> TruncationError:
    """Compares the parameter gradients of truncated and full back-propagation.

    Args:
        cell: Any cell.
        params: Parameters of `cell`.
        xs: Inputs, as `unroll` takes them.
        loss_fn: Maps the outputs to a scalar.
        windows: Steps between two cuts; see `unroll`. One program each.
        carry: Carry that enters the first step; `cell.initial_carry(params)` if None.

    Returns:
        Relative errors and cosines; an error of 1 and a cosine of 0 where nothing is
        left.

    Raises:
        ValueError: On a window below 1.

    References:
        Williams, Peng (1990), An efficient gradient-based algorithm for on-line
        training of recurrent network trajectories.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.gru(1, 2)
        >>> params = cell.init(jax.random.key(0))
        >>> error = truncation_error(cell, params, jnp.ones((6, 1)), jnp.sum, [2, 6])
        >>> print(error.relative_error[1], bool(error.relative_error[0] > 0))
        0.0 True
    """

    def gradient(window: int | None) -> PyTree:
        def loss(params: PyTree) -> Array:
            return loss_fn(unroll(cell, params, xs, carry, window=window)[1])

        return jax.grad(loss)(params)

    exact = gradient(None)
    errors, cosines = [], []
    for window in windows:
        check_positive(window=window)
        truncated = gradient(window)
        difference = log_norm(jax.tree.map(jnp.subtract, truncated, exact))
        empty = difference == -jnp.inf
        ratio = jnp.where(empty, -jnp.inf, difference - log_norm(exact))
        errors.append(jnp.exp(ratio))
        cosines.append(cosine_similarity(truncated, exact))
    return TruncationError(jnp.stack(errors), jnp.stack(cosines))


def _forward(
    cell: Cell, params: PyTree, xs: PyTree, loss_fn: Loss, carry: PyTree | None
) -> tuple[PyTree, PyTree, PyTree]:
    """Initial carry, carries at the starts of chunks, gradients of all outputs."""
    check_one_sequence(cell, xs)
    carry = cell.initial_carry(params) if carry is None else carry
    starts, ys = run_forward(cell, params, xs, carry, None)
    return carry, starts, jax.grad(loss_fn)(ys)


def _source(output_gradients: PyTree, t: Array, anchor: Array) -> PyTree:
    return jax.tree.map(lambda g: jnp.where(t == anchor, g[t], 0), output_gradients)


def _shares(buckets: Scaled) -> GradientShares:
    _, norms = jax.vmap(normalise)(buckets)
    logs = buckets.logarithm
    common = jnp.max(logs)
    parts = jax.vmap(times_exp, (0, 0, None))(buckets.direction, logs, common)
    total = jax.tree.map(lambda a: jnp.sum(a, axis=0), parts)
    length = log_norm(total)
    alive = length > -jnp.inf
    shrink = jnp.exp(-jnp.where(alive, length, 0))

    def project(part: PyTree) -> Array:
        products = jax.tree.map(
            lambda a, b: jnp.sum(
                (a * shrink.astype(a.dtype)) * (b * shrink.astype(a.dtype))
            ),
            part,
            total,
        )
        return jnp.sum(jnp.stack(jax.tree.leaves(products)))

    projections = jnp.where(alive, jax.vmap(project)(parts), 0)
    return GradientShares(norms.joint, projections)
