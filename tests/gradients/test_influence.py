"""Gradients carried forward: one exact gradient by every exact route, known errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import cells
from seqjax.combinators import learned_carry, stack
from seqjax.gradients.element_wise import diagonal_rtrl_gradient
from seqjax.gradients.estimators import (
    bias_and_variance,
    bptt_gradient,
    truncated_gradient,
)
from seqjax.gradients.influence import rtrl_gradient, snap1_gradient, uoro_gradient
from tests.gradients.estimator_cases import (
    NUM_STEPS,
    case,
    gradients,
    rotation,
    square_error,
    tanh_leak,
)
from tests.helpers import assert_trees_close


def test_one_unit_per_entry_has_one_gradient_by_every_route(x64):
    exact, *others = gradients(
        case(tanh_leak(2, 3, dtype=jnp.float64), jnp.float64),
        None,
        bptt_gradient,
        rtrl_gradient,
        diagonal_rtrl_gradient,
        snap1_gradient,
        functools.partial(truncated_gradient, window=NUM_STEPS),
    )
    for other in others:
        # Seven steps of float64 rounding.
        assert_trees_close(other, exact, rtol=1e-12, atol=1e-13)


def test_units_of_two_entries_are_element_wise_as_well(x64):
    exact, diagonal = gradients(
        case(rotation(2, 3, dtype=jnp.float64), jnp.float64),
        None,
        bptt_gradient,
        diagonal_rtrl_gradient,
    )
    assert_trees_close(diagonal, exact, rtol=1e-12, atol=1e-12)


def test_dense_recurrence_is_exact_by_the_exact_routes_alone(x64):
    exact, rtrl, snap = gradients(
        case(cells.gru(2, 3, dtype=jnp.float64), jnp.float64),
        None,
        bptt_gradient,
        rtrl_gradient,
        snap1_gradient,
    )
    assert_trees_close(rtrl, exact, rtol=1e-11, atol=1e-12)
    error = bias_and_variance(jax.tree.map(lambda a: a[None], snap), exact)
    # Far from rounding, and yet a gradient of the same kind.
    assert 1e-3 < float(error.relative_bias) < 1
    assert float(error.cosine) > 0.5


def test_two_parts_and_a_learned_start_are_exact(x64):
    cell = learned_carry(cells.lstm(2, 2, peephole=True, dtype=jnp.float64))
    exact, rtrl = gradients(case(cell, jnp.float64), None, bptt_gradient, rtrl_gradient)
    assert np.all(np.abs(exact.outer.cell) > 1e-4)
    assert_trees_close(rtrl, exact, rtol=1e-11, atol=1e-12)


def test_gradient_starts_from_the_given_carry():
    cell = tanh_leak(2, 3)
    start = jnp.asarray([0.3, -0.2, 0.9])
    exact, *others = gradients(
        case(cell),
        start,
        bptt_gradient,
        rtrl_gradient,
        diagonal_rtrl_gradient,
        functools.partial(truncated_gradient, window=NUM_STEPS),
    )
    assert not np.any(exact["start"])
    for other in others:
        assert_trees_close(other, exact, rtol=1e-5, atol=1e-5)


def test_snap1_by_hand():
    # h′ = h R + x with R of 2 units: after two steps from 0 the param R_ji has moved
    # unit i by h_j; its way through the other unit is left out.
    cell = cells.elman(2, 2, activation="identity")
    r = np.array([[0.5, 2.0], [3.0, -1.0]], np.float32)
    params = cells.ElmanParams(jnp.eye(2), jnp.asarray(r), jnp.zeros(2))
    xs = jnp.asarray([[1.0, 2.0], [0.5, -1.0], [0.0, 0.0]])
    h1 = np.array([1.0, 2.0])
    h2 = h1 @ r + np.array([0.5, -1.0])
    targets = jnp.asarray([0.0, 0.0, 1.0])
    gradient = snap1_gradient(cell, params, xs, targets, lambda y, w: w * y[0] + 0 * w)
    # Own path at lag 1: h2_j into unit 0; at lag 2: h1_j into unit 0 times R_00. Into
    # unit 1 the last step alone counts: E[1, R_j1] = h1_j, times R_10 into unit 0 is a
    # way through another unit, which the loss's own Jacobian still takes.
    expected = np.zeros((2, 2))
    expected[:, 0] = h2 + r[0, 0] * h1
    expected[:, 1] = r[1, 0] * h1
    np.testing.assert_allclose(gradient.recurrent_kernel, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "cell",
    [
        cells.irnn(2, 3),
        stack(tanh_leak(2, 3), tanh_leak(3, 3)),
        stack(tanh_leak(2, 3), tanh_leak(3, 4)),
    ],
    ids=repr,
)
def test_diagonal_influence_refuses_other_recurrences(cell):
    # The kernel of an IRNN starts as the identity, and is yet no diagonal one.
    params = cell.init(jax.random.key(0))

    def run(xs):
        return diagonal_rtrl_gradient(cell, params, xs, jnp.zeros(4), square_error)

    with pytest.raises(ValueError, match=r"element-wise recurrence|one shape"):
        jax.eval_shape(run, jnp.ones((4, 2)))


def test_rank_one_influence_is_right_on_average():
    args = case(learned_carry(cells.gru(2, 2)), num_steps=4)

    @jax.jit
    def sample(keys):
        estimate = jax.vmap(lambda key: uoro_gradient(*args, key=key))
        return estimate(keys), bptt_gradient(*args)

    estimates, exact = sample(jax.random.split(jax.random.key(5), 20_000))
    result = bias_and_variance(estimates, exact)
    assert float(result.relative_variance) > 1e-3
    assert float(result.relative_bias) < 3 * float(result.standard_error)
    assert float(result.cosine) > 0.99
    # A bias of 5 % of the gradient is seen.
    broken = jax.tree.map(lambda a, g: a + 0.05 * g[None], estimates, exact)
    result = bias_and_variance(broken, exact)
    assert float(result.relative_bias) > 3 * float(result.standard_error)


def test_one_unit_and_one_step_back_leave_nothing_to_chance():
    # The signs of carry and params meet twice: the same gradient from every key.
    cell = cells.elman(1, 1, activation="identity")
    one = jnp.ones((1, 1))
    params = cells.ElmanParams(one, 0.5 * one, jnp.zeros(1))
    xs, weights = jnp.asarray([[1.0], [2.0]]), jnp.asarray([0.0, 1.0])
    keys = jax.random.split(jax.random.key(0), 4)

    @jax.jit
    @jax.vmap
    def sample(key):
        return uoro_gradient(cell, params, xs, weights, lambda y, w: w * y[0], key=key)

    # h₂ = r (x₁ w + b) + x₂ w + b at r = 1/2: by w, by r and by b.
    for gradient, expected in zip(sample(keys), (2.5, 1.0, 1.5), strict=True):
        np.testing.assert_allclose(gradient.ravel(), [expected] * 4, rtol=1e-5)


def test_rank_one_influence_survives_dead_units():
    cell = cells.irnn(2, 3)
    params = cell.init(jax.random.key(0))._replace(bias=jnp.full(3, -1.0))

    @jax.jit
    def sample(key):
        xs = jnp.zeros((5, 2))
        return uoro_gradient(cell, params, xs, jnp.ones(5), square_error, key=key)

    gradient = sample(jax.random.key(0))
    assert_trees_close(gradient, jax.tree.map(jnp.zeros_like, params))


def test_more_than_one_sequence_is_refused():
    args = case(cells.gru(2, 3))
    batched = (*args[:2], args[2][None], *args[3:])
    with pytest.raises(ValueError, match=r"one sequence.*jax\.vmap"):
        rtrl_gradient(*batched)
