"""Gradient norms layer by layer: against ordinary autodiff, and beyond its range."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import cells, unroll
from seqjax.combinators import bidirectional, residual, stack, with_reset
from seqjax.gradients import log_gradient_norms
from seqjax.unroll import make_probes
from tests.helpers import assert_trees_close

CELLS = {
    "both": bidirectional(cells.gru(3, 4)),
    "stack of both": stack(
        bidirectional(cells.gru(3, 4)),
        bidirectional(cells.lstm(8, 4), merge="sum"),
        cells.elman(4, 3),
    ),
    "residual": stack(
        cells.gru(3, 4), residual(bidirectional(cells.gru(4, 4), merge="mean"))
    ),
    "resets": with_reset(bidirectional(cells.gru(3, 4))),
}


@pytest.mark.parametrize("name", CELLS)
def test_equals_the_probes_of_an_unroll(name):
    cell = CELLS[name]
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (6, 3))
    if name == "resets":
        xs = xs, jnp.arange(6) == 3

    def both_routes(mask):
        def loss_fn(ys):
            return jnp.sum(jnp.sin(ys) * mask[:, None])

        def loss(probes):
            return loss_fn(unroll(cell, params, xs, probes=probes)[1])

        ours = log_gradient_norms(cell, params, xs, loss_fn).parts
        return ours, jax.grad(loss)(make_probes(cell, params, (), 6))

    # A loss at every step, at the last one, and in the middle.
    masks = jnp.stack([jnp.ones(6), jnp.eye(6)[5], jnp.eye(6)[2]])
    ours, expected = jax.jit(jax.vmap(both_routes))(masks)
    # Two routes through about ten float32 roundings per step; -inf must meet -inf.
    assert_trees_close(ours, expected, atol=1e-5)


@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_two_layers_beyond_the_range_of_float32(gain):
    # Scaled orthogonal recurrences, ahead and back, under an identity layer of the same
    # gain g: the gradient that reaches the lower layer from step s is g^(T−1−s) times a
    # vector of constant length, far outside the range of float32.
    num_steps, size = 2000, 4
    layer = cells.elman(size, size, activation="identity")
    both = bidirectional(cells.elman(1, size, activation="identity"), merge="sum")
    cell = stack(both, layer)
    eye, zero = jnp.eye(size), jnp.zeros(size)
    below = cells.ElmanParams(jnp.ones((1, size)), gain * eye, zero)
    above = cells.ElmanParams(eye, gain * eye, zero)
    params = (type(both.init(jax.random.key(0)))(below, below), above)
    rows = jax.jit(
        lambda xs: log_gradient_norms(cell, params, xs, lambda ys: jnp.sum(ys[-1]))
    )(jnp.zeros((num_steps, 1)))
    lag = num_steps - np.arange(num_steps)
    top = math.log(2) + lag * math.log(gain)
    # Float32 numbers near 1,400 are 1.2e-4 apart.
    np.testing.assert_allclose(rows.parts[1].hidden[:-1], top, atol=1e-3)
    # Ahead the sources g^(T−1−s) travel s − t steps, each gaining g: all terms of
    # Σ_{s≥t} g^(s−t+1) g^(T−1−s) are equal, and there are T − t of them.
    ahead = top + np.log(lag)
    np.testing.assert_allclose(rows.parts[0].forward.hidden[:-1], ahead, atol=2e-3)
    # Back the cell enters step t with carry t+1, and sums Σ_{s≤t} g^(t−s+1) g^(T−1−s).
    sums = [
        np.logaddexp.reduce((2 * np.arange(k + 1) - k) * -math.log(gain))
        for k in range(num_steps)
    ]
    back = math.log(2) + num_steps * math.log(gain) + np.array(sums)
    np.testing.assert_allclose(rows.parts[0].backward.hidden[1:], back, atol=2e-3)
