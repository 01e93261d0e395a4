"""Norms of pytrees that neither underflow nor overflow, and a probe that logs them.

A Euclidean norm squares its entries: in float32 it reads exactly 0 below about
1e-19 and inf above 1e19, long before the entries themselves leave the range. Every
norm of this library divides by the largest entry first.
"""

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, DType, PyTree


def log_norm(tree: PyTree) -> Array:
    """Measures the natural logarithm of the Euclidean norm of all leaves together.

    ln ‖v‖ = ln m + ½ ln Σ (vᵢ/m)², with m = max |vᵢ|.

    Args:
        tree: Pytree of floating-point arrays of any shapes.

    Returns:
        Scalar, float32 or wider. -inf for a tree of exact zeros (or of no entries);
        right for any finite entries, also subnormal ones where the platform keeps
        them. inf or nan if an entry is.

    Example:
        >>> import jax.numpy as jnp
        >>> print(jnp.round(log_norm({"a": jnp.full(4, 1e-30)}), 3))
        -68.384
    """
    scale, squares = _scaled_squares(tree)
    safe = jnp.where(squares > 0, squares, 1)
    return jnp.where(squares == 0, -jnp.inf, jnp.log(scale) + 0.5 * jnp.log(safe))


def norm(tree: PyTree) -> Array:
    """Measures the Euclidean norm of all leaves together, scaled by the largest.

    ‖v‖ = m √(Σ (vᵢ/m)²), with m = max |vᵢ|.

    Args:
        tree: Pytree of floating-point arrays of any shapes.

    Returns:
        Scalar, float32 or wider; 0 for a tree of zeros. The gradient at 0 is 0.

    Example:
        >>> import jax.numpy as jnp
        >>> print(norm([jnp.asarray([3e-25]), jnp.asarray([4e-25])]))
        5e-25
    """
    scale, squares = _scaled_squares(tree)
    safe = jnp.where(squares > 0, squares, 1)
    return jnp.where(squares == 0, 0, scale * jnp.sqrt(safe))


def norm_dtype(tree: PyTree) -> DType:
    """The dtype of a tree's norms: float64 if a leaf is, else float32.

    Example:
        >>> import jax.numpy as jnp
        >>> norm_dtype(jnp.zeros(2, jnp.bfloat16)) == jnp.float32
        True
    """
    wide = any(jnp.result_type(leaf) == jnp.float64 for leaf in jax.tree.leaves(tree))
    return jnp.float64 if wide else jnp.float32


def _scaled_squares(tree: PyTree) -> tuple[Array, Array]:
    """The largest magnitude m (1 for a zero tree), and Σ (vᵢ/m)²."""
    dtype = norm_dtype(tree)
    leaves = [jnp.asarray(leaf).astype(dtype) for leaf in jax.tree.leaves(tree)]
    leaves = [leaf.ravel() for leaf in leaves if leaf.size]
    if not leaves:
        return jnp.ones((), dtype), jnp.zeros((), dtype)
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in leaves]))
    # Compilers multiply by 1/m, which flushes to 0 where it would be subnormal.
    largest = jnp.minimum(largest, 1 / jnp.finfo(dtype).tiny)
    # The norm does not depend on m, so m carries no gradient; 1 in place of 0 keeps
    # the ratio 0 and every branch free of NaN.
    scale = jax.lax.stop_gradient(jnp.where(largest == 0, 1, largest))
    sums = [jnp.sum(jnp.square(leaf / scale)) for leaf in leaves]
    return scale, jnp.sum(jnp.stack(sums))


@jax.custom_vjp
def log_norm_probe(tree: PyTree, probe: Array) -> PyTree:
    """Passes a tree through and reports ln ‖cotangent‖ as the gradient of `probe`.

    Forward the identity. Backward the cotangent g of `tree` passes unchanged, bit
    for bit, and the "cotangent" of the scalar `probe` is ln ‖g‖. Differentiate with
    respect to a zero `probe` to read it. Reverse mode only: `jvp` raises.

    Args:
        tree: Pytree of floating-point arrays, returned as it is.
        probe: Scalar, float32; its value is not used.

    Returns:
        `tree`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> loss = lambda x, probe: jnp.sum(3.0 * log_norm_probe(x, probe))
        >>> g, log_g = jax.grad(loss, (0, 1))(jnp.ones(1), jnp.zeros(()))
        >>> print(g, f"{jnp.exp(log_g):.3f}")
        [3.] 3.000
    """
    del probe
    return tree


def _probe_forward(tree: PyTree, probe: Array) -> tuple[PyTree, Array]:
    return tree, probe


def _probe_backward(probe: Array, cotangent: PyTree) -> tuple[PyTree, Array]:
    return cotangent, log_norm(cotangent).astype(probe.dtype)


log_norm_probe.defvjp(_probe_forward, _probe_backward)
