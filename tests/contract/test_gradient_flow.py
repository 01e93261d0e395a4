"""Every cell can be measured, and no measure is NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.gradients import (
    gradient_shares,
    log_gradient_norms,
    log_lag_norms,
    log_tangent_norms,
    lyapunov_exponents,
)
from tests.contract.cases import INPUT_SIZE, away_from_zero, make
from tests.helpers import random_like

NUM_STEPS = 9


def dense(ys):
    return jnp.sum(jnp.sin(ys))


@pytest.mark.parametrize(
    "name", ["elman", "irnn", "jordan", "lstm", "gru", "exprnn", "lru", "hand_made"]
)
def test_every_measure(name):
    cell = make(name)
    params = away_from_zero(cell)
    xs = jax.random.normal(jax.random.key(1), (NUM_STEPS, INPUT_SIZE))

    @jax.jit
    def measure(params, xs):
        carry = cell.initial_carry(params)
        tangent = random_like(carry, seed=3)
        anchors = jnp.arange(NUM_STEPS)
        return {
            "all": log_gradient_norms(cell, params, xs, dense),
            "last": log_gradient_norms(cell, params, xs, dense, outputs="last"),
            "lags": log_lag_norms(cell, params, xs, dense, anchors),
            "tangent": log_tangent_norms(cell, params, xs, tangent),
            "shares": gradient_shares(cell, params, xs, dense, edges=(1, 3)),
            "exponents": lyapunov_exponents(cell, params, xs, 1, num_blocks=2),
        }

    rows = measure(params, xs)
    for leaf in jax.tree.leaves(rows):
        assert not bool(jnp.any(jnp.isnan(leaf)))
    assert float(jnp.sum(rows["shares"].projections)) == pytest.approx(1, abs=1e-4)
    # The loss on one output is followed back as the loss on the last one is.
    np.testing.assert_allclose(
        rows["lags"].joint[-1], rows["last"].joint, rtol=0, atol=1e-5
    )
    # A dense loss adds up what single outputs contribute: no more than their sum.
    joint = np.asarray(rows["lags"].joint)
    assert np.all(rows["all"].joint[:-1] <= np.logaddexp.reduce(joint)[:-1] + 1e-4)
