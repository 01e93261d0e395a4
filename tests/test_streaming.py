"""Inputs that arrive one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import cells, combinators, stream, unroll
from tests.helpers import assert_trees_close, random_like

STACK = combinators.stack(cells.lstm(3, 4), combinators.residual(cells.gru(4, 4)))


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_a_stream_gives_what_unroll_gives(batch):
    params = STACK.init(jax.random.key(0))
    xs = random_like(jnp.zeros((6, *batch, 3)), seed=1)
    carry, step = stream(STACK, params, jnp.zeros((*batch, 3)))
    ys = []
    for x in xs:
        carry, y = step(carry, x)
        ys.append(y)
    expected = jax.jit(unroll, static_argnums=0)(STACK, params, jnp.moveaxis(xs, 0, -2))
    got = carry, jnp.stack(ys, -2)
    # A step compiled alone against a scan of it: a few roundings per step.
    assert_trees_close(got, expected, rtol=1e-5, atol=1e-6)


def test_the_carry_is_used_up_and_the_parameters_are_not():
    cell = combinators.learned_carry(cells.gru(3, 4))
    params = cell.init(jax.random.key(0))
    carry, step = stream(cell, params, jnp.zeros(3))
    again, _ = step(carry, jnp.ones(3))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(carry))
    assert np.all(np.isfinite(np.concatenate(jax.tree.leaves(again))))
    jax.block_until_ready(params)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(params))


def test_both_directions_have_no_stream():
    cell = combinators.bidirectional(cells.gru(3, 4))
    with pytest.raises(ValueError, match="bidirectional: expected to be run over"):
        stream(cell, cell.init(jax.random.key(0)), jnp.zeros(3))
