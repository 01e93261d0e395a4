"""Penalties and projections: hand cases, and gradients against finite differences."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from seqjax import cells
from seqjax.gradients.lyapunov import lyapunov_exponents
from seqjax.gradients.remedies import (
    clip_effect,
    flossing_penalty,
    limit_spectral_norm,
    omega_penalty,
    orthogonal_penalty,
)
from tests.helpers import random_like


def last_sum(ys):
    return jnp.sum(ys[-1])


def linear(gain, size=3, dtype=jnp.float32):
    cell = cells.elman(1, size, activation="identity", dtype=dtype)
    params = cell.init(jax.random.key(0))
    return cell, params._replace(recurrent_kernel=gain * params.recurrent_kernel)


def wide_case(cell, num_steps=5):
    """Float64 params and inputs away from zero."""
    params = random_like(cell.init(jax.random.key(0)), seed=1)
    return params, random_like(jnp.zeros((num_steps, 2)), seed=2, scale=1.0)


def assert_matches_differences(fn, params):
    """The gradient along one random direction, against central differences."""
    flat, unravel = ravel_pytree(params)
    direction = np.random.default_rng(4).standard_normal(flat.shape)
    step = 1e-5

    @jax.jit
    def along(offset):
        return fn(unravel(flat + offset * direction))

    difference = (along(step) - along(-step)) / (2 * step)
    # Truncation is of order step² = 1e-10 and rounding of 1e-16/step = 1e-11.
    assert float(jax.grad(along)(0.0)) == pytest.approx(float(difference), rel=1e-7)
    assert abs(float(difference)) > 1e-3


def test_omega_of_a_scaled_orthogonal_recurrence():
    cell, params = linear(1.0)

    @jax.jit
    def penalty(gain):
        scaled = params._replace(recurrent_kernel=gain * params.recurrent_kernel)
        # 1e-30 of the loss: only directions count.
        return omega_penalty(
            cell, scaled, jnp.ones((4, 1)), lambda ys: 1e-30 * last_sum(ys)
        )

    for gain in (0.5, 1.0, 1.5):
        # Four steps; nothing comes back to the last one from a later carry.
        assert float(penalty(gain)) == pytest.approx(3 * (gain - 1) ** 2, abs=1e-6)


def test_omega_holds_directions_as_the_paper_does(x64):
    cell, params = linear(0.7, dtype=jnp.float64)
    params = params._replace(
        recurrent_kernel=random_like(params.recurrent_kernel, seed=3)
    )
    xs = jnp.ones((4, 1))
    kernel = np.asarray(params.recurrent_kernel)
    # The error at the start of each step, backwards from ones: u Rᵀ of the later one.
    later = [np.ones(3) @ kernel.T]
    later += [later[0] @ kernel.T]
    later += [later[1] @ kernel.T]
    # ∂/∂R of (‖u Rᵀ‖ − 1)² with unit u held.
    expected, value = np.zeros((3, 3)), 0.0
    for u in later:
        u = u / np.linalg.norm(u)
        pulled = kernel @ u
        length = np.linalg.norm(pulled)
        value += (length - 1) ** 2
        expected += 2 * (length - 1) / length * np.outer(pulled, u)
    run = jax.value_and_grad(lambda p: omega_penalty(cell, p, xs, last_sum))
    got, gradient = jax.jit(run)(params)
    assert float(got) == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(gradient.recurrent_kernel, expected, rtol=1e-10)
    assert not np.any(gradient.kernel)


def test_omega_can_be_differentiated_as_a_whole(x64):
    cell = cells.elman(2, 2, dtype=jnp.float64)
    params, xs = wide_case(cell, num_steps=4)

    def penalty(params):
        return omega_penalty(
            cell, params, xs, lambda ys: jnp.sum(jnp.sin(ys)), constant=False
        )

    assert_matches_differences(penalty, params)


def test_omega_of_dead_units_is_finite():
    cell = cells.irnn(1, 3)
    params = cell.init(jax.random.key(0))._replace(bias=jnp.full(3, -1.0))
    run = jax.jit(
        jax.value_and_grad(
            lambda p: omega_penalty(cell, p, jnp.zeros((4, 1)), last_sum)
        )
    )
    penalty, gradient = run(params)
    # No error comes back to any carry: nothing to keep.
    assert float(penalty) == 0
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_flossing_of_a_scaled_orthogonal_recurrence():
    cell, params = linear(0.5)
    run = jax.jit(
        lambda target: flossing_penalty(cell, params, jnp.ones((10, 1)), 2, target)
    )
    for target in (0.0, -0.5):
        expected = (math.log(0.5) - target) ** 2
        assert float(run(target)) == pytest.approx(expected, rel=1e-5)


def test_flossing_gradient_is_that_of_differences(x64):
    cell = cells.lstm(2, 2, dtype=jnp.float64)
    params, xs = wide_case(cell, num_steps=8)

    def penalty(params):
        return flossing_penalty(
            cell, params, xs, 3, jnp.asarray([0.1, 0.0, -0.1]), key=jax.random.key(3)
        )

    assert_matches_differences(penalty, params)


def test_flossing_sees_the_lyapunov_exponents(x64):
    cell = cells.gru(2, 3, dtype=jnp.float64)
    params, xs = wide_case(cell, num_steps=12)
    measured = lyapunov_exponents(cell, params, xs, 2, burn_in=0.5, num_blocks=2)
    penalty = flossing_penalty(cell, params, xs, 2, burn_in=0.5)
    expected = np.mean(np.square(measured.exponents))
    assert float(penalty) == pytest.approx(expected, rel=1e-10)


def test_orthogonal_penalty_takes_blocks_alone():
    blocks = np.random.default_rng(0).standard_normal((2, 3, 3))
    rotations = np.linalg.qr(blocks)[0]
    kernel = jnp.asarray(np.concatenate(list(rotations), axis=1), jnp.float32)
    assert float(orthogonal_penalty(kernel, num_blocks=2)) < 1e-10
    # Of the two side by side the rows have length √2: ‖2 I − I‖² = 3.
    assert float(orthogonal_penalty(kernel)) == pytest.approx(3, rel=1e-5)
    scaled = orthogonal_penalty(kernel * 2, num_blocks=2)
    assert float(scaled) == pytest.approx(2 * 3 * 9, rel=1e-5)
    assert float(orthogonal_penalty(kernel[:, :2])) < 1e-10


def test_spectral_norm_is_cut_and_nothing_else():
    rng = np.random.default_rng(1)
    left, right = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(2))
    large = left @ np.diag([4.0, 1.5, 0.2]) @ right
    small = left @ np.diag([0.9, 0.3, 0.1]) @ right
    kernel = jnp.asarray(np.concatenate([large, small], axis=1), jnp.float32)
    limited = limit_spectral_norm(kernel, 1.0, num_blocks=2)
    expected = left @ np.diag([1.0, 1.0, 0.2]) @ right
    # A float32 decomposition of values up to 4.
    np.testing.assert_allclose(limited[:, :3], expected, atol=3e-6)
    np.testing.assert_array_equal(limited[:, 3:], kernel[:, 3:])
    values = np.linalg.svd(np.asarray(limit_spectral_norm(kernel, 0.5)))[1]
    assert np.max(values) == pytest.approx(0.5, rel=1e-5)


def test_clip_effect_by_hand_and_at_zero():
    gradients = {"a": jnp.asarray([3e-25]), "b": jnp.asarray([4e-25])}
    halved = jax.tree.map(lambda a: a / 2, gradients)
    effect = clip_effect(gradients, halved)
    np.testing.assert_allclose(effect, (5e-25, 2.5e-25, 1), rtol=1e-6)
    turned = clip_effect(gradients, {"a": gradients["a"], "b": 0 * gradients["b"]})
    np.testing.assert_allclose(turned, (5e-25, 3e-25, 0.6), rtol=1e-6)
    zeros = jax.tree.map(jnp.zeros_like, gradients)
    np.testing.assert_array_equal(clip_effect(zeros, zeros), np.zeros(3))


def test_errors():
    cell, params = linear(1.0)
    xs = jnp.ones((4, 1))
    with pytest.raises(ValueError, match="num_exponents: expected at most 3"):
        flossing_penalty(cell, params, xs, 4)
    with pytest.raises(ValueError, match="burn_in"):
        flossing_penalty(cell, params, xs, 2, burn_in=1.0)
    with pytest.raises(ValueError, match="limit"):
        limit_spectral_norm(jnp.eye(2), 0.0)
    for fn in (orthogonal_penalty, functools.partial(limit_spectral_norm, limit=1.0)):
        with pytest.raises(ValueError, match=r"3 blocks side by side, got .*\[2, 4\]"):
            fn(jnp.ones((2, 4)), num_blocks=3)
