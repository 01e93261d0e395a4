"""Results and gradients of Flax linen's, Haiku's and Equinox's cells."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox
import flax.linen as nn
import haiku
import jax
import jax.numpy as jnp
import pytest

from seqjax import cells, unroll
from tests import converters
from tests.helpers import assert_trees_close, random_like, value_and_grads

BATCH_SIZE, NUM_STEPS, INPUT_SIZE, HIDDEN_SIZE = 3, 6, 3, 5
LENGTHS = (4, 6, 1)

# Sums of up to 18 products of order 1 over 6 steps, rounded to 6e-8.
FLOAT32 = {"rtol": 3e-6, "atol": 2e-6}


def _compare(ours: Any, theirs: Any, params: Any, carry: Any, *batch: int) -> None:
    """Both run on the framework's params, so both give gradients in its layout."""
    xs = random_like(jnp.zeros((*batch, NUM_STEPS, INPUT_SIZE)), seed=1, scale=1.0)
    params, carry = random_like(params, seed=2), random_like(carry, seed=3)
    weights = random_like(jax.eval_shape(ours, params, xs, carry), 4, scale=1.0)
    actual = value_and_grads(ours, params, xs, carry, weights)
    expected = value_and_grads(theirs, params, xs, carry, weights)
    assert_trees_close(actual, expected, **FLOAT32)


class Linen(NamedTuple):
    """A linen cell, and how its params and carry become ours and back."""

    module: nn.RNNCellBase
    cell: Any
    convert: Callable[[Any], Any]
    to_ours: Callable[[Any], Any]
    from_ours: Callable[[Any], Any]


LINEN = {
    "simple": Linen(
        nn.SimpleCell(HIDDEN_SIZE),
        cells.elman(INPUT_SIZE, HIDDEN_SIZE),
        converters.elman_from_linen,
        cells.ElmanCarry,
        lambda carry: carry.hidden,
    ),
    "lstm": Linen(
        nn.LSTMCell(HIDDEN_SIZE),
        cells.lstm(INPUT_SIZE, HIDDEN_SIZE),
        converters.lstm_from_linen,
        lambda carry: cells.LSTMCarry(carry[1], carry[0]),
        lambda carry: (carry.cell, carry.hidden),
    ),
    "optimized_lstm": Linen(
        nn.OptimizedLSTMCell(HIDDEN_SIZE),
        cells.lstm(INPUT_SIZE, HIDDEN_SIZE),
        converters.lstm_from_linen,
        lambda carry: cells.LSTMCarry(carry[1], carry[0]),
        lambda carry: (carry.cell, carry.hidden),
    ),
    "gru": Linen(
        nn.GRUCell(HIDDEN_SIZE),
        cells.gru(INPUT_SIZE, HIDDEN_SIZE),
        converters.gru_from_linen,
        cells.GRUCarry,
        lambda carry: carry.hidden,
    ),
}


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("name", LINEN)
def test_matches_linen(name, lengths):
    module, cell, convert, to_ours, from_ours = LINEN[name]
    rnn = nn.RNN(module, return_carry=True)
    known = None if lengths is None else jnp.asarray(lengths)

    def ours(params, xs, carry):
        return unroll(cell, convert(params), xs, carry, lengths=known)

    def theirs(params, xs, carry):
        results: Any = rnn.apply(
            {"params": {"cell": params}},
            xs,
            initial_carry=from_ours(carry),
            seq_lengths=known,
        )
        carry, ys = results
        if known is not None:  # linen's outputs in the padding are not defined
            real = jnp.arange(NUM_STEPS)[None] < known[:, None]
            ys = jnp.where(real[..., None], ys, 0)
        return to_ours(carry), ys

    xs = jnp.zeros((BATCH_SIZE, NUM_STEPS, INPUT_SIZE))
    params = rnn.init(jax.random.key(0), xs)["params"]["cell"]
    carry = to_ours(module.initialize_carry(jax.random.key(0), xs[:, 0].shape))
    _compare(ours, theirs, params, carry, BATCH_SIZE)


