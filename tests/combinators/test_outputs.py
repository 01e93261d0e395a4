"""Combinators on the output, against their equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import cells
from seqjax.combinators import Wrapped, layer_norm, projection, residual
from tests.helpers import assert_trees_close
from tests.unroll_cases import run, sequence_case

GRU = cells.gru(3, 3)


def test_residual_adds_the_input():
    params, xs, carry = sequence_case(2, cell=GRU)
    final, ys = run(GRU, params, xs, carry)
    assert_trees_close(run(residual(GRU), params, xs, carry), (final, xs + ys))


def test_projection_is_one_product():
    cell = projection(GRU, 3, 2)
    params, xs, carry = sequence_case(2, cell=cell)
    final, ys = run(GRU, params.cell, xs, carry)
    got_final, got = run(cell, params, xs, carry)
    assert_trees_close(got_final, final)
    # float32 against NumPy's sum of three products.
    np.testing.assert_allclose(got, np.asarray(ys) @ params.outer, rtol=1e-6, atol=1e-6)


def test_layer_norm_standardises_over_features():
    cell = layer_norm(GRU, 3)
    params, xs, carry = sequence_case(2, cell=cell)
    scale, bias = (np.asarray(part, np.float64) for part in params.outer)
    final, ys = run(GRU, params.cell, xs, carry)
    ys = np.asarray(ys, np.float64)
    variance = ys.var(-1, keepdims=True)
    expected = (ys - ys.mean(-1, keepdims=True)) / np.sqrt(variance + 1e-5)
    got_final, got = run(cell, params, xs, carry)
    assert_trees_close(got_final, final)
    # float32 against float64; small deviations divide small differences.
    np.testing.assert_allclose(got, expected * scale + bias, rtol=1e-4, atol=1e-5)


def test_new_norms_are_the_identity_after_standardising():
    params = layer_norm(GRU, 3).init(jax.random.key(0))
    assert_trees_close(params.outer, (jnp.ones(3), jnp.zeros(3)))


def test_projection_takes_an_initialiser():
    eye = projection(GRU, 3, 3, kernel_init=lambda key, shape, dtype: jnp.eye(shape[0]))
    params, xs, carry = sequence_case(cell=GRU)
    wrapped = Wrapped(params, eye.init(jax.random.key(0)).outer)
    assert_trees_close(run(eye, wrapped, xs, carry), run(GRU, params, xs, carry))


@pytest.mark.parametrize("make", [layer_norm, projection])
def test_sizes_are_checked(make):
    with pytest.raises(ValueError, match="size: expected a whole number >= 1, got 0"):
        make(GRU, *(0,) * (2 if make is projection else 1))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtypes_are_kept(dtype):
    cell = layer_norm(
        projection(cells.gru(3, 3, dtype=dtype), 3, 2, dtype=dtype), 2, dtype=dtype
    )
    params = jax.eval_shape(cell.init, jax.random.key(0))
    xs = jax.ShapeDtypeStruct((2, 5, 3), dtype)
    results = jax.eval_shape(lambda *a: run(cell, *a), params, xs)
    assert {leaf.dtype.name for leaf in jax.tree.leaves((params, results))} == {dtype}
