"""Outputs, final states and every gradient of Keras's SimpleRNN, LSTM and GRU."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras
import pytest

from seqjax import cells, unroll
from seqjax.combinators import Both, bidirectional
from tests.converters import elman_from_keras, gru_from_keras, lstm_from_keras
from tests.helpers import (
    assert_trees_close,
    implicit_promotion,
    random_like,
    value_and_grads,
)

BATCH_SIZE, NUM_STEPS, INPUT_SIZE, HIDDEN_SIZE = 3, 6, 3, 5
LENGTHS = (4, 6, 1)

# Sums of up to 18 products of order 1 over 6 steps, rounded to 6e-8.
FLOAT32 = {"rtol": 3e-6, "atol": 2e-6}


class Kind(NamedTuple):
    """Our cell, Keras's layer, and how weights and carry go over."""

    cell: Any
    layer: Callable[..., Any]
    convert: Callable[[Sequence[jax.Array]], Any]
    make_carry: Any


KINDS = {
    "tanh": Kind(
        cells.elman(INPUT_SIZE, HIDDEN_SIZE),
        keras.layers.SimpleRNN,
        elman_from_keras,
        cells.ElmanCarry,
    ),
    "lstm": Kind(
        cells.lstm(INPUT_SIZE, HIDDEN_SIZE),
        keras.layers.LSTM,
        lstm_from_keras,
        cells.LSTMCarry,
    ),
    "gru": Kind(
        cells.gru(INPUT_SIZE, HIDDEN_SIZE),
        keras.layers.GRU,
        gru_from_keras,
        cells.GRUCarry,
    ),
    "gru_reset_before": Kind(
        cells.gru(INPUT_SIZE, HIDDEN_SIZE, reset_after=False),
        functools.partial(keras.layers.GRU, reset_after=False),
        gru_from_keras,
        cells.GRUCarry,
    ),
}


def _layer(kind: Kind) -> Any:
    # With a mask, Keras's default repeats the last output; ours is zero.
    return kind.layer(
        HIDDEN_SIZE,
        return_sequences=True,
        return_state=True,
        zero_output_for_mask=True,
    )


def _call(layer: Any, weights: Any, xs: jax.Array, states: Any, mask: Any) -> Any:
    others = [variable.value for variable in layer.non_trainable_variables]
    with implicit_promotion():
        results, _ = layer.stateless_call(
            weights, others, xs, initial_state=states, mask=mask
        )
    return results


def _compare(layer: Any, ours: Any, theirs: Any, carry: Any) -> None:
    """Both run on Keras's weights, so both give gradients in Keras's layout."""
    xs = random_like(jnp.zeros((BATCH_SIZE, NUM_STEPS, INPUT_SIZE)), 1, scale=1.0)
    with implicit_promotion():
        layer.build(xs.shape)
    weights = random_like([v.value for v in layer.trainable_variables], seed=2)
    carry = random_like(carry, seed=3)
    loss_weights = random_like(jax.eval_shape(ours, weights, xs, carry), 4, scale=1.0)
    actual = value_and_grads(ours, weights, xs, carry, loss_weights)
    expected = value_and_grads(theirs, weights, xs, carry, loss_weights)
    assert_trees_close(actual, expected, **FLOAT32)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("name", KINDS)
def test_matches_keras(name, lengths):
    kind = KINDS[name]
    layer = _layer(kind)
    known, mask = None, None
    if lengths is not None:
        known = jnp.asarray(lengths)
        mask = jnp.arange(NUM_STEPS)[None] < known[:, None]

    def ours(weights, xs, carry):
        return unroll(kind.cell, kind.convert(weights), xs, carry, lengths=known)

    def theirs(weights, xs, carry):
        ys, *states = _call(layer, weights, xs, list(carry), mask)
        return kind.make_carry(*states), ys

    size = (BATCH_SIZE, HIDDEN_SIZE)
    carry = kind.make_carry(*(jnp.zeros(size) for _ in kind.make_carry._fields))
    _compare(layer, ours, theirs, carry)


@pytest.mark.parametrize(
    ("merge", "merge_mode"), [("concat", "concat"), ("sum", "sum"), ("mean", "ave")]
)
def test_bidirectional_merges_match_keras(merge, merge_mode):
    layer = keras.layers.Bidirectional(_layer(KINDS["tanh"]), merge_mode=merge_mode)
    cell = bidirectional(KINDS["tanh"].cell, merge=merge)

    def ours(weights, xs, carry):
        params = Both(elman_from_keras(weights[:3]), elman_from_keras(weights[3:]))
        return unroll(cell, params, xs, carry)

    def theirs(weights, xs, carry):
        states = [carry.forward.hidden, carry.backward.hidden]
        ys, *states = _call(layer, weights, xs, states, None)
        return Both(*(cells.ElmanCarry(state) for state in states)), ys

    zeros = cells.ElmanCarry(jnp.zeros((BATCH_SIZE, HIDDEN_SIZE)))
    _compare(layer, ours, theirs, Both(zeros, zeros))
