"""What a cell declares as affine is all of its step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import AffineParams
from tests.contract.cases import AFFINE, one_step_case
from tests.helpers import assert_trees_close, random_like

pytestmark = pytest.mark.parametrize("name", AFFINE)


def test_declared_parts_reproduce_the_step(cell):
    params, carry, x = one_step_case(cell)
    kernel, bias, recurrent_kernel, rest = cell.affine.split(params)
    u = x @ kernel
    u = u if bias is None else u + bias
    got = cell.affine.rest(rest, u, cell.affine.hidden(carry) @ recurrent_kernel, carry)
    assert_trees_close(got, cell.step(params, carry, x))


def test_split_sees_every_parameter(cell):
    params, _, _ = one_step_case(cell)
    leaves, structure = jax.tree.flatten(params)
    before = jax.tree.leaves(cell.affine.split(params))
    for i in range(len(leaves)):
        moved = structure.unflatten(
            leaf + 1 if j == i else leaf for j, leaf in enumerate(leaves)
        )
        after = jax.tree.leaves(cell.affine.split(moved))
        same = [np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
        assert not all(same)


def test_gradients_through_the_parts_are_those_of_the_step(cell):
    """The backward pass that the declaration allows: dW = x ⊗ du, dR = h ⊗ dv."""
    params, carry, x = one_step_case(cell)
    parts, pull_split = jax.vjp(cell.affine.split, params)
    h = cell.affine.hidden(carry)
    u = x @ parts.kernel + (0 if parts.bias is None else parts.bias)
    out, pull_rest = jax.vjp(
        cell.affine.rest, parts.rest, u, h @ parts.recurrent_kernel, carry
    )
    cotangent = random_like(out, seed=8)
    d_rest, du, dv, _ = pull_rest(cotangent)
    d_parts = AffineParams(
        jnp.outer(x, du), None if parts.bias is None else du, jnp.outer(h, dv), d_rest
    )
    (got,) = pull_split(d_parts)
    expected = jax.vjp(cell.step, params, carry, x)[1](cotangent)[0]
    # The same products in another order.
    assert_trees_close(got, expected, rtol=1e-5, atol=1e-6)


def test_hidden_is_an_array_of_the_carry(cell):
    carry = cell.initial_carry(cell.init(jax.random.key(0)))
    assert any(cell.affine.hidden(carry) is leaf for leaf in jax.tree.leaves(carry))
