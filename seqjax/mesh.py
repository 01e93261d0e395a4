"""Arrays inside `jax.shard_map`, where each varies over some axes of a mesh or not."""

import jax

from seqjax.array_types import PyTree


def vary_alike(tree: PyTree) -> PyTree:
    """Lets all leaves vary over the same axes, as operands of one loop must.

    The transpose sums: here is where the gradient of a parameter that all devices share
    becomes that of the whole batch.

    Args:
        tree: Pytree of arrays.

    Returns:
        The same values; the same arrays outside `shard_map`.

    Example:
        >>> import jax.numpy as jnp
        >>> print(vary_alike((jnp.ones(2), 3.0)))
        (Array([1., 1.], dtype=float32), 3.0)
    """
    leaves, structure = jax.tree.flatten(tree)
    axes = [jax.typeof(leaf).manual_axis_type.varying for leaf in leaves]
    every = frozenset().union(*axes)
    return structure.unflatten(
        jax.lax.pcast(leaf, tuple(every - own), to="varying") if every - own else leaf
        for leaf, own in zip(leaves, axes, strict=True)
    )
