"""Vectors with a logarithmic scale of their own, which no length of time underflows.

A cotangent or a tangent is kept as a unit vector and the logarithm of its length; the
logarithm is an unevaluated sum of two floats, since adding 1e5 increments to one
float32 would lose about 1e-3 of it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, PyTree
from seqjax.tree import log_norm, norm_dtype


class LogNorms(NamedTuple):
    """Natural logarithms of gradient norms.

    Attributes:
        parts: Pytree like the carry, one `[time+1]` row per carry part.
        joint: Norm over all parts together, `[time+1]`.
    """

    parts: PyTree
    joint: Array


class Scaled(NamedTuple):
    """The vector e^(high + low) · direction.

    Attributes:
        direction: Pytree.
        high: Logarithm of the scale, a scalar; -inf for the zero vector.
        low: What rounding took from `high`.
    """

    direction: PyTree
    high: Array
    low: Array

    @property
    def logarithm(self) -> Array:
        """The logarithm of the scale, in one float."""
        return self.high + self.low


def nothing(like: PyTree) -> Scaled:
    """Returns a zero vector.

    Args:
        like: Pytree of the shapes and dtypes.

    Example:
        >>> print(nothing(jnp.ones(2)).high)
        -inf
    """
    dtype = norm_dtype(like)
    zeros = jax.tree.map(jnp.zeros_like, like)
    return Scaled(zeros, jnp.asarray(-jnp.inf, dtype), jnp.zeros((), dtype))


def scaled(vector: PyTree) -> Scaled:
    """Gives an ordinary vector a scale of its own.

    Args:
        vector: Pytree of floating-point arrays.

    Example:
        >>> vector = scaled(jnp.asarray([0.0, 4.0]))
        >>> print(vector.direction, f"{jnp.exp(vector.high):.3f}")
        [0. 1.] 4.000
    """
    zero = jnp.zeros((), norm_dtype(vector))
    return normalise(Scaled(vector, zero, zero))[0]


def with_source(
    vector: Scaled, source: PyTree, log_scale: Array | float = 0.0
) -> tuple[Scaled, PyTree]:
    """Brings a scaled vector and an ordinary one to the larger of their two scales.

    Args:
        vector: Scaled vector.
        source: Pytree of any structure, which stands for e^log_scale · source.
        log_scale: Scalar.

    Returns:
        Both at the common scale, which is that of the first.

    Example:
        >>> vector = Scaled(jnp.ones(1), jnp.asarray(-200.0), jnp.zeros(()))
        >>> ours, theirs = with_source(vector, jnp.zeros(1))
        >>> print(ours.direction, theirs, ours.high)
        [1.] [0.] -200.0
    """
    own_log = vector.logarithm
    scale = jnp.asarray(log_scale, own_log.dtype)
    source_log = log_norm(source).astype(own_log.dtype) + scale
    own_is_larger = own_log >= source_log
    high = jnp.where(own_is_larger, vector.high, source_log)
    low = jnp.where(own_is_larger, vector.low, 0)
    common = high + low
    # An exactly zero source stays out: 0 · e^(−common) may be 0 · inf.
    scale = jnp.where(source_log == -jnp.inf, -jnp.inf, scale)
    ours = times_exp(vector.direction, own_log, common)
    return Scaled(ours, high, low), times_exp(source, scale, common)


def add(a: Scaled, b: Scaled) -> Scaled:
    """Adds two vectors at the larger of their scales.

    Args:
        a: Scaled vector.
        b: Scaled vector like it.

    Returns:
        The sum; its direction has any length.

    Example:
        >>> total = add(scaled(jnp.ones(1)), scaled(3 * jnp.ones(1)))
        >>> print(f"{total.direction[0] * jnp.exp(total.high):.4f}")
        4.0000
    """
    larger = a.logarithm >= b.logarithm
    high = jnp.where(larger, a.high, b.high)
    low = jnp.where(larger, a.low, b.low)
    ours, theirs = (
        times_exp(vector.direction, vector.logarithm, high + low) for vector in (a, b)
    )
    return Scaled(jax.tree.map(jnp.add, ours, theirs), high, low)


def times_exp(tree: PyTree, logarithm: Array, common: Array) -> PyTree:
    """Takes tree · e^(logarithm − common), and zero for a logarithm of -inf.

    Example:
        >>> print(times_exp(jnp.ones(1), jnp.asarray(3.0), jnp.asarray(3.0)))
        [1.]
    """
    empty = logarithm == -jnp.inf
    factor = jnp.where(empty, 0, jnp.exp(jnp.where(empty, 0, logarithm - common)))
    return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), tree)


def normalise(vector: Scaled) -> tuple[Scaled, LogNorms]:
    """Moves the length of the direction into the logarithm.

    Args:
        vector: Direction of any length.

    Returns:
        The same vector with a direction of length 1 (or 0), and its log norms: one
        scalar per leaf, and the joint one.

    Example:
        >>> vector = Scaled(jnp.asarray([0.0, 2.0]), jnp.zeros(()), jnp.zeros(()))
        >>> unit, norms = normalise(vector)
        >>> print(unit.direction, f"{unit.high:.4f} {norms.joint:.4f}")
        [0. 1.] 0.6931 0.6931
    """
    direction, high, low = vector
    length = log_norm(direction).astype(high.dtype)
    row = LogNorms(
        parts=jax.tree.map(
            lambda part: high + (low + log_norm(part).astype(high.dtype)), direction
        ),
        joint=high + (low + length),
    )
    alive = length > -jnp.inf
    shrink = jnp.exp(-jnp.where(alive, length, 0))
    unit = jax.tree.map(lambda leaf: leaf * shrink.astype(leaf.dtype), direction)
    total, error = _two_sum(high, jnp.where(alive, length, 0))
    return (
        Scaled(
            unit,
            jnp.where(alive, total, -jnp.inf),
            jnp.where(alive & (high > -jnp.inf), low + error, 0),
        ),
        row,
    )


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Adds two floats and returns what rounding lost as well (Knuth)."""
    total = a + b
    b_kept = total - a
    return total, (a - (total - b_kept)) + (b - b_kept)
