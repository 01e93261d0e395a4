"""Truncated gradients lose what they should; bias and variance by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import cells
from seqjax.gradients.estimators import (
    bias_and_variance,
    bptt_gradient,
    truncated_gradient,
)
from tests.gradients.estimator_cases import NUM_STEPS, case, gradients
from tests.helpers import assert_trees_close


@pytest.mark.parametrize("window", [1, 3, 30])
def test_truncation_of_a_leaky_sum_loses_a_known_share(x64, window):
    # h′ = λ h + 1 from 0, L = h_T: with hₜ = (1 − λᵗ)/(1 − λ) the first K lags give
    # Σ_{j<K} λʲ h_{T−1−j} = ((1 − λᴷ)/(1 − λ) − K λ^{T−1}) / (1 − λ).
    decay, num_steps = 0.8, 10

    def expected(kept):
        whole = (1 - decay**kept) / (1 - decay) - kept * decay ** (num_steps - 1)
        return whole / (1 - decay)

    cell = cells.elman(1, 1, activation="identity", dtype=jnp.float64)
    one = jnp.ones((1, 1))
    params = cells.ElmanParams(one, decay * one, jnp.zeros(1))
    targets = jnp.zeros(num_steps).at[-1].set(1)
    gradient = truncated_gradient(
        cell,
        params,
        jnp.ones((num_steps, 1)),
        targets,
        lambda y, weight: weight * y[0],
        window=window,
    )
    kept = min(window, num_steps)
    assert float(gradient.recurrent_kernel[0, 0]) == pytest.approx(
        expected(kept), rel=1e-12
    )
    # In a long sequence the share lost is λᴷ.
    long = [(1 - decay**k) / (1 - decay) - k * decay**999 for k in (kept, 1000)]
    assert 1 - long[0] / long[1] == pytest.approx(decay**kept, rel=1e-9)


def test_truncation_slides_with_every_loss():
    # A copy of the params for each step tells how far back each loss reaches.
    cell, params, xs, targets, step_loss = case(cells.gru(2, 3))
    window = 3

    def losses(copies):
        def step(carry, inputs):
            copy, x, target = inputs
            carry, y = cell.step(copy, carry, x)
            return carry, step_loss(y, target)

        start = cell.initial_carry(params)
        return jax.lax.scan(step, start, (copies, xs, targets))[1]

    copies = jax.tree.map(lambda a: jnp.stack([a] * NUM_STEPS), params)
    lag = np.arange(NUM_STEPS)[:, None] - np.arange(NUM_STEPS)
    within = jnp.asarray(lag < window, jnp.float32)
    expected = jax.tree.map(
        lambda a: jnp.einsum("lt,lt...->...", within, a),
        jax.jit(jax.jacrev(losses))(copies),
    )
    (got,) = gradients(
        (cell, params, xs, targets, step_loss),
        None,
        functools.partial(truncated_gradient, window=window),
    )
    assert_trees_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1.0])
def test_bias_and_variance_by_hand(scale):
    measure = jax.jit(bias_and_variance)
    exact = {"a": scale * jnp.asarray([3.0, 0.0]), "b": scale * jnp.asarray(4.0)}
    # Mean (3, 5, 4): 5 away of a length of 5. Deviations ±1 in one entry: 2/(2 − 1).
    estimates = {
        "a": scale * jnp.asarray([[3.0, 4.0], [3.0, 6.0]]),
        "b": scale * jnp.asarray([4.0, 4.0]),
    }
    result = measure(estimates, exact)
    expected = (1.0, np.sqrt(2 / 2) / 5, 2 / 25, 25 / (5 * np.sqrt(50)))
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    zero = jax.tree.map(jnp.zeros_like, exact)
    result = measure(jax.tree.map(lambda a: a[None], zero), zero)
    np.testing.assert_array_equal(result, np.zeros(4))


def test_errors():
    args = case(cells.gru(2, 3))
    with pytest.raises(ValueError, match="window"):
        truncated_gradient(*args, window=0)
    batched = (*args[:2], args[2][None], *args[3:])
    with pytest.raises(ValueError, match=r"one sequence.*jax\.vmap"):
        bptt_gradient(*batched)
