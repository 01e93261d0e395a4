"""The output that has seen the whole sequence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import cells, last_output, unroll
from seqjax.combinators import bidirectional, layer_norm, projection, stack
from tests.unroll_cases import LENGTHS, LSTM, NUM_STEPS, summing, whole_numbers


def test_last_output_is_that_of_the_last_real_step():
    ys = {"a": jnp.asarray(whole_numbers(2, 3, NUM_STEPS, 2))}
    got = last_output(LSTM, ys, jnp.asarray(LENGTHS))["a"]
    for index in np.ndindex(2, 3):
        length = LENGTHS[index]
        expected = ys["a"][index][length - 1] if length else np.zeros(2)
        np.testing.assert_array_equal(got[index], expected)
    np.testing.assert_array_equal(last_output(LSTM, ys)["a"], ys["a"][..., -1, :])
    single = last_output(LSTM, ys["a"][0, 0], jnp.asarray(3))
    np.testing.assert_array_equal(single, ys["a"][0, 0, 2])


def test_no_gradient_enters_a_sequence_of_length_zero():
    ys = jnp.asarray(whole_numbers(3, NUM_STEPS, 2))
    lengths = jnp.asarray(LENGTHS[0])
    gradient = jax.grad(lambda ys: jnp.sum(last_output(LSTM, ys, lengths)))(ys)
    expected = np.zeros((3, NUM_STEPS, 2))
    expected[0, 4] = expected[1, 2] = 1
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("merge", ["concat", "none"])
def test_last_output_of_both_directions_takes_both_ends(merge):
    cell = stack(summing(), bidirectional(summing(), merge=merge))
    params = cell.init(jax.random.key(0))
    xs, lengths = jnp.asarray(whole_numbers(3, 5, 2)), jnp.asarray(LENGTHS[0])
    carry, ys = unroll(cell, params, xs, lengths=lengths)
    # The final carries of running sums are their last outputs.
    expected = (carry[1].forward, carry[1].backward)
    if merge == "concat":
        expected = jnp.concatenate(expected, axis=-1)
    got = last_output(cell, ys, lengths)
    jax.tree.map(np.testing.assert_array_equal, tuple(got), tuple(expected))


def test_last_output_refuses_mixed_directions():
    both = bidirectional(cells.gru(3, 4), merge="sum")
    with pytest.raises(ValueError, match=r"told apart.*merge='sum'.*pool over time"):
        last_output(both, jnp.zeros((2, NUM_STEPS, 4)))
    joined = projection(bidirectional(cells.gru(3, 4)), 8, 2)
    with pytest.raises(ValueError, match=r"told apart.*projection"):
        last_output(joined, jnp.zeros((2, NUM_STEPS, 2)))
    normed = layer_norm(bidirectional(cells.gru(3, 4)), 8)
    ys = jnp.asarray(whole_numbers(NUM_STEPS, 8))
    expected = np.concatenate([ys[-1, :4], ys[0, 4:]])
    np.testing.assert_array_equal(last_output(normed, ys), expected)