class Haiku(NamedTuple):
    """A Haiku core, and how its params and state become ours and back."""

    core: Callable[[int], Any]
    cell: Any
    convert: Callable[[Any], Any]
    to_ours: Callable[[Any], Any]
    from_ours: Callable[[Any], Any]


HAIKU = {
    "vanilla": Haiku(
        haiku.VanillaRNN,
        cells.elman(INPUT_SIZE, HIDDEN_SIZE, activation="relu"),
        converters.elman_from_haiku,
        cells.ElmanCarry,
        lambda carry: carry.hidden,
    ),
    "lstm": Haiku(
        haiku.LSTM,
        cells.lstm(INPUT_SIZE, HIDDEN_SIZE),
        converters.lstm_from_haiku,
        lambda state: cells.LSTMCarry(state.hidden, state.cell),
        lambda carry: haiku.LSTMState(hidden=carry.hidden, cell=carry.cell),
    ),
    "gru": Haiku(
        haiku.GRU,
        cells.gru(INPUT_SIZE, HIDDEN_SIZE, reset_after=False),
        converters.gru_from_haiku,
        cells.GRUCarry,
        lambda carry: carry.hidden,
    ),
}


@pytest.mark.parametrize("name", HAIKU)
def test_matches_haiku(name):
    core, cell, convert, to_ours, from_ours = HAIKU[name]

    def run(xs, state):
        return haiku.dynamic_unroll(core(HIDDEN_SIZE), xs, state, time_major=False)

    transformed = haiku.without_apply_rng(haiku.transform(run))

    def ours(params, xs, carry):
        return unroll(cell, convert(params), xs, carry)

    def theirs(params, xs, carry):
        ys, state = transformed.apply(params, xs, from_ours(carry))
        return to_ours(state), ys

    size = (BATCH_SIZE, HIDDEN_SIZE)
    carry = jax.tree.map(
        lambda leaf: jnp.zeros(size), cell.initial_carry(cell.init(jax.random.key(0)))
    )
    xs = jnp.zeros((BATCH_SIZE, NUM_STEPS, INPUT_SIZE))
    params = transformed.init(jax.random.key(0), xs, from_ours(carry))
    _compare(ours, theirs, params, carry, BATCH_SIZE)


def test_matches_equinox_lstm():
    cell = cells.lstm(INPUT_SIZE, HIDDEN_SIZE)
    module = equinox.nn.LSTMCell(INPUT_SIZE, HIDDEN_SIZE, key=jax.random.key(0))

    def theirs(module, xs, carry):
        def body(state, x):
            state = module(x, state)
            return state, state[0]

        state, ys = jax.lax.scan(body, (carry.hidden, carry.cell), xs)
        return cells.LSTMCarry(*state), ys

    def ours(module, xs, carry):
        return unroll(cell, converters.lstm_from_equinox(module), xs, carry)

    zeros = jnp.zeros(HIDDEN_SIZE)
    _compare(ours, theirs, module, cells.LSTMCarry(zeros, zeros))


def test_matches_equinox_gru():
    cell = cells.gru(INPUT_SIZE, HIDDEN_SIZE)
    module = equinox.nn.GRUCell(INPUT_SIZE, HIDDEN_SIZE, key=jax.random.key(0))

    def theirs(module, xs, carry):
        def body(h, x):
            h = module(x, h)
            return h, h

        h, ys = jax.lax.scan(body, carry.hidden, xs)
        return cells.GRUCarry(h), ys

    def ours(module, xs, carry):
        return unroll(cell, converters.gru_from_equinox(module), xs, carry)

    zeros = cells.GRUCarry(jnp.zeros(HIDDEN_SIZE))
    _compare(ours, theirs, module, zeros)
