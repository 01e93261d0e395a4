"""Frames of tangent vectors: a carry as one vector, QR factors, and their long sums."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, DType, Key, PyTree
from seqjax.cell import Cell
from seqjax.tree import norm_dtype


def ravel_carry(carry: PyTree) -> Array:
    """Writes the floating-point parts of a carry as one vector.

    Args:
        carry: Pytree of arrays; whole numbers are left out.

    Returns:
        `[n]`, float32 (float64 if a part is).

    Raises:
        ValueError: If a part is complex, or none is floating-point.

    Example:
        >>> import jax.numpy as jnp
        >>> print(ravel_carry({"count": jnp.array(7), "hidden": jnp.ones((1, 2))}))
        [1. 1.]
    """
    leaves = jax.tree.leaves(carry)
    if any(jnp.iscomplexobj(leaf) for leaf in leaves):
        raise ValueError(
            "carry: expected real parts, got a complex one; hold real and imaginary "
            "part as two arrays"
        )
    moving = [leaf for leaf in leaves if _is_floating(leaf)]
    if not moving:
        raise ValueError(
            "carry: expected a floating-point part, got none; there is nothing to "
            "differentiate"
        )
    dtype = norm_dtype(moving)
    return jnp.concatenate([jnp.ravel(leaf).astype(dtype) for leaf in moving])


def flat_step(
    cell: Cell, params: PyTree, carry: PyTree, x: PyTree
) -> Callable[[Array], tuple[Array, PyTree]]:
    """Writes one step as a function of the carry's vector.

    Args:
        cell: A cell with a step.
        params: Parameters of `cell`.
        carry: Structure of the carry, and its whole numbers.
        x: Input of the step.

    Returns:
        `vector -> (next vector, next carry)`, `[n]` as `ravel_carry` writes it.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.lstm(1, 2)
        >>> params = cell.init(jax.random.key(0))
        >>> step = flat_step(cell, params, cell.initial_carry(params), jnp.ones(1))
        >>> vector, carry = step(jnp.zeros(4))
        >>> bool(jnp.all(vector[2:] == carry.cell))
        True
    """

    def step(vector: Array) -> tuple[Array, PyTree]:
        new, _ = cell.step(params, _unravel(vector, carry), x)
        return ravel_carry(new), new

    return step


def random_frame(key: Key, size: int, num_columns: int, dtype: DType) -> Array:
    """Draws an orthonormal frame uniformly.

    Args:
        key: Typed key.
        size: Rows.
        num_columns: Columns, at most `size`.
        dtype: Floating-point type.

    Returns:
        `[size, num_columns]`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> frame = random_frame(jax.random.key(0), 3, 2, jnp.float32)
        >>> print(jnp.abs(jnp.round(frame.T @ frame, 5)))
        [[1. 0.]
         [0. 1.]]
    """
    return jnp.linalg.qr(jax.random.normal(key, (size, num_columns), dtype))[0]


def scan_sum(
    step: Callable[[PyTree, PyTree], tuple[PyTree, Array]],
    state: PyTree,
    xs: PyTree,
    *,
    reverse: bool = False,
) -> tuple[PyTree, Array]:
    """Scans, and adds up what the steps emit without the rounding of long sums.

    What rounding takes from the running sum is added to the next term (Kahan), so that
    1e5 terms cost no more precision than one.

    Args:
        step: `(state, x) -> (state, term)`, a scan body.
        state: State that enters the first step that runs.
        xs: Inputs, leaves `[time, ...]`.
        reverse: Runs from the last step to the first.

    Returns:
        The final state, and the sum of all terms, shaped like one.

    References:
        Kahan (1965), Further remarks on reducing truncation errors. Knuth (1997), The
        art of computer programming, volume 2 (the exact error of a sum).

    Example:
        >>> import jax.numpy as jnp
        >>> tenths = jnp.full(100_000, 0.1)
        >>> print(scan_sum(lambda state, x: (state, x), None, tenths)[1])
        10000.0
    """

    def add(running: PyTree, x: PyTree) -> tuple[PyTree, None]:
        state, total, lost = running
        state, term = step(state, x)
        term = term + lost
        new = total + term
        kept = new - total
        lost = (total - (new - kept)) + (term - kept)
        return (state, new, jnp.where(jnp.isfinite(new), lost, 0)), None

    first = jax.tree.map(lambda leaf: leaf[0], xs)
    zero = jax.tree.map(
        lambda term: jnp.zeros(term.shape, term.dtype),
        jax.eval_shape(step, state, first)[1],
    )
    running, _ = jax.lax.scan(add, (state, zero, zero), xs, reverse=reverse)
    return running[:2]


def log_diagonal(upper: Array) -> Array:
    """Takes ln |Rᵢᵢ|, `[columns]`, of a triangular factor; -inf for an exact zero.

    Example:
        >>> import jax.numpy as jnp
        >>> print(log_diagonal(jnp.array([[-1.0, 5.0], [0.0, 0.0]])))
        [  0. -inf]
    """
    return jnp.log(jnp.abs(jnp.diagonal(upper)))


def _is_floating(leaf: Array) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _unravel(vector: Array, carry: PyTree) -> PyTree:
    """The carry with its floating-point parts taken from the vector."""
    leaves, treedef = jax.tree.flatten(carry)
    start = 0
    for index, leaf in enumerate(leaves):
        if _is_floating(leaf):
            part = vector[start : start + leaf.size]
            leaves[index] = part.reshape(leaf.shape).astype(leaf.dtype)
            start += leaf.size
    return jax.tree.unflatten(treedef, leaves)
