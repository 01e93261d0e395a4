"""Probes: log norms of carry gradients, measured beside an ordinary backward pass."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import Cell, cells, make_probes, unroll
from seqjax.combinators import (
    bidirectional,
    layer_norm,
    learned_carry,
    projection,
    residual,
    stack,
)
from tests.helpers import assert_trees_close, random_like, weighted_sum
from tests.unroll_cases import LSTM, sequence_case, take, temporary_bytes

NUM_STEPS = 3


def _log_norms(tree):
    """ln ‖·‖ of every leaf `[batch, ...]`, `[batch]`, by NumPy in float64."""

    def one(leaf):
        rows = np.asarray(leaf, np.float64).reshape(len(leaf), -1)
        with np.errstate(divide="ignore"):
            return np.log(np.linalg.norm(rows, axis=1))

    return jax.tree.map(one, tree)


def _case(cell: Cell, batch_size: int = 3):
    """Params, xs, a carry, and weights of the final carry and of the outputs."""
    params, xs, carry = sequence_case(batch_size, cell=cell, num_steps=NUM_STEPS)
    weights = random_like(jax.eval_shape(lambda *a: unroll(cell, *a), params, xs), 5)
    return params, xs, carry, weights


def _probe_gradients(cell, params, xs, carry, weights, **options):
    def loss(params, probes):
        results = unroll(cell, params, xs, carry, probes=probes, **options)
        return weighted_sum(results, weights)

    probes = make_probes(cell, params, xs.shape[:1], NUM_STEPS)
    return jax.jit(jax.grad(loss, (0, 1)))(params, probes)


def _split_gradients(cell, case, reverse=False, lengths=None):
    """The same log norms by cutting the sequence between every two steps."""
    params, xs, carry, weights = case
    lengths = jnp.full(len(xs), NUM_STEPS) if lengths is None else lengths
    run = functools.partial(unroll, cell, params, reverse=reverse)
    carries, _ = run(xs, carry, lengths=lengths, return_carries=True)

    def gradient(t):
        if reverse:
            rest, left, before = slice(0, t), jnp.minimum(lengths, t), t
        else:
            rest, left, before = slice(t, None), jnp.maximum(lengths - t, 0), t - 1
        is_first = t == (NUM_STEPS if reverse else 0)
        entering = carry if is_first else take(carries, np.s_[:, before])

        def loss(entering):
            final, ys = run(xs[:, rest], entering, lengths=left)
            return weighted_sum((final, ys), (weights[0], weights[1][:, rest]))

        return _log_norms(jax.jit(jax.grad(loss))(entering))

    rows = [gradient(t) for t in range(NUM_STEPS + 1)]
    return jax.tree.map(lambda *a: np.stack(a, axis=1), *rows)


# A logarithm turns the relative rounding of float32 gradients into an absolute one.
assert_close = functools.partial(assert_trees_close, rtol=0, atol=2e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_probes_read_the_gradient_at_every_split(reverse):
    case = _case(LSTM)
    _, got = _probe_gradients(LSTM, *case, reverse=reverse)
    assert_close(got, _split_gradients(LSTM, case, reverse))


@pytest.mark.parametrize("reverse", [False, True])
def test_probes_read_the_held_gradient_in_the_padding(reverse):
    case, lengths = _case(LSTM), jnp.array([3, 1, 0])
    _, got = _probe_gradients(LSTM, *case, lengths=lengths, reverse=reverse)
    assert_close(got, _split_gradients(LSTM, case, reverse, lengths))
    # Where nothing happens all entries are the gradient of the final carry.
    expected = _log_norms(take(case[3][0], jnp.array([2])))
    for part, value in zip(got, expected, strict=True):
        np.testing.assert_allclose(part[2], np.full(NUM_STEPS + 1, value), atol=1e-6)


@pytest.mark.parametrize(
    "cell",
    [
        stack(cells.gru(3, 4), cells.lstm(4, 2)),
        learned_carry(layer_norm(cells.gru(3, 4), 4)),
        residual(projection(cells.elman(3, 4), 4, 3)),
    ],
    ids=repr,
)
def test_probes_through_composites(cell):
    case = _case(cell)
    _, got = _probe_gradients(cell, *case)
    assert_close(got, _split_gradients(cell, case))


def test_probes_of_both_directions_are_those_of_two_unrolls():
    cell = bidirectional(cells.gru(3, 4), merge="none")
    params, xs, carry, weights = _case(cell)
    _, got = _probe_gradients(cell, params, xs, carry, weights)
    for side, reverse in (("forward", False), ("backward", True)):
        one, start, *one_weights = (
            getattr(tree, side) for tree in (params, carry, *weights)
        )
        case = one, xs, start, tuple(one_weights)
        _, expected = _probe_gradients(cells.gru(3, 4), *case, reverse=reverse)
        assert_close(getattr(got, side), expected)


@pytest.mark.parametrize("method", ["scan", "checkpoint"])
def test_parameter_gradients_keep_every_bit(method):
    params, xs, carry, weights = _case(LSTM)
    options = {"lengths": jnp.array([3, 1, 0]), "method": method}
    got, _ = _probe_gradients(LSTM, params, xs, carry, weights, **options)

    def loss(params):
        results = unroll(LSTM, params, xs, carry, **options)
        return weighted_sum(results, weights)

    assert_trees_close(got, jax.jit(jax.grad(loss))(params))


def test_values_do_not_depend_on_probes():
    params, xs, carry, _ = _case(LSTM)
    probes = make_probes(LSTM, params, (3,), NUM_STEPS)
    got = unroll(LSTM, params, xs, carry, probes=random_like(probes, 6))
    assert_trees_close(got, unroll(LSTM, params, xs, carry))


@pytest.mark.parametrize("reverse", [False, True])
def test_index_t_is_the_carry_that_enters_step_t(reverse):
    half = cells.elman(1, 1, activation="identity")
    params = cells.ElmanParams(jnp.ones((1, 1)), jnp.full((1, 1), 0.5), jnp.zeros(1))
    probes = make_probes(half, params, (), NUM_STEPS)

    def log2_norms(loss_fn):
        def loss(probes):
            xs = jnp.ones((NUM_STEPS, 1))
            return loss_fn(*unroll(half, params, xs, reverse=reverse, probes=probes))

        norms = np.asarray(jax.grad(loss)(probes).hidden) / np.log(2)
        # Under `reverse` the carry that enters step t stands at t+1: between steps.
        return norms[::-1] if reverse else norms

    end = 0 if reverse else -1
    # Exact powers of a half, and float32 logarithms of them.
    assert_log2 = functools.partial(np.testing.assert_allclose, rtol=1e-6)
    by_output = log2_norms(lambda carry, ys: ys[end, 0])
    assert_log2(by_output, [-3, -2, -1, -np.inf])
    by_carry = log2_norms(lambda carry, ys: carry.hidden[0])
    assert_log2(by_carry, [-3, -2, -1, 0])


def test_probes_read_nothing_before_a_reset():
    params, xs, carry, weights = _case(LSTM)
    weights = weights[1].at[:, :2].set(0)
    resets = jnp.zeros((3, NUM_STEPS), bool).at[:, 1].set(True)

    def loss(probes):
        options = {"resets": resets, "probes": probes}
        _, ys = unroll(LSTM, params, xs, carry, **options)
        return weighted_sum(ys, weights)

    got = jax.jit(jax.grad(loss))(make_probes(LSTM, params, (3,), NUM_STEPS))
    for part in got:
        assert np.all(part[:, :2] == -np.inf)
        assert np.all(np.isfinite(part[:, 2]))


def test_several_batch_axes():
    params, xs, _ = sequence_case(2, 3, num_steps=NUM_STEPS)

    def norms(xs, batch_shape):
        def loss(probes):
            return jnp.sum(unroll(LSTM, params, xs, probes=probes)[1])

        return jax.jit(jax.grad(loss))(
            make_probes(LSTM, params, batch_shape, NUM_STEPS)
        )

    flat = norms(xs.reshape(6, NUM_STEPS, 3), (6,))
    expected = jax.tree.map(lambda a: a.reshape(2, 3, NUM_STEPS + 1), flat)
    assert_trees_close(norms(xs, (2, 3)), expected)


def test_the_extra_memory_is_one_number_per_step_and_sequence():
    num_steps, batch_size, cell = 1024, 8, cells.gru(3, 64)
    params = cell.init(jax.random.key(0))
    probes = make_probes(cell, params, (batch_size,), num_steps)

    def with_or_without(with_probes):
        def loss(params, probes, xs):
            probes = probes if with_probes else None
            return jnp.sum(unroll(cell, params, xs, probes=probes)[1])

        grad = jax.jit(jax.grad(loss, (0, 1)))
        xs = jnp.zeros((batch_size, num_steps, 3))
        program = grad.lower(params, probes, xs).compile()
        return temporary_bytes(program)

    probe_bytes = 4 * batch_size * (num_steps + 1)
    extra = with_or_without(True) - with_or_without(False)
    # Saved carries would be 64 times as much; a few copies of the probes and of the
    # carries of one chunk are fine.
    assert extra < 8 * probe_bytes


def test_forward_mode_is_refused():
    params, xs, carry, _ = _case(LSTM)
    probes = make_probes(LSTM, params, (3,), NUM_STEPS)

    def ys(probes):
        return unroll(LSTM, params, xs, carry, probes=probes)[1]

    with pytest.raises(TypeError, match="forward-mode autodiff"):
        jax.jvp(ys, (probes,), (probes,))
