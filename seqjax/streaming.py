"""One compiled step at a time, for inputs that arrive one by one."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqjax.array_types import PyTree
from seqjax.cell import Cell
from seqjax.unroll import leading_shape


def stream(
    cell: Cell, params: PyTree, x: PyTree
) -> tuple[PyTree, Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]]:
    """Compiles a step of a cell, ahead of the first input.

    The step takes over the buffers of the carry it is given, so that a stream of any
    length allocates nothing but its outputs; a carry that went in is used up.

    Args:
        cell: A cell with a single step; not a bidirectional one.
        params: Parameters of `cell`.
        x: An input, of which shapes and dtypes count: leaves `[input]`, or
            `[*batch, input]` for many streams side by side.

    Returns:
        The first carry, leaves `[*batch, ...]`, and `step(carry, x) -> (carry, y)`.

    Raises:
        ValueError: If the cell has no single step.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.gru(3, 4)
        >>> params = cell.init(jax.random.key(0))
        >>> carry, step = stream(cell, params, jnp.zeros(3))
        >>> for x in jnp.ones((5, 3)):
        ...     carry, y = step(carry, x)
        >>> y.shape
        (4,)
    """
    leading, last = leading_shape(cell, jax.tree.map(lambda a: a[None], x))
    batch_shape = (*leading, last)[1:]
    # A copy: a learned carry is itself a parameter, and must outlive the stream.
    carry = jax.tree.map(
        lambda a: jnp.array(jnp.broadcast_to(a, (*batch_shape, *a.shape)), copy=True),
        cell.initial_carry(params),
    )
    step = cell.step
    for _ in batch_shape:
        step = jax.vmap(step, in_axes=(None, 0, 0))
    compiled = jax.jit(step, donate_argnums=1).lower(params, carry, x).compile()
    return carry, lambda carry, x: compiled(params, carry, x)
