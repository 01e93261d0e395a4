"""Norms at both ends of the floating-point range, and the probe that reports them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from seqjax.tree import log_norm, log_norm_probe, norm
from tests.helpers import assert_trees_close

ENTRIES = np.array([0.3, -1.0, 0.7, 0.0, -0.2, 0.9, 0.01])

# One rounding of 6e-8 per entry, product, root and logarithm.
RTOL = 5e-7


def _reference_norm(tree) -> np.longdouble:
    """In NumPy's widest type, whose range holds every square."""
    leaves = [np.asarray(leaf).astype(np.longdouble) for leaf in jax.tree.leaves(tree)]
    return np.sqrt(sum((np.sum(leaf * leaf) for leaf in leaves), np.longdouble(0)))


@pytest.mark.parametrize("scale", [1e-35, 1e-30, 1e-20, 1.0, 1e20, 1e30, 1e38])
def test_norms_match_extended_precision(scale):
    tree = jnp.asarray(scale * ENTRIES, jnp.float32)
    expected = _reference_norm(tree)
    np.testing.assert_allclose(norm(tree), expected, rtol=RTOL)
    np.testing.assert_allclose(log_norm(tree), np.log(expected), rtol=RTOL)


@pytest.mark.parametrize("exponent", [-120, -60, 0, 60, 120])
def test_norm_of_powers_of_two_is_exact(exponent):
    tree = [jnp.float32([3 * 2.0**exponent]), jnp.float32([-4 * 2.0**exponent])]
    assert norm(tree) == 5 * 2.0**exponent


@pytest.mark.parametrize(
    "tree",
    [
        (),
        {},
        None,
        {"a": jnp.zeros((0, 3))},
        jnp.zeros(()),
        [jnp.zeros(3), {"b": jnp.zeros((2, 2))}],
        [jnp.zeros(2, jnp.bfloat16), jnp.zeros(0)],
    ],
    ids=str,
)
def test_nothing_and_zeros_have_norm_zero(tree):
    assert norm(tree) == 0
    assert log_norm(tree) == -jnp.inf
    assert norm(tree).dtype == log_norm(tree).dtype == jnp.float32


def test_all_leaves_count_together():
    tree = {
        "a": jnp.asarray([3.0]),
        "b": (jnp.asarray(-4.0), [jnp.full((2, 2), 6.0)]),
        "c": None,
        "d": jnp.zeros((0,)),
    }
    assert norm(tree) == 13.0
    np.testing.assert_allclose(log_norm(tree), np.log(13.0), rtol=RTOL)


def test_leaves_of_all_dtypes_mix():
    tree = [
        jnp.asarray([2e-20, 1.0], jnp.bfloat16),
        jnp.asarray([60_000, 6e-8], jnp.float16),
        jnp.asarray([30_000.0, -1.0], jnp.float32),
    ]
    assert norm(tree).dtype == log_norm(tree).dtype == jnp.float32
    np.testing.assert_allclose(norm(tree), _reference_norm(tree), rtol=RTOL)


@pytest.mark.parametrize("entries", [[60_000, 60_000], [6e-8, 1.2e-7]])
def test_float16_ends_of_range(entries):
    # Both squares leave float16, and the small entries are its subnormals.
    tree = jnp.asarray(entries, jnp.float16)
    np.testing.assert_allclose(norm(tree), _reference_norm(tree), rtol=RTOL)
    expected = np.log(_reference_norm(tree))
    np.testing.assert_allclose(log_norm(tree), expected, rtol=RTOL)


def test_subnormal_entries_count_where_the_platform_keeps_them():
    tiny = np.array([1e-41, -2e-41], np.float32)
    # Any arithmetic shows whether this platform flushes them to zero.
    kept = bool(jnp.max(jnp.abs(jnp.asarray(tiny))) * 2.0**100 > 0)
    expected = np.log(_reference_norm(tiny)) if kept else -np.inf
    np.testing.assert_allclose(log_norm(tiny), expected, rtol=1e-4)
    assert not jnp.isnan(norm(tiny))
    beside = [jnp.asarray(tiny), jnp.float32([3e-30])]
    np.testing.assert_allclose(norm(beside), 3e-30, rtol=RTOL)


def test_log_norm_exists_where_the_norm_overflows():
    tree = jnp.full(7, 3e38)
    expected = np.log(_reference_norm(tree))
    np.testing.assert_allclose(log_norm(tree), expected, rtol=RTOL)
    assert norm(tree) == jnp.inf


