"""Params, carry, outputs and gradients keep the dtype the cell was made with."""

import jax
import jax.numpy as jnp
import pytest

from seqjax import unroll
from tests.contract.cases import make, one_step_case
from tests.helpers import assert_trees_close


def _dtypes(tree) -> set[str]:
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}


def _check_dtypes(name: str, dtype: str) -> None:
    cell = make(name, dtype=dtype)

    def loss(params, xs):
        return jnp.sum(unroll(cell, params, xs, lengths=jnp.array([4, 2]))[1])

    params = jax.eval_shape(cell.init, jax.random.key(0))
    xs = jax.ShapeDtypeStruct((2, 4, 3), dtype)
    carry_and_ys = jax.eval_shape(lambda p, xs: unroll(cell, p, xs), params, xs)
    gradients = jax.eval_shape(jax.grad(loss, (0, 1)), params, xs)
    for tree in (params, carry_and_ys, gradients):
        assert _dtypes(tree) == {dtype}


def test_bfloat16_is_kept(name):
    _check_dtypes(name, "bfloat16")


@pytest.mark.usefixtures("x64")
def test_float64_is_kept(name):
    _check_dtypes(name, "float64")


@pytest.mark.usefixtures("x64")
def test_float32_is_kept_where_float64_is_allowed(name):
    _check_dtypes(name, "float32")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_computes_the_same_function(name, dtype):
    case = one_step_case(make(name))
    cast = jax.tree.map(lambda a: a.astype(dtype), case)
    wide = jax.tree.map(lambda a: a.astype(jnp.float32), cast)
    got = jax.jit(make(name, dtype=dtype).step)(*cast)
    got = jax.tree.map(lambda a: a.astype(jnp.float32), got)
    expected = jax.jit(make(name).step)(*wide)
    # Sums and gates of order one: a dozen roundings, doubled by layer norms.
    tolerance = 30 * float(jnp.finfo(dtype).eps)
    assert_trees_close(got, expected, rtol=tolerance, atol=tolerance)
