"""Scanning a cell over time: lengths, resets, both directions, truncation, memory.

Batches run the step under `vmap` inside one scan over time, so that a weight gradient
is one matrix product per chunk of steps and not one per example.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from seqjax.array_types import Array, ArrayLike, DType, Key, PyTree
from seqjax.cell import Cell
from seqjax.checks import check_choice, check_positive
from seqjax.running import Plan, Start, run
from seqjax.stepping import swap_time

METHODS = ("auto", "scan", "checkpoint", "two_level")
"""Ways to run over time; see `unroll`."""


def unroll(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    carry: PyTree | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    key: Key | None = None,
    window: int | None = None,
    method: str = "auto",
    return_carries: bool = False,
    probes: PyTree | None = None,
    product_dtype: DType | None = None,
) -> tuple[PyTree, PyTree]:
    """Runs a cell over a sequence, or over a batch of sequences.

    (carryₜ₊₁, yₜ) = step(params, carryₜ, xₜ),  t = 0 … time−1

    Args:
        cell: The cell; a stack or a bidirectional cell runs layer by layer.
        params: Parameters of `cell`.
        xs: Inputs, `[time, input]` or `[*batch, time, input]`, or a pytree of such
            arrays where the cell's x is one.
        carry: Carry that enters the first step, leaves `[*batch, ...]`;
            `cell.initial_carry(params)` if None.
        lengths: Real steps of each sequence, whole numbers, `[*batch]`; all if None.
            After the end the carry is held and outputs are zero; length 0 returns the
            carry that came in. Whatever stands in the padding, NaN too, reaches
            neither a value nor a gradient.
        resets: True where a step begins a new segment, `[*batch, time]`: it starts
            from `cell.initial_carry(params)`. Under `reverse` the segments are the
            same, each run from its last step to its first.
        reverse: Runs from the last step to the first; outputs stay in input order.
        key: Turns on dropout and zoneout, with masks drawn from it before the scan.
            None runs their deterministic test-time form.
        window: Truncates back-propagation: no gradient crosses the boundary between
            windows of this many steps, counted from the step that runs first (under
            `reverse`, from each sequence's last real one).
        method: How the backward pass gets what it needs. `auto`: for an affine cell
            (every cell of `CELLS` is one) the carry of every step is saved and the
            rest of a step is computed again, chunk by chunk; for others it is `scan`.
            `scan`: plain autodiff, which saves every intermediate. `checkpoint` saves
            the carry about every √time steps and computes the others again, in memory
            about √time and 1.2 to 1.4 times the time; `two_level` goes down to the
            cube root with one more forward pass.
        return_carries: Returns the carry after every step, leaves
            `[*batch, time, ...]`, in place of the final one.
        probes: From `make_probes`, for measuring gradients during training; see there.
        product_dtype: Rounds the operands of the products of an affine cell, in both
            passes, for instance to `jnp.bfloat16`; sums and carries keep their dtype.
            Not for claims about gradient norms: gradients are right to three digits.

    `jit`, `vmap`, `grad`, `jvp` and their compositions all work. `vmap` over `xs` with
    shared `params` is the batched call. Forward mode and the outer ones of several
    derivatives run plain autodiff of the scan.

    Returns:
        The final carry, leaves `[*batch, ...]` (or all carries), and the outputs,
        leaves `[*batch, time, ...]`. Carries keep the dtypes they came in with.

    Raises:
        ValueError: On shapes that do not fit each other, on lengths out of range
            (where they are known at trace time), and on an unknown `method`.

    References:
        Werbos (1990), Backpropagation through time: what it does and how to do it.
        Williams, Peng (1990), An efficient gradient-based algorithm for on-line
        training of recurrent network trajectories (truncation). Chen, Xu, Zhang,
        Guestrin (2016), Training deep nets with sublinear memory cost (checkpoints).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.gru(input_size=3, hidden_size=4)
        >>> params = cell.init(jax.random.key(0))
        >>> xs = jnp.ones((2, 5, 3))
        >>> carry, ys = unroll(cell, params, xs, lengths=jnp.array([5, 2]))
        >>> ys.shape, bool(jnp.all(ys[1, 2:] == 0))
        ((2, 5, 4), True)
    """
    check_choice("method", method, METHODS)
    batch_shape, num_steps = leading_shape(cell, xs)
    start = _start(cell, params, carry, probes, batch_shape, num_steps)
    flatten = functools.partial(_flatten_batch, batch_ndim=len(batch_shape))
    batched = bool(batch_shape)
    xs = jax.tree.map(jnp.asarray, flatten(xs))

    def per_step(tree: PyTree) -> PyTree:
        return swap_time(flatten(tree), batched)

    plan = Plan(
        num_steps=num_steps,
        batched=batched,
        mask=per_step(_length_mask(lengths, batch_shape, num_steps)),
        resets=per_step(_check_resets(resets, batch_shape, num_steps)),
        window=_check_window(window),
        method=method,
        return_carries=return_carries,
        reverse=reverse,
        product_dtype=product_dtype,
    )
    start = start._replace(carry=flatten(start.carry), probes=per_step(start.probes))
    results = run(plan, cell, params, start, xs, key)
    return _unflatten_batch(results, batch_shape)


def make_probes(
    cell: Cell, params: PyTree, batch_shape: tuple[int, ...], num_steps: int
) -> PyTree:
    """Makes the zeros whose gradient is the log norm of every carry gradient.

    Pass them to `unroll` and differentiate the loss with respect to them as well: the
    "gradient" of `probes[..., t]` is ln ‖∂L/∂carryₜ‖ of one sample and one carry part,
    where carryₜ enters step t (t = time: the final carry). The gradients of the
    parameters keep every bit, and the extra memory is the probes. Underflow is that of
    ordinary back-propagation: entries below about 1e-38 in float32 read -inf; use
    `seqjax.gradients.log_gradient_norms` beyond. Reverse mode only.

    Args:
        cell: The cell.
        params: Parameters of `cell`.
        batch_shape: Batch axes of the inputs, () for one sequence.
        num_steps: Steps of the inputs.

    Returns:
        Pytree like the carry with one float32 leaf `[*batch, time+1]` per carry part.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.elman(1, 1, activation="identity")
        >>> params = cells.ElmanParams(jnp.ones((1, 1)), jnp.full((1, 1), 0.5),
        ...                            jnp.zeros(1))
        >>> def loss(params, probes):
        ...     _, ys = unroll(cell, params, jnp.ones((3, 1)), probes=probes)
        ...     return ys[-1, 0]
        >>> probes = make_probes(cell, params, (), 3)
        >>> print(jnp.exp(jax.grad(loss, 1)(params, probes).hidden))
        [0.125 0.25  0.5   0.   ]
    """
    carry = jax.eval_shape(cell.initial_carry, params)
    shape = (*batch_shape, num_steps + 1)
    return jax.tree.map(lambda leaf: jnp.zeros(shape, jnp.float32), carry)


def last_output(cell: Cell, ys: PyTree, lengths: ArrayLike | None = None) -> PyTree:
    """Picks the output that has seen the whole sequence.

    For a plain cell y at the last real step; for a bidirectional cell the forward part
    at the last real step with the backward part at the first.

    Args:
        cell: The cell that made `ys`.
        ys: Outputs, leaves `[*batch, time, output]`.
        lengths: Real steps, `[*batch]`; all if None. Length 0 gives zeros.

    Returns:
        Leaves `[*batch, output]`.

    Raises:
        ValueError: If the two directions are mixed in `ys` beyond separation.

    Example:
        >>> import jax.numpy as jnp
        >>> from seqjax import cells
        >>> ys = jnp.arange(6.0).reshape(1, 3, 2)
        >>> print(last_output(cells.elman(1, 2), ys, jnp.array([2])))
        [[2. 3.]]
    """

    def first(y: Array) -> Array:
        return y[..., 0, :]

    def final(y: Array) -> Array:
        if lengths is None:
            return y[..., -1, :]
        count = jnp.asarray(lengths)[..., None]
        index = jnp.maximum(count - 1, 0)[..., None]
        picked = jnp.take_along_axis(y, index, axis=-2)[..., 0, :]
        return jnp.where(count > 0, picked, 0)

    if cell.last is None:
        return jax.tree.map(final, ys)
    return cell.last(ys, first, final)


def leading_shape(cell: Cell, xs: PyTree) -> tuple[tuple[int, ...], int]:
    """Splits the leading axes of a cell's inputs into batch axes and time.

    Args:
        cell: The cell; `cell.input_ndim` is the rank of one step's x.
        xs: Inputs, leaves `[*batch, time, ...]`.

    Returns:
        The batch shape and the number of steps.

    Raises:
        ValueError: If there is no time axis, or leaves disagree.

    Example:
        >>> import jax.numpy as jnp
        >>> from seqjax import cells
        >>> leading_shape(cells.gru(3, 4), jnp.zeros((2, 5, 3)))
        ((2,), 5)
    """
    shapes: list[tuple[int, ...]] = []

    def collect(ndim: int, part: PyTree) -> None:
        shapes.extend(_leading(leaf, ndim) for leaf in jax.tree.leaves(part))

    jax.tree.map(collect, cell.input_ndim, xs)
    if not shapes or len(set(shapes)) > 1:
        raise ValueError(
            "xs: expected leaves that share their leading [*batch, time] axes, got "
            f"leading axes {shapes}; stack all inputs with the same number of steps"
        )
    return shapes[0][:-1], shapes[0][-1]


def _leading(leaf: ArrayLike, ndim: int) -> tuple[int, ...]:
    shape = jnp.shape(leaf)
    if len(shape) <= ndim:
        raise ValueError(
            f"xs: expected [time, ...] or [*batch, time, ...] with {ndim} trailing "
            f"axes for one step's x, got shape {shape}; stack the steps along a time "
            "axis"
        )
    return shape[: len(shape) - ndim]


def _start(
    cell: Cell,
    params: PyTree,
    carry: PyTree | None,
    probes: PyTree | None,
    batch_shape: tuple[int, ...],
    num_steps: int,
) -> Start:
    initial = cell.initial_carry(params)
    expected = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((*batch_shape, *a.shape), a.dtype), initial
    )
    if carry is None:
        carry = jax.tree.map(
            lambda a, s: jnp.broadcast_to(a, s.shape), initial, expected
        )
    _check_like("carry", carry, expected)
    if probes is not None:
        shape = (*batch_shape, num_steps + 1)
        probe = jax.ShapeDtypeStruct(shape, jnp.float32)
        _check_like("probes", probes, jax.tree.map(lambda a: probe, initial))
    return Start(carry, initial, probes)


def _check_like(name: str, tree: PyTree, expected: PyTree) -> None:
    def describe(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda a: f"{jnp.result_type(a)}{list(jnp.shape(a))}", tree)

    came, wanted = describe(tree), describe(expected)
    if came != wanted or jax.tree.structure(came) != jax.tree.structure(wanted):
        raise ValueError(
            f"{name}: expected {wanted}, got {came}; pass leaves with the batch axes "
            "of xs in front, in the structure of cell.initial_carry(params)"
        )


def _length_mask(
    lengths: ArrayLike | None, batch_shape: tuple[int, ...], num_steps: int
) -> Array | None:
    """True at real steps, `[*batch, time]`."""
    if lengths is None:
        return None
    # NumPy where the values are known: jnp would stage them inside a surrounding jit.
    known = None if isinstance(lengths, Tracer) else np.asarray(lengths)
    shape = jnp.shape(lengths)
    dtype = jnp.result_type(lengths if known is None else known)
    if shape != batch_shape or not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(
            f"lengths: expected whole numbers of shape {list(batch_shape)}, got "
            f"{dtype}{list(shape)}; give one length per sequence"
        )
    if known is not None and np.any((known < 0) | (known > num_steps)):
        raise ValueError(
            f"lengths: expected 0 to {num_steps}, the number of steps of xs, got "
            f"{known.tolist()}"
        )
    steps = jnp.arange(num_steps).reshape((1,) * len(shape) + (-1,))
    return steps < jnp.asarray(lengths).astype(steps.dtype)[..., None]


def _check_resets(
    resets: ArrayLike | None, batch_shape: tuple[int, ...], num_steps: int
) -> Array | None:
    if resets is None:
        return None
    resets = jnp.asarray(resets)
    if resets.shape != (*batch_shape, num_steps) or resets.dtype != jnp.bool_:
        raise ValueError(
            f"resets: expected bool{[*batch_shape, num_steps]}, one per step, got "
            f"{resets.dtype}{list(resets.shape)}"
        )
    return resets


def _check_window(window: int | None) -> int | None:
    if window is not None:
        check_positive(window=window)
    return window


def _flatten_batch(tree: PyTree, batch_ndim: int) -> PyTree:
    if batch_ndim < 2:
        return tree
    return jax.tree.map(
        lambda a: a.reshape(math.prod(a.shape[:batch_ndim]), *a.shape[batch_ndim:]),
        tree,
    )


def _unflatten_batch(tree: PyTree, batch_shape: tuple[int, ...]) -> PyTree:
    if len(batch_shape) < 2:
        return tree
    return jax.tree.map(lambda a: a.reshape(*batch_shape, *a.shape[1:]), tree)
