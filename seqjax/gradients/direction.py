"""Where gradients point: angles between them, and over how many directions they spread.

Equal norms can hide a channel that lets a single direction through.
"""

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, PyTree
from seqjax.tree import norm_dtype


def cosine_similarity(a: PyTree, b: PyTree) -> Array:
    """Measures the cosine of the angle between two trees taken as vectors.

    cos(a, b) = ⟨a, b⟩ / (‖a‖ ‖b‖)

    Each vector is divided by its largest entry first, so that gradients of 1e-30 have
    an angle as well.

    Args:
        a: Pytree of real floating-point arrays of any shapes.
        b: Pytree like `a`.

    Returns:
        Scalar in [−1, 1] up to rounding, float32 or wider; 0 where one of the two is
        exactly zero.

    Example:
        >>> import jax.numpy as jnp
        >>> a = {"w": jnp.asarray([1e-30, 0.0])}
        >>> b = {"w": jnp.asarray([1e10, 1e10])}
        >>> print(f"{cosine_similarity(a, b):.4f}")
        0.7071
    """
    return jnp.vdot(_unit(_vector(a)), _unit(_vector(b)))


def participation_ratio(tree: PyTree) -> Array:
    """Counts the entries of a vector that take part in it.

    PR(v) = (Σ vᵢ²)² / Σ vᵢ⁴

    Args:
        tree: Pytree of real floating-point arrays, together one vector of n entries.

    Returns:
        Scalar from 1 (one entry holds everything) to n (all are equally large),
        float32 or wider; 0 for a tree of exact zeros.

    References:
        Bell, Dean (1970), Atomic vibrations in vitreous silica.

    Example:
        >>> import jax.numpy as jnp
        >>> print(participation_ratio(jnp.asarray([3.0, -3.0, 0.0, 0.0])))
        2.0
    """
    squares = jnp.square(_scaled(_vector(tree)))
    fourth = jnp.sum(jnp.square(squares))
    ratio = jnp.square(jnp.sum(squares)) / jnp.where(fourth == 0, 1, fourth)
    return jnp.where(fourth == 0, 0, ratio)


def effective_rank(rows: Array) -> Array:
    """Measures over how many directions the rows of a matrix spread.

    erank = exp(−Σ pᵢ ln pᵢ),  pᵢ = σᵢ / Σ σⱼ,  with the singular values σ of the matrix

    For rows that are the gradients of different samples: do they still differ? Long
    rows outweigh short ones; divide them by their norms first to count samples alike.

    Args:
        rows: `[batch, n]`.

    Returns:
        Scalar from 1 to the rank, float32 or wider; 0 for a matrix of exact zeros.

    Raises:
        ValueError: If `rows` is not a matrix.

    References:
        Roy, Vetterli (2007), The effective rank: a measure of effective
        dimensionality.

    Example:
        >>> import jax.numpy as jnp
        >>> print(f"{effective_rank(jnp.eye(3)):.3f}")
        3.000
        >>> print(f"{effective_rank(jnp.ones((5, 3))):.3f}")
        1.000
    """
    if rows.ndim != 2:
        raise ValueError(
            f"rows: expected a matrix [batch, n], got shape {list(rows.shape)}; ravel "
            "each sample into one row"
        )
    scaled = _scaled(rows.astype(norm_dtype(rows)))
    values = jnp.linalg.svd(scaled, compute_uv=False)
    total = jnp.sum(values)
    shares = values / jnp.where(total == 0, 1, total)
    entropy = -jnp.sum(shares * jnp.log(jnp.where(shares == 0, 1, shares)))
    return jnp.where(total == 0, 0, jnp.exp(entropy))


def _vector(tree: PyTree) -> Array:
    dtype = norm_dtype(tree)
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return jnp.concatenate([leaf.astype(dtype).ravel() for leaf in leaves])


def _scaled(values: Array) -> Array:
    """The values divided by the largest magnitude; zeros stay."""
    largest = jnp.max(jnp.abs(values), initial=0)
    # Compilers multiply by 1/m, which flushes to 0 where it would be subnormal.
    largest = jnp.minimum(largest, 1 / jnp.finfo(values.dtype).tiny)
    return values / jnp.where(largest == 0, 1, largest)


def _unit(vector: Array) -> Array:
    scaled = _scaled(vector)
    length = jnp.sqrt(jnp.sum(jnp.square(scaled)))
    return scaled / jnp.where(length == 0, 1, length)
