"""The paths of an LSTM's cell and the timescales of gates: exact and by two routes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import cells, unroll
from seqjax.combinators import stack, zoneout
from seqjax.gradients.adjoint import log_gradient_norms
from seqjax.gradients.gates import gate_timescales, path_split
from tests.helpers import random_like


def dense_sum(ys):
    return jnp.sum(jnp.sin(ys))


def case(cell, num_steps, dtype=jnp.float32):
    params = random_like(cell.init(jax.random.key(0)), seed=1, scale=0.7)
    return cell, params, random_like(jnp.zeros((num_steps, 2), dtype), 2, scale=1.0)


def test_without_a_recurrent_kernel_all_comes_through_the_cell():
    num_steps, forget_bias = 100, 1.0
    cell = cells.lstm(1, 4, forget_bias=forget_bias)
    params = cell.init(jax.random.key(0))
    zeros = jnp.zeros_like
    params = params._replace(
        kernel=zeros(params.kernel), recurrent_kernel=zeros(params.recurrent_kernel)
    )
    xs = jnp.zeros((num_steps, 1))
    run = jax.jit(lambda xs: path_split(cell, params, xs, lambda ys: jnp.sum(ys[-1])))
    split = run(xs)
    forget = 1 / (1 + math.exp(-forget_bias))
    lag = num_steps - np.arange(num_steps)
    expected = math.log(2) + math.log(0.5) + lag * math.log(forget)
    # 100 factors, each rounded to float32: 1e-7 of each at the most.
    np.testing.assert_allclose(split.log_cell[:-1], expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(split.log_total, split.log_cell)
    assert np.all(split.log_hidden == -np.inf)
    np.testing.assert_allclose(split.cell_share[:-1], 1, rtol=1e-6)
    assert not np.any(split.hidden_share)
    # At lag 100 the constant in front is 1: sigmoid(1)^100 to the five digits.
    longest = math.exp(split.log_cell[0])
    assert longest == pytest.approx(2.4844e-14, rel=3e-5, abs=0)


def test_split_equals_gradients_with_and_without_stopped_hidden(x64):
    num_steps = 6
    cell, params, xs = case(
        cells.lstm(2, 3, peephole=True, dtype=jnp.float64), num_steps, jnp.float64
    )
    start = cell.initial_carry(params)
    carries, _ = unroll(cell, params, xs, start, return_carries=True)

    @functools.partial(jax.jit, static_argnums=1)
    def gradient(taps, stopped):
        """By additions to every cell; with `stopped`, no gradient enters any h."""

        def loss(taps):
            def step(carry, inputs):
                x, tap = inputs
                hidden = carry.hidden
                hidden = jax.lax.stop_gradient(hidden) if stopped else hidden
                return cell.step(params, cells.LSTMCarry(hidden, carry.cell + tap), x)

            return dense_sum(jax.lax.scan(step, start, (xs, taps))[1])

        return jax.grad(loss)(taps)

    taps = jnp.zeros_like(carries.cell)
    total, alone = np.asarray(gradient(taps, False)), np.asarray(gradient(taps, True))
    split = jax.jit(lambda xs: path_split(cell, params, xs, dense_sum))(xs)
    for curve, vectors in (
        (split.log_total, total),
        (split.log_cell, alone),
        (split.log_hidden[:-1], (total - alone)[:-1]),
    ):
        expected = np.log(np.linalg.norm(vectors, axis=1))
        np.testing.assert_allclose(curve[: len(expected)], expected, atol=1e-12)
    square = np.sum(total**2, axis=1)
    shares = np.sum(alone * total, axis=1) / square
    np.testing.assert_allclose(split.cell_share[:-1], shares, atol=1e-12)
    np.testing.assert_allclose(split.hidden_share[:-1], 1 - shares, atol=1e-12)
    # The last step has no later one to pass h through.
    assert split.log_hidden[num_steps - 1] == -np.inf
    assert all(curve[-1] == -np.inf for curve in split[:3])


def test_split_is_right_far_below_the_range_of_float32():
    cell, params, xs = case(cells.lstm(2, 4), 2000)
    run = jax.jit(
        lambda xs: (
            path_split(cell, params, xs, lambda ys: jnp.sum(ys[-1])),
            log_gradient_norms(cell, params, xs, lambda ys: jnp.sum(ys[-1])),
        )
    )
    split, norms = run(xs)
    assert float(norms.parts.cell[0]) < -500
    np.testing.assert_allclose(split.log_total, norms.parts.cell, atol=1e-2)
    assert np.all(np.isfinite(split.log_hidden[:1990]))
    assert np.all(np.isfinite(split.log_cell[:-1]))
    shares = split.cell_share + split.hidden_share
    np.testing.assert_allclose(shares[:-1], 1, atol=1e-3)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_timescale_of_a_constant_forget_gate(layer_norm):
    bias = 2.0
    cell = cells.lstm(2, 3, forget_bias=bias, layer_norm=layer_norm)
    params = cell.init(jax.random.key(0))
    for name in ("kernel", "recurrent_kernel"):
        params = params._replace(**{name: jnp.zeros_like(getattr(params, name))})
    gates = gate_timescales(cell, params, jnp.ones((5, 2)))
    rate = -math.log(1 + math.exp(-bias))
    np.testing.assert_allclose(gates.mean_log_factor, [rate] * 3, rtol=1e-5)
    np.testing.assert_allclose(gates.timescale, [-1 / rate] * 3, rtol=1e-5)
    np.testing.assert_allclose(gates.quantiles, np.full((3, 3), rate), rtol=1e-5)


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_before"])
def test_factors_are_the_gates(name, x64):
    make = {
        "lstm": cells.lstm,
        "gru": cells.gru,
        "gru_before": functools.partial(cells.gru, reset_after=False),
    }[name]
    cell, params, xs = case(make(2, 4, dtype=jnp.float64), 9, jnp.float64)
    carries, _ = unroll(cell, params, xs, return_carries=True)
    hidden = np.concatenate([np.zeros((1, 4)), np.asarray(carries.hidden)[:-1]])
    z = xs @ params.kernel + hidden @ params.recurrent_kernel + params.bias[None]
    # The second block of i f g o, and of r z n.
    logs = -np.log1p(np.exp(-np.asarray(z)[:, 4:8]))
    gates = jax.jit(lambda xs: gate_timescales(cell, params, xs))(xs)
    np.testing.assert_allclose(gates.mean_log_factor, logs.mean(0), rtol=1e-12)
    np.testing.assert_allclose(gates.timescale, -1 / logs.mean(0), rtol=1e-12)
    # Of nine steps: the second smallest (0.1 · 8 = 0.8), the middle one, the eighth.
    np.testing.assert_allclose(
        gates.quantiles, np.sort(logs, axis=0)[[1, 4, 7]], rtol=1e-12
    )


def test_memory_without_forgetting_has_no_timescale():
    cell, params, xs = case(cells.lstm(2, 3, forget_gate=False), 4)
    gates = gate_timescales(cell, params, xs)
    assert np.all(gates.timescale == np.inf)
    assert not np.any(gates.mean_log_factor)


def test_shut_gate_forgets_at_once():
    cell, params, xs = case(cells.lstm(2, 3), 4)
    params = params._replace(bias=params.bias.at[3:6].set(-200.0))
    gates = gate_timescales(cell, params, xs)
    assert not np.any(gates.timescale)
    assert np.all(gates.quantiles == -np.inf)


def test_other_cells_are_refused():
    xs = jnp.ones((3, 2))
    for cell in (
        cells.elman(2, 3),
        zoneout(cells.lstm(2, 3), 0.1),
        stack(cells.gru(2, 3)),
    ):
        params = cell.init(jax.random.key(0))
        with pytest.raises(ValueError, match=r"an lstm or a gru .* got"):
            gate_timescales(cell, params, xs)
    gru = cells.gru(2, 3)
    with pytest.raises(ValueError, match=r"LSTMCarry, got gru"):
        path_split(gru, gru.init(jax.random.key(0)), xs, dense_sum)
