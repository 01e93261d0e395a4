"""Several sequences in one row: what a model needs to tell them apart."""

from typing import NamedTuple

import jax.numpy as jnp

from seqjax.array_types import Array
from seqjax.losses import length_mask


class Packing(NamedTuple):
    """Where sequences stand that share rows.

    Attributes:
        resets: True where a sequence begins, or what is left of a row behind the last
            one, `[rows, time]`.
        rows: The row of each sequence, `[sequences]`, integers.
        starts: The step of its row where it begins, `[sequences]`, integers.
    """

    resets: Array
    rows: Array
    starts: Array


def unpack(ys: Array, packing: Packing, lengths: Array, num_steps: int) -> Array:
    """Gives every sequence a row of its own.

    Args:
        ys: What stands in the rows, `[rows, time, *feature]`.
        packing: Where the sequences are.
        lengths: Their steps, `[sequences]`.
        num_steps: Steps of the result, at least the longest length.

    Returns:
        `[sequences, num_steps, *feature]`, zero behind the end of each sequence.

    Example:
        >>> import jax.numpy as jnp
        >>> ys = jnp.asarray([[1.0, 2.0, 3.0, 4.0]])
        >>> packing = Packing(
        ...     resets=jnp.asarray([[True, False, False, True]]),
        ...     rows=jnp.asarray([0, 0]),
        ...     starts=jnp.asarray([3, 0]),
        ... )
        >>> print(unpack(ys, packing, jnp.asarray([1, 3]), 3))
        [[4. 0. 0.]
         [1. 2. 3.]]
    """
    offsets = jnp.arange(num_steps, dtype=packing.starts.dtype)
    steps = packing.starts[:, None] + offsets[None]
    last = ys.shape[1] - 1
    taken = ys[packing.rows[:, None], jnp.minimum(steps, last)]
    real = length_mask(lengths, num_steps) > 0
    return jnp.where(real.reshape(real.shape + (1,) * (ys.ndim - 2)), taken, 0)
