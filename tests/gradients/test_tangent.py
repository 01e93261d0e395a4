"""Tangents: exact growth, forward mode, and time reversal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import cells, tree
from seqjax.gradients import (
    decay_rate,
    log_gradient_norms,
    log_tangent_norms,
    lyapunov_exponents,
)
from tests.helpers import random_like


def test_a_scaled_rotation_grows_by_its_gain_far_beyond_float32():
    gain, num_steps = 1.5, 1000
    rotation = jnp.asarray([[0.6, 0.8], [-0.8, 0.6]])
    cell = cells.elman(1, 2, activation="identity")
    params = cells.ElmanParams(jnp.zeros((1, 2)), gain * rotation, jnp.zeros(2))
    rows = log_tangent_norms(
        cell, params, jnp.zeros((num_steps, 1)), cells.ElmanCarry(jnp.ones(2))
    )
    expected = 0.5 * np.log(2) + np.arange(num_steps + 1) * np.log(gain)
    # The rotation's length is right to 1e-7, the same error in each of 1,000 steps.
    np.testing.assert_allclose(rows.joint, expected, atol=1e-3)


def test_equals_forward_mode_through_the_whole_sequence():
    cell = cells.lstm(3, 4)
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (6, 3))
    start = cell.initial_carry(params)
    tangent = random_like(start, seed=2)

    def carries(carry):
        def step(carry, x):
            after, _ = cell.step(params, carry, x)
            return after, after

        return jax.lax.scan(step, carry, xs)[1]

    _, pushed = jax.jvp(carries, (start,), (tangent,))
    rows = log_tangent_norms(cell, params, xs, tangent)
    for row, first, rest in zip(
        jax.tree.leaves(rows.parts),
        jax.tree.leaves(tangent),
        jax.tree.leaves(pushed),
        strict=True,
    ):
        expected = jax.vmap(tree.log_norm)(jnp.concatenate([first[None], rest]))
        np.testing.assert_allclose(row, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["elman", "lstm", "gru"])
def test_forward_and_backward_slopes_are_one_exponent(name):
    cell = cells.CELLS[name](2, 16)
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (20_000, 2))

    @jax.jit
    def slopes(xs):
        tangent = random_like(cell.initial_carry(params), seed=2)
        ahead = log_tangent_norms(cell, params, xs, tangent).joint
        back = log_gradient_norms(cell, params, xs, jnp.sum, outputs="last").joint
        # The steps that the exponent counts.
        growth = (ahead[-1] - ahead[2000]) / 18_000
        exponent = lyapunov_exponents(cell, params, xs, 1).exponents[0]
        return decay_rate(ahead).rate, decay_rate(back).rate, growth, exponent

    ahead, back, growth, exponent = slopes(xs)
    # The tangent runs with time, the gradient against it. Both align within a few
    # steps, which the burn-in leaves out; at every step the two curves add up to a
    # constant but for an angle, of order 1, of which the slope over 16,000 steps sees
    # little.
    assert -float(ahead) == pytest.approx(float(back), abs=2e-4)
    assert float(back) < -0.1
    # Float32 numbers near 10,000 are 1e-3 apart.
    assert float(growth) == pytest.approx(float(exponent), abs=1e-6)
