"""Dropout and zoneout: what is dropped where, how often, and not at test time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import Cell, cells, factory, unroll
from seqjax.combinators import (
    bidirectional,
    h_detach,
    stack,
    variational_dropout,
    zoneout,
)
from tests.helpers import assert_trees_close, random_like
from tests.unroll_cases import sequence_case

GRU = cells.gru(3, 4)
KEY = jax.random.key(5)


@factory
def echo(size: int) -> Cell:
    """y = x: what a layer received."""
    return Cell(
        init=lambda key: (),
        initial_carry=lambda params: jnp.zeros(size),
        step=lambda params, carry, x: (x, x),
    )


def _linear(size: int, recurrent: float) -> tuple[Cell, cells.ElmanParams]:
    """h′ = x + recurrent · h."""
    eye = jnp.eye(size)
    params = cells.ElmanParams(eye, recurrent * eye, jnp.zeros(size))
    return cells.elman(size, size, activation="identity"), params


def _assert_rate(dropped, rate: float) -> None:
    """Within four standard errors of a proportion: one in 16 000 keys fails."""
    standard_error = np.sqrt(rate * (1 - rate) / np.size(dropped))
    assert abs(np.mean(dropped) - rate) < 4 * standard_error


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropout_between_layers_drops_and_scales(rate):
    xs = jnp.ones((4, 500, 3))
    _, ys = unroll(stack(echo(3), echo(3), dropout=rate), ((), ()), xs, key=KEY)
    kept = ys != 0
    np.testing.assert_array_equal(ys, np.where(kept, np.float32(1 / (1 - rate)), 0))
    _assert_rate(~kept, rate)
    # Anew at each step, for each sequence and each unit.
    for axis in range(3):
        assert np.any(np.diff(kept.astype(int), axis=axis))


def test_dropout_stays_off_the_input_and_the_output():
    xs = jnp.ones((2, 50, 3))
    _, ys = unroll(stack(echo(3), dropout=0.5), ((),), xs, key=KEY)
    np.testing.assert_array_equal(ys, xs)
    layers = stack(echo(3), echo(3), echo(3), dropout=0.5)
    carries, ys = unroll(layers, ((), (), ()), xs, key=KEY, return_carries=True)
    # The carry of an echo is its input: whole, then one mask, then two.
    np.testing.assert_array_equal(carries[0], xs)
    assert set(np.unique(carries[1])) == {0, 2}
    assert set(np.unique(carries[2])) == {0, 4}
    np.testing.assert_array_equal(ys, carries[2])
    both = np.mean(carries[2] == 4)
    assert abs(both - 0.25) < 4 * np.sqrt(0.25 * 0.75 / ys.size)


@pytest.mark.parametrize(
    "cell",
    [
        stack(GRU, cells.gru(4, 4), dropout=0.5),
        variational_dropout(GRU, input=0.5),
        variational_dropout(GRU, recurrent=0.5),
        variational_dropout(GRU, output=0.5),
        zoneout(GRU, 0.5),
        bidirectional(zoneout(variational_dropout(GRU, input=0.3), 0.3)),
    ],
    ids=repr,
)
def test_a_key_decides_everything(cell):
    params, xs, carry = sequence_case(2, cell=cell)
    noisy = jax.jit(functools.partial(unroll, cell, params, xs, carry))
    first = noisy(key=KEY)
    assert_trees_close(noisy(key=KEY), first)
    assert not np.array_equal(noisy(key=jax.random.key(6))[1], first[1])
    assert not np.array_equal(noisy()[1], first[1])
    assert_trees_close(noisy(), noisy(key=None))


def test_without_a_key_dropout_is_off():
    for noisy, plain in (
        (stack(GRU, cells.gru(4, 4), dropout=0.5), stack(GRU, cells.gru(4, 4))),
        (variational_dropout(GRU, input=0.5, recurrent=0.5, output=0.5), GRU),
    ):
        case = sequence_case(2, cell=plain)
        assert_trees_close(unroll(noisy, *case), unroll(plain, *case))


def test_one_key_per_sequence_is_the_batched_key_split():
    cell = zoneout(variational_dropout(GRU, recurrent=0.5), 0.5)
    params, xs, carry = sequence_case(3, cell=cell)

    @jax.vmap
    def each(xs, carry, key):
        return unroll(cell, params, xs, carry, key=key)

    got = each(xs, carry, jax.random.split(KEY, 3))
    assert_trees_close(got, unroll(cell, params, xs, carry, key=KEY))


@pytest.mark.parametrize("part", ["input", "output"])
def test_variational_masks_hold_for_the_whole_sequence(part):
    cell, params = _linear(5, recurrent=0.0)
    xs = random_like(jnp.zeros((200, 6, 5)), seed=1)
    _, ys = unroll(variational_dropout(cell, **{part: 0.2}), params, xs, key=KEY)
    kept = ys[:, :1] != 0
    expected = np.where(kept, np.asarray(xs) * np.float32(1 / (1 - 0.2)), 0)
    np.testing.assert_array_equal(ys, expected)
    _assert_rate(~kept, 0.2)
    assert np.any(np.diff(kept.astype(int), axis=0))
    assert np.any(np.diff(kept.astype(int), axis=2))


def test_the_recurrent_mask_is_one_mask_in_the_product():
    cell, params = _linear(5, recurrent=1.0)
    dropped = variational_dropout(cell, recurrent=0.5)
    _, ys = unroll(dropped, params, jnp.ones((200, 4, 5)), key=KEY)
    kept = ys[:, 1] != 1
    # h′ = 1 + 2 h where the unit is kept, 1 where it is dropped: exact in binary.
    sums = np.where(kept[:, None], np.array([1, 3, 7, 15])[None, :, None], 1)
    np.testing.assert_array_equal(ys, sums)
    _assert_rate(~kept, 0.5)


def test_the_recurrent_mask_leaves_other_paths_alone():
    params, xs, carry = sequence_case(2, cell=GRU)
    # z = σ(50) = 1 in float32: the GRU copies h, and R reaches nothing.
    params = params._replace(bias=params.bias.at[4:8].set(50))
    cell = variational_dropout(GRU, recurrent=0.9)
    _, ys = unroll(cell, params, xs, carry, key=KEY)
    np.testing.assert_array_equal(ys, np.repeat(carry.hidden[:, None], 5, axis=1))
    # The output mask is on y alone, not on the carry.
    final, _ = unroll(variational_dropout(GRU, output=0.5), params, xs, carry, key=KEY)
    assert_trees_close(final, carry)


def test_zoneout_of_rate_zero_is_the_cell():
    case = sequence_case(2, cell=GRU)
    for key in (None, KEY):
        assert_trees_close(
            unroll(zoneout(GRU, 0.0), *case, key=key), unroll(GRU, *case)
        )


def test_zoneout_keeps_old_values_at_its_rates():
    lstm = cells.lstm(3, 4)
    rates = cells.LSTMCarry._make((0.2, 0.5))
    params, xs, carry = sequence_case(500, cell=lstm, num_steps=2)
    options = {"key": KEY, "return_carries": True}
    carries, ys = unroll(zoneout(lstm, rates), params, xs, carry, **options)
    np.testing.assert_array_equal(ys, carries.hidden)
    entering = jax.tree.map(
        lambda first, all_: jnp.stack([first, all_[:, 0]], 1), carry, carries
    )
    step = jax.jit(jax.vmap(jax.vmap(functools.partial(lstm.step, params))))
    updated, _ = step(entering, xs)
    for old, new, got, rate in zip(entering, updated, carries, rates, strict=True):
        kept = np.asarray(got == old)
        # The vectorised step sums in another order.
        np.testing.assert_allclose(got, np.where(kept, old, new), rtol=2e-6, atol=1e-6)
        _assert_rate(kept, float(rate))
        assert np.any(kept[:, 0] != kept[:, 1])


def test_zoneout_at_test_time_is_the_expectation():
    cell = zoneout(GRU, 0.3)
    params, xs, carry = sequence_case(cell=GRU, num_steps=1)
    num_samples = 20_000

    @jax.jit
    @jax.vmap
    def sample(key):
        return unroll(cell, params, xs, carry, key=key)[1]

    samples = np.asarray(sample(jax.random.split(KEY, num_samples)), np.float64)
    _, expected = unroll(cell, params, xs, carry)
    standard_error = samples.std(0) / np.sqrt(num_samples)
    # Four units, each within four standard errors.
    assert np.all(np.abs(samples.mean(0) - expected) < 4 * standard_error)
    assert np.all(standard_error > 0)


def test_noise_respects_lengths():
    cell = zoneout(variational_dropout(GRU, input=0.5), 0.5)
    params, xs, carry = sequence_case(3, cell=cell)
    run = functools.partial(unroll, cell, params, xs, carry, key=KEY)
    # One program, so that not even the fusion of a multiply and an add differs.
    program = jax.jit(functools.partial(run, return_carries=True))
    held, ys = program(lengths=jnp.array([5, 2, 0]))
    carries, full = program(lengths=jnp.array([5, 5, 5]))
    np.testing.assert_array_equal(ys[1, :2], full[1, :2])
    assert not np.any(ys[1, 2:])
    expected = np.stack([carries.hidden[0, 4], carries.hidden[1, 1], carry.hidden[2]])
    np.testing.assert_array_equal(held.hidden[:, -1], expected)
    # Other programs, to rounding.
    final, _ = run(lengths=jnp.array([5, 2, 0]))
    np.testing.assert_allclose(final.hidden, expected, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(run()[1], full, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (variational_dropout, "affine structure, got stack"),
        (functools.partial(zoneout, rates=0.1), "a part of its carry, got stack"),
        (functools.partial(h_detach, rate=0.1), "parts hidden and cell, got stack"),
    ],
)
def test_composites_are_refused(wrap, message):
    with pytest.raises(ValueError, match=message):
        wrap(stack(GRU, cells.gru(4, 4)))


def test_cells_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="affine structure, got zoneout"):
        variational_dropout(zoneout(GRU, 0.1))
    with pytest.raises(ValueError, match="affine structure, got variational_dropout"):
        variational_dropout(variational_dropout(GRU, input=0.1), output=0.1)
    with pytest.raises(ValueError, match="a part of its carry, got variational"):
        zoneout(variational_dropout(GRU, output=0.1), 0.1)
    with pytest.raises(ValueError, match="a part of its carry, got jordan"):
        zoneout(cells.jordan(3, 4, leak=0.5), 0.1)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_rates_are_probabilities_below_one(rate):
    with pytest.raises(ValueError, match=r"input: .*\[0, 1\)"):
        variational_dropout(GRU, input=rate)
    with pytest.raises(ValueError, match=r"rate: .*\[0, 1\)"):
        h_detach(cells.lstm(3, 4), rate)
    with pytest.raises(ValueError, match=r"rates: .*\[0, 1\)"):
        zoneout(cells.lstm(3, 4), cells.LSTMCarry._make((0.1, rate)))


LSTM = cells.lstm(3, 4)


def test_detached_lstm_keeps_every_value():
    case = sequence_case(2, cell=LSTM)
    run = jax.jit(
        unroll, static_argnums=0, static_argnames=("method", "return_carries")
    )
    options = {"method": "scan", "return_carries": True}
    plain = run(LSTM, *case, **options)
    assert_trees_close(run(h_detach(LSTM, 0.5), *case, key=KEY, **options), plain)
    assert_trees_close(run(h_detach(LSTM, 0.5), *case, **options), plain)


def test_stops_are_drawn_per_step_and_sequence():
    noise = h_detach(LSTM, 0.3).noise
    assert noise is not None
    params, xs, _ = sequence_case(cell=LSTM)
    draw = jax.vmap(lambda key: noise.sample(key, params, xs[0], 1000)[1][0])
    stops = draw(jax.random.split(KEY, 3))
    assert stops.shape == (3, 1000)
    _assert_rate(stops, 0.3)
    for axis in range(2):
        assert np.any(np.diff(stops.astype(int), axis=axis))


def _gradient_of_start(step, params, xs, carry, stops):
    """Of a weighted sum of all outputs, by the initial carry, at given stops."""

    def loss(carry):
        _, ys = jax.lax.scan(
            lambda carry, inputs: step(params, carry, *inputs), carry, (xs, stops)
        )
        return jnp.sum(jnp.sin(ys))

    return jax.grad(loss)(carry)


def _detached_step(params, carry, x, stop):
    noise = h_detach(LSTM, 0.5).noise
    assert noise is not None
    return noise.step(params, carry, x, ((), (stop, ())))


def test_stopped_everywhere_the_cell_path_is_the_product_of_forget_gates():
    params, xs, carry = sequence_case(cell=LSTM)
    gradient = jax.jit(functools.partial(_gradient_of_start, _detached_step))(
        params, xs, carry, jnp.ones(len(xs), bool)
    )
    # a_c ← f ∘ (a_c + o ∘ (1 − tanh² c′) ∘ ∂L/∂h′), backwards; h′ is y alone.
    states, gates = [carry], []
    for x in xs:
        z = x @ params.kernel + states[-1].hidden @ params.recurrent_kernel
        gates.append(jax.nn.sigmoid(jnp.split(z + params.bias, 4)[1]))
        states.append(LSTM.step(params, states[-1], x)[0])
    expected = np.zeros(4)
    for forget, state in zip(gates[::-1], states[:0:-1], strict=True):
        output_gate = state.hidden / jnp.tanh(state.cell)
        slope = output_gate * (1 - jnp.square(jnp.tanh(state.cell)))
        expected = forget * (expected + slope * jnp.cos(state.hidden))
    # Five steps of float32 rounding.
    np.testing.assert_allclose(gradient.cell, expected, rtol=1e-5)
    np.testing.assert_array_equal(gradient.hidden, np.zeros(4))


def test_on_average_the_hidden_path_counts_one_minus_rate():
    rate = 0.3
    params, xs, carry = sequence_case(cell=LSTM, num_steps=3)
    patterns = np.array(list(np.ndindex(2, 2, 2)), bool)
    weights = np.prod(np.where(patterns, rate, 1 - rate), axis=1)
    each = jax.vmap(
        functools.partial(_gradient_of_start, _detached_step, params, xs, carry)
    )(jnp.asarray(patterns))
    average = jax.tree.map(lambda a: np.tensordot(weights, a, 1), each)

    def damped_step(params, carry, x, stop):
        constant = jax.lax.stop_gradient(carry.hidden)
        damped = constant + (1 - rate) * (carry.hidden - constant)
        return LSTM.step(params, carry._replace(hidden=damped), x)

    damped = _gradient_of_start(damped_step, params, xs, carry, jnp.zeros(3, bool))
    assert_trees_close(average, damped, rtol=1e-5, atol=1e-6)


def test_detaching_composes_with_other_noise():
    cell = h_detach(zoneout(variational_dropout(LSTM, recurrent=0.5), 0.3), 0.5)
    params, xs, carry = sequence_case(2, cell=LSTM)

    def loss(params, key):
        return jnp.sum(unroll(cell, params, xs, carry, key=key)[1])

    run = jax.jit(jax.value_and_grad(loss))
    value, gradient = run(params, KEY)
    assert_trees_close(run(params, KEY), (value, gradient))
    assert run(params, jax.random.key(6))[0] != value
