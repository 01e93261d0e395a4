"""Gradients by lag: against single outputs followed back by ordinary autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import cells, tree, unroll
from seqjax.gradients import (
    align_lags,
    gradient_shares,
    log_gradient_norms,
    log_lag_norms,
    truncation_error,
)
from tests.helpers import assert_trees_close

CELL = cells.lstm(3, 4)
PARAMS = CELL.init(jax.random.key(0))
XS = jax.random.normal(jax.random.key(1), (7, 3))


def dense(ys):
    return jnp.sum(jnp.sin(ys))


def leaky(rate):
    cell = cells.elman(1, 1, activation="identity")
    ones = jnp.ones((1, 1))
    return cell, cells.ElmanParams(ones, rate * ones, jnp.zeros(1))


def test_rows_are_those_of_a_loss_on_one_output():
    anchors = [1, 4, 6]
    ys = unroll(CELL, PARAMS, XS)[1]
    output_gradients = jax.grad(dense)(ys)

    @jax.jit
    def both_routes(xs):
        rows = log_lag_norms(CELL, PARAMS, xs, dense, jnp.asarray(anchors))
        single = [
            log_gradient_norms(
                CELL, PARAMS, xs, lambda ys, k=k: jnp.sum(ys[k] * output_gradients[k])
            )
            for k in anchors
        ]
        return rows, jax.tree.map(lambda *rows: jnp.stack(rows), *single)

    ours, expected = both_routes(XS)
    assert_trees_close(ours, expected, atol=1e-5)


def test_lags_line_up():
    cell, params = leaky(0.5)
    anchors = jnp.asarray([3, 1])
    rows = log_lag_norms(cell, params, jnp.ones((5, 1)), jnp.sum, anchors)
    lags = align_lags(rows.joint, anchors)
    assert lags.shape == (2, 5)
    expected = np.log(0.5) * np.arange(1, 5)
    np.testing.assert_allclose(lags[0, :4], expected, rtol=1e-6)
    np.testing.assert_allclose(lags[1, :2], expected[:2], rtol=1e-6)
    assert np.isnan(lags[1, 2:]).all()
    assert np.isnan(lags[0, 4])


def gradient_up_to_lag(most):
    """The parameter gradient from lags 0 … most, a few single steps per output."""
    carries, ys = unroll(CELL, PARAMS, XS, return_carries=True)
    output_gradients = jax.grad(dense)(ys)
    entering = jax.tree.map(
        lambda a, b: jnp.concatenate([a[None], b]), CELL.initial_carry(PARAMS), carries
    )

    def loss(params):
        total = jnp.zeros(())
        for k in range(XS.shape[0]):
            first = max(0, k - most)
            carry = jax.tree.map(lambda a, t=first: a[t], entering)
            for x in XS[first:k]:
                carry, _ = CELL.step(params, carry, x)
            _, y = CELL.step(params, carry, XS[k])
            total += jnp.sum(y * output_gradients[k])
        return total

    return jax.grad(loss)(PARAMS)


def test_shares_are_the_gradients_of_short_runs():
    @jax.jit
    def both_routes():
        return (
            gradient_shares(CELL, PARAMS, XS, dense, edges=(1, 3)),
            [gradient_up_to_lag(most) for most in (0, 2, 6)],
            jax.grad(lambda p: dense(unroll(CELL, p, XS)[1]))(PARAMS),
        )

    shares, up_to, full = both_routes()
    assert_trees_close(up_to[2], full, atol=1e-5)

    def minus(a, b):
        return jax.tree.map(jnp.subtract, a, b)

    parts = [up_to[0], minus(up_to[1], up_to[0]), minus(up_to[2], up_to[1])]
    for part, log_norm, projection in zip(parts, *shares, strict=True):
        assert float(log_norm) == pytest.approx(float(tree.log_norm(part)), abs=1e-4)
        dot = jax.tree.reduce(
            jnp.add, jax.tree.map(lambda a, b: jnp.sum(a * b), part, full)
        )
        expected = float(dot) / float(tree.norm(full)) ** 2
        # About 100 roundings of numbers of size 1 on either route.
        assert float(projection) == pytest.approx(expected, abs=1e-5)
    assert float(jnp.sum(shares.projections)) == pytest.approx(1, abs=1e-5)


def test_shares_of_a_loss_on_the_last_output_need_one_anchor():
    def last(ys):
        return jnp.sum(ys[-1])

    @jax.jit
    def both(xs):
        return (
            gradient_shares(CELL, PARAMS, xs, last, edges=(2,)),
            gradient_shares(CELL, PARAMS, xs, last, edges=(2,), anchors=jnp.array([6])),
        )

    assert_trees_close(*both(XS), atol=1e-6)


def test_shares_far_below_float32():
    # dL/db of h' = λ h + b is Σ λ^lag: with λ = e^-1 and 300 steps the last of the
    # buckets lies at e^-200, far below the smallest float32.
    cell, params = leaky(np.exp(-1))
    xs = jnp.zeros((300, 1))
    shares = jax.jit(
        lambda xs: gradient_shares(
            cell,
            params,
            xs,
            lambda ys: ys[-1, 0],
            edges=(1, 200),
            anchors=jnp.array([299]),
        )
    )(xs)
    # With x = 0 and b = 0 the carry stays 0 and b alone has a gradient.
    tail = -200 + np.log((1 - np.exp(-100)) / (1 - np.exp(-1)))
    assert float(shares.log_norms[0]) == pytest.approx(0, abs=1e-6)
    assert float(shares.log_norms[2]) == pytest.approx(tail, abs=1e-3)


def test_no_gradient_has_no_shares():
    shares = jax.jit(
        lambda xs: gradient_shares(CELL, PARAMS, xs, lambda ys: 0 * jnp.sum(ys))
    )(XS)
    assert shares.projections.tolist() == [0] * 5
    assert bool(jnp.all(shares.log_norms == -jnp.inf))


def test_truncation_loses_what_lies_before_the_last_cut():
    # h' = λ h + b with a loss on the last output: of Σ λ^lag the cut leaves the lags of
    # the last window.
    rate, num_steps = 0.9, 20
    cell, params = leaky(rate)
    error = truncation_error(
        cell, params, jnp.zeros((num_steps, 1)), lambda ys: ys[-1, 0], [5, 8, 20]
    )
    lost = [(rate**kept - rate**20) / (1 - rate**20) for kept in (5, 4, 20)]
    np.testing.assert_allclose(error.relative_error, lost, atol=1e-6)
    np.testing.assert_allclose(error.cosine, 1, atol=1e-6)


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="rising lags"):
        gradient_shares(CELL, PARAMS, XS, dense, edges=(10, 1))
    with pytest.raises(ValueError, match="window"):
        truncation_error(CELL, PARAMS, XS, dense, [0])
    with pytest.raises(ValueError, match="one sequence"):
        log_lag_norms(CELL, PARAMS, XS[None], dense, jnp.array([0]))
