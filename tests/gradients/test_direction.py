"""Angles and spreads of gradients: hand cases, scale, zeros."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.gradients.direction import (
    cosine_similarity,
    effective_rank,
    participation_ratio,
)

ANGLE = {"a": jnp.asarray([3.0]), "b": jnp.asarray([[4.0]])}


@pytest.mark.parametrize("scale", [2e-38, 1e-30, 1.0, 1e30, 3e37])
def test_cosine_is_over_all_leaves_at_any_scale(scale):
    other = {"a": jnp.asarray([scale]), "b": jnp.asarray([[0.0]])}
    # 3/5, and float32 rounding.
    assert float(cosine_similarity(ANGLE, other)) == pytest.approx(0.6, rel=1e-6)
    flipped = jax.tree.map(jnp.negative, other)
    assert float(cosine_similarity(flipped, ANGLE)) == pytest.approx(-0.6, rel=1e-6)
    right = {"a": jnp.asarray([-4 * scale]), "b": jnp.asarray([[3 * scale]])}
    assert float(cosine_similarity(ANGLE, right)) == pytest.approx(0, abs=1e-6)


def test_zeros_have_no_angle_and_no_spread():
    zeros = jax.tree.map(jnp.zeros_like, ANGLE)
    assert float(cosine_similarity(zeros, ANGLE)) == 0
    assert float(cosine_similarity(zeros, zeros)) == 0
    assert float(participation_ratio(zeros)) == 0
    assert float(effective_rank(jnp.zeros((3, 2)))) == 0
    # A singular value of exactly zero among others.
    assert float(effective_rank(jnp.diag(jnp.asarray([2.0, 2.0, 0.0])))) == 2


@pytest.mark.parametrize("scale", [2e-38, 1.0, 1e38])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_participation_ratio_counts_equal_entries(count, scale):
    vector = jnp.zeros(8).at[:count].set(scale)
    assert float(participation_ratio([vector[:2], vector[2:]])) == pytest.approx(count)


def test_participation_ratio_of_unequal_entries():
    # (1 + 4)² / (1 + 16)
    ratio = participation_ratio(jnp.asarray([1.0, -2.0]))
    assert float(ratio) == pytest.approx(25 / 17)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e37])
def test_effective_rank_is_the_exponential_of_the_entropy(scale):
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    rows = rotation[:3].T * np.array([2.0, 1.0, 1.0]) * scale
    # Shares 1/2, 1/4, 1/4: entropy 1.5 ln 2.
    rank = effective_rank(jnp.asarray(rows, jnp.float32))
    assert float(rank) == pytest.approx(2**1.5, rel=1e-5)
    doubled = jnp.asarray(np.repeat(rows, 2, axis=0), jnp.float32)
    assert float(effective_rank(doubled)) == pytest.approx(2**1.5, rel=1e-5)


def test_float64_and_bfloat16(x64):
    tiny = jnp.asarray([3e-200, 4e-200])
    assert float(cosine_similarity(tiny, jnp.asarray([1.0, 0.0]))) == pytest.approx(
        0.6, rel=1e-15
    )
    # Two equal rows and float64 rounding in the second singular value.
    assert math.isclose(effective_rank(jnp.ones((2, 2))), 1.0, rel_tol=1e-12)
    half = jnp.ones(3, jnp.bfloat16)
    assert participation_ratio(half).dtype == jnp.float32
    assert float(effective_rank(jnp.eye(2, dtype=jnp.bfloat16))) == pytest.approx(2)


def test_rows_are_a_matrix():
    with pytest.raises(ValueError, match=r"\[batch, n\], got shape \[3\]"):
        effective_rank(jnp.ones(3))
