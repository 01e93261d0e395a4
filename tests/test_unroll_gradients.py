"""Gradients of `unroll`: truncation, checkpoints, and the transforms of JAX."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import cells, make_probes, unroll
from tests.helpers import (
    assert_trees_close,
    random_like,
    value_and_grads,
    weighted_sum,
)
from tests.unroll_cases import LENGTHS, LSTM, run, sequence_case, take, temporary_bytes

ELMAN = cells.elman(3, 4)

# Sums of a few dozen float32 terms of order one, in different orders.
assert_close = functools.partial(assert_trees_close, rtol=1e-5, atol=2e-6)


def _results_and_gradients(run, case):
    """With a loss that weighs every entry of the final carry and of the outputs."""
    params, xs, carry = case
    weights = random_like(jax.eval_shape(run, *case), seed=5)
    return value_and_grads(run, params, xs, carry, weights)


def _truncated_loop(window: int, length: int, reverse: bool):
    """A loop over the real steps that stops gradients between windows."""

    def run(params, xs, carry):
        order = range(length)[::-1] if reverse else range(length)
        ys = [jnp.zeros(4)] * len(xs)
        for count, t in enumerate(order):
            if count > 0 and count % window == 0:
                carry = jax.lax.stop_gradient(carry)
            carry, ys[t] = ELMAN.step(params, carry, xs[t])
        return carry, jnp.stack(ys)

    return run


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [6, 3])
@pytest.mark.parametrize("window", [1, 2])
def test_windows_cut_gradients_like_a_loop(window, length, reverse):
    case = sequence_case(cell=ELMAN, num_steps=6)

    def windowed(params, xs, carry):
        options = {"lengths": jnp.asarray(length, jnp.int32), "window": window}
        return run(ELMAN, params, xs, carry, reverse=reverse, **options)

    expected = _results_and_gradients(_truncated_loop(window, length, reverse), case)
    assert_close(_results_and_gradients(windowed, case), expected)


@pytest.mark.parametrize("window", [5, 7])
def test_a_window_of_all_steps_cuts_nothing(window):
    case = sequence_case(2)
    windowed = _results_and_gradients(functools.partial(run, LSTM, window=window), case)
    full = _results_and_gradients(functools.partial(run, LSTM), case)
    assert_close(windowed, full)
    cut = _results_and_gradients(functools.partial(run, LSTM, window=4), case)
    assert_close(cut[0], full[0])
    assert not np.allclose(cut[1][0].kernel, full[1][0].kernel, rtol=1e-3)


@pytest.mark.parametrize("num_steps", [*range(1, 11), 13, 16])
def test_checkpoints_change_no_value_and_no_gradient(num_steps):
    case = sequence_case(cell=ELMAN, num_steps=num_steps)
    scan, checkpoint = (
        _results_and_gradients(functools.partial(run, ELMAN, method=method), case)
        for method in ("scan", "checkpoint")
    )
    assert_trees_close(checkpoint[0], scan[0])
    assert_close(checkpoint[1], scan[1])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("num_steps", [9, 11])
def test_checkpoints_agree_with_every_option(num_steps, reverse):
    params, xs, carry = sequence_case(3, cell=ELMAN, num_steps=num_steps)
    probes = make_probes(ELMAN, params, (3,), num_steps)
    resets = jnp.zeros((3, num_steps), bool).at[:, 4].set(True)

    def results(method):
        def run_all(arguments, xs, carry):
            params, probes = arguments
            return run(
                ELMAN,
                params,
                xs,
                carry,
                lengths=jnp.array([num_steps, 5, 0]),
                resets=resets,
                window=3,
                reverse=reverse,
                method=method,
                probes=probes,
            )

        return _results_and_gradients(run_all, ((params, probes), xs, carry))

    scan, checkpoint = results("scan"), results("checkpoint")
    assert_trees_close(checkpoint[0], scan[0])
    assert_close(checkpoint[1], scan[1])
    log_norms = checkpoint[1][0][1].hidden
    assert np.any(np.isfinite(log_norms))
    assert np.any(log_norms == -np.inf)


@pytest.mark.parametrize("reverse", [False, True])
def test_checkpoints_return_the_same_carries(reverse):
    case = sequence_case(2, cell=ELMAN, num_steps=7)
    options = {"return_carries": True, "reverse": reverse}
    scan = run(ELMAN, *case, method="scan", **options)
    assert_trees_close(run(ELMAN, *case, method="checkpoint", **options), scan)


def test_checkpoints_need_memory_of_the_square_root_of_the_steps():
    params, _, _ = sequence_case()

    def needed(method, num_steps):
        def loss(params, xs):
            return jnp.sum(unroll(LSTM, params, xs, method=method)[1])

        xs = jax.ShapeDtypeStruct((num_steps, 3), jnp.float32)
        return temporary_bytes(jax.jit(jax.grad(loss)).lower(params, xs).compile())

    def beyond_numbers(num_steps):
        # The scan counts its steps: 4 bytes each.
        return needed("checkpoint", num_steps) - num_steps * 4

    # Measured: 788 kB against 10 kB; and 6 kB at 1024 steps, 18 kB at 16384.
    assert needed("scan", 4096) > 40 * beyond_numbers(4096)
    few, many = (beyond_numbers(n) for n in (1024, 16384))
    assert 2 * few < many < 5 * few


def test_jit_equals_eager():
    params, xs, carry = sequence_case(3)
    lengths = jnp.asarray(LENGTHS[0])
    resets = jnp.zeros((3, 5), bool).at[:, 2].set(True)
    got = run(LSTM, params, xs, carry, lengths=lengths, resets=resets)
    # The step compiled with its surroundings against the step alone.
    assert_close(got, unroll(LSTM, params, xs, carry, lengths=lengths, resets=resets))


def test_vmap_of_unroll_is_the_batched_unroll():
    params, xs, carry = sequence_case(3)
    lengths = jnp.asarray(LENGTHS[0])
    resets = jnp.zeros((3, 5), bool).at[1, 2].set(True)

    def single(params, xs, carry, lengths, resets):
        return unroll(LSTM, params, xs, carry, lengths=lengths, resets=resets)

    def mapped(params, xs, carry):
        batched = jax.vmap(single, (None, 0, 0, 0, 0))
        return batched(params, xs, carry, lengths, resets)

    def whole(params, xs, carry):
        return run(LSTM, params, xs, carry, lengths=lengths, resets=resets)

    got = _results_and_gradients(mapped, (params, xs, carry))
    expected = _results_and_gradients(whole, (params, xs, carry))
    assert_trees_close(got[0], expected[0])
    assert_close(got[1], expected[1])


def test_vmap_over_params_runs_an_ensemble():
    cases = [sequence_case(2)[0], random_like(sequence_case()[0], seed=9)]
    _, xs, _ = sequence_case(2)
    ensemble = jax.tree.map(lambda *a: jnp.stack(a), *cases)
    got = jax.jit(jax.vmap(functools.partial(unroll, LSTM), (0, None)))(ensemble, xs)
    for i, params in enumerate(cases):
        assert_close(take(got, i), run(LSTM, params, xs))


@pytest.mark.parametrize("method", ["scan", "checkpoint"])
def test_forward_mode_equals_reverse_mode(method):
    params, xs, carry = sequence_case(num_steps=4)

    def final(xs, carry):
        options = {"lengths": jnp.asarray(3), "method": method}
        return run(LSTM, params, xs, carry, **options)

    forward = jax.jit(jax.jacfwd(final, (0, 1)))(xs, carry)
    assert_close(forward, jax.jit(jax.jacrev(final, (0, 1)))(xs, carry))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", ["scan", "checkpoint"])
def test_second_derivatives_agree_with_finite_differences(method):
    cell = cells.gru(3, 2, dtype=jnp.float64)
    params = random_like(cell.init(jax.random.key(0)), seed=1)
    case = params, random_like(jnp.zeros((4, 3), jnp.float64), seed=2)
    direction = random_like(case, seed=3)

    def loss(case):
        lengths = jnp.asarray(3)
        carry, ys = unroll(cell, *case, lengths=lengths, method=method)
        return jnp.sum(jnp.sin(ys)) + jnp.sum(carry.hidden**2)

    gradient = jax.jit(jax.grad(loss))
    plus, minus = (
        gradient(jax.tree.map(lambda a, d, w=w: a + w * d, case, direction))
        for w in (1e-5, -1e-5)
    )
    product = jax.jit(jax.grad(lambda c: weighted_sum(jax.grad(loss)(c), direction)))
    expected = jax.tree.map(lambda a, b: (a - b) / 2e-5, plus, minus)
    # Central differences with a width of 1e-5 in float64: an error of about 1e-10.
    assert_trees_close(product(case), expected, rtol=1e-6, atol=1e-8)
