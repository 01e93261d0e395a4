"""Loops over stretches of time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, PyTree


def scan_chunks(
    fn: Callable[[PyTree, Array, int], tuple[PyTree, PyTree]],
    carry: PyTree,
    num_steps: int,
    chunk: int,
    *,
    reverse: bool,
) -> tuple[PyTree, PyTree]:
    """Scans a function over chunks of time, the last of which may be shorter.

    Args:
        fn: `(carry, first, size) -> (carry, outputs)` for the steps from `first` on;
            all leaves of the outputs have a leading axis.
        carry: Carry of the chunk that runs first.
        num_steps: Steps in all.
        chunk: Steps of a chunk.
        reverse: Runs the chunks from the last to the first.

    Returns:
        The final carry, and the outputs joined along their leading axis in the order
        of time.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> xs = jnp.arange(5)
        >>> def fn(total, first, size):
        ...     part = take_steps(xs, first, size)
        ...     return total + part.sum(), part[:1]
        >>> total, firsts = scan_chunks(fn, 0, 5, 2, reverse=False)
        >>> print(total, firsts)
        10 [0 2 4]
    """
    whole = num_steps // chunk
    rest = num_steps - whole * chunk

    def head(carry: PyTree) -> tuple[PyTree, PyTree]:
        firsts = jnp.arange(whole, dtype=jnp.int32) * chunk
        carry, outputs = jax.lax.scan(
            lambda carry, first: fn(carry, first, chunk), carry, firsts, reverse=reverse
        )
        return carry, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), outputs)

    def tail(carry: PyTree) -> tuple[PyTree, PyTree]:
        return fn(carry, jnp.asarray(whole * chunk, jnp.int32), rest)

    if rest == 0:
        return head(carry)
    if whole == 0:
        return tail(carry)
    if reverse:
        carry, late = tail(carry)
        carry, early = head(carry)
    else:
        carry, early = head(carry)
        carry, late = tail(carry)
    return carry, jax.tree.map(lambda *ab: jnp.concatenate(ab), early, late)


def take_steps(tree: PyTree, first: Array, size: int, axis: int = 0) -> PyTree:
    """Takes `size` steps from `first` on of leaves whose time axis is `axis`."""
    return jax.tree.map(
        lambda a: jax.lax.dynamic_slice_in_dim(a, first, size, axis), tree
    )


def put_steps(tree: PyTree, steps: PyTree, first: Array, axis: int) -> PyTree:
    """Writes `steps` over those from `first` on."""
    return jax.tree.map(
        lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b, first, axis), tree, steps
    )


def even_chunk(num_steps: int, chunk: int) -> int:
    """The largest divisor of `num_steps` in [chunk/2, chunk], or else `chunk`.

    Example:
        >>> even_chunk(1000, 31), even_chunk(997, 31), even_chunk(10, 31)
        (25, 31, 10)
    """
    chunk = max(1, min(num_steps, chunk))
    for size in range(chunk, (chunk + 1) // 2 - 1, -1):
        if num_steps % size == 0:
            return size
    return chunk