def test_infinite_and_undefined_entries_show():
    assert not jnp.isfinite(norm(jnp.asarray([1.0, jnp.inf])))
    assert not jnp.isfinite(log_norm(jnp.asarray([1.0, -jnp.inf])))
    assert jnp.isnan(norm([jnp.asarray([jnp.nan]), jnp.zeros(2)]))
    assert jnp.isnan(log_norm([jnp.asarray([jnp.nan]), jnp.zeros(2)]))


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
@pytest.mark.usefixtures("x64")
def test_float64_stays_float64(scale):
    tree = [jnp.asarray(scale * ENTRIES), jnp.zeros(2, jnp.float32)]
    expected = _reference_norm(tree)
    assert norm(tree).dtype == log_norm(tree).dtype == jnp.float64
    np.testing.assert_allclose(float(norm(tree)), float(expected), rtol=1e-15)
    np.testing.assert_allclose(log_norm(tree), float(np.log(expected)), rtol=1e-15)


def test_vmap_measures_each_row():
    rows = jnp.asarray(np.outer([1e-30, 0.0, 1e30], ENTRIES), jnp.float32)
    expected = [float(_reference_norm(row)) for row in rows]
    np.testing.assert_allclose(jax.vmap(norm)(rows), expected, rtol=RTOL)


@pytest.mark.parametrize("fn", [norm, log_norm])
def test_gradient_at_zero_is_zero(fn):
    tree = {"a": jnp.zeros(3), "b": jnp.zeros((2, 2))}
    assert_trees_close(jax.grad(fn)(tree), tree)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30, 1e38])
def test_gradient_of_norm_is_the_direction(scale):
    tree = jnp.asarray(scale * ENTRIES, jnp.float32)
    wide = np.asarray(tree, np.longdouble)
    expected = (wide / _reference_norm(tree)).astype(np.float64)
    np.testing.assert_allclose(jax.grad(norm)(tree), expected, rtol=RTOL)
    _, slope = jax.jvp(norm, (tree,), (jnp.full_like(tree, scale),))
    np.testing.assert_allclose(slope / scale, expected.sum(), rtol=1e-6)


@pytest.mark.parametrize("fn", [norm, log_norm])
@pytest.mark.usefixtures("x64")
def test_derivatives_match_finite_differences(fn):
    tree = {"a": jnp.asarray(ENTRIES), "b": jnp.asarray(2.0)}
    # Central differences of step 1e-4 miss by third derivatives times 1e-8.
    check_grads(fn, (tree,), order=2, modes=["rev"], eps=1e-4, atol=1e-6, rtol=1e-6)


def _cotangent():
    return {
        "a": jnp.asarray(1e-30 * ENTRIES, jnp.float32),
        "b": jnp.asarray([[1e-30, -3e-31]], jnp.bfloat16),
    }


def test_probe_passes_values_and_cotangents_bit_for_bit():
    tree = jax.tree.map(lambda leaf: leaf * 2, _cotangent())
    out, pull = jax.vjp(log_norm_probe, tree, jnp.zeros(()))
    assert_trees_close(out, tree)
    passed, reported = pull(_cotangent())
    assert_trees_close(passed, _cotangent())
    dtypes = jax.tree.map(lambda leaf: leaf.dtype, (out, passed))
    assert dtypes == jax.tree.map(lambda leaf: leaf.dtype, (tree, _cotangent()))
    np.testing.assert_allclose(
        reported, np.log(_reference_norm(_cotangent())), rtol=RTOL
    )
    assert reported.dtype == jnp.float32


def test_probe_reports_minus_infinity_for_no_gradient():
    out, pull = jax.vjp(log_norm_probe, jnp.ones(3), jnp.zeros(()))
    _, reported = pull(jnp.zeros_like(out))
    assert reported == -jnp.inf


def test_probe_reports_each_row_under_vmap():
    rows = jnp.asarray(np.outer([1.0, 1e-25], ENTRIES), jnp.float32)

    def loss(rows, probes):
        passed = jax.vmap(log_norm_probe)(rows, probes)
        return jnp.sum(passed * rows)

    reported = jax.grad(loss, argnums=1)(rows, jnp.zeros(2))
    expected = [np.log(float(_reference_norm(row))) for row in rows]
    np.testing.assert_allclose(reported, expected, rtol=2e-6, atol=1e-6)


def test_probe_refuses_forward_mode():
    args = (jnp.ones(3), jnp.zeros(()))
    with pytest.raises(TypeError, match="jvp"):
        jax.jvp(log_norm_probe, args, args)
