"""Padding changes nothing: padded equals unpadded for every cell, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import Cell, unroll
from tests.contract.cases import sequence_case
from tests.helpers import assert_trees_close

NUM_STEPS, LENGTHS = 5, (5, 3, 1, 0)


def _padded(xs: jax.Array, rubbish: float) -> jax.Array:
    real = jnp.arange(NUM_STEPS)[None] < jnp.array(LENGTHS)[:, None]
    return jnp.where(real[..., None], xs, rubbish)


def _run(cell: Cell):
    """All carries, outputs and gradients, in one program for any lengths.

    One program, so that not even the fusion of a multiply and an add differs.
    """

    def loss(params, xs, lengths):
        carries, ys = unroll(cell, params, xs, lengths=lengths, return_carries=True)
        final = jax.tree.map(lambda a: jnp.sum(a[:, -1]), carries)
        return sum(jax.tree.leaves(final)) + jnp.sum(ys), (carries, ys)

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))


def test_padded_equals_unpadded(cell):
    params, xs = sequence_case(cell, len(LENGTHS), NUM_STEPS)
    run, lengths = _run(cell), jnp.array(LENGTHS)
    _, (carries, ys) = run(params, xs, jnp.full(len(LENGTHS), NUM_STEPS))
    gradients, (held, padded_ys) = run(params, _padded(xs, jnp.nan), lengths)

    np.testing.assert_array_equal(padded_ys, _padded(ys, 0))
    for row, length in enumerate(LENGTHS):
        at_end = (
            jax.tree.map(lambda a, row=row, end=length - 1: a[row, end], carries)
            if length
            else cell.initial_carry(params)
        )
        final = jax.tree.map(lambda a, row=row: a[row, -1], held)
        assert_trees_close(final, at_end)

    clean, _ = run(params, _padded(xs, 0), lengths)
    assert_trees_close(gradients, clean)
    np.testing.assert_array_equal(clean[1], _padded(clean[1], 0))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(clean))
