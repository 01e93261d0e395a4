"""Beam search, against all sequences and against a search in plain Python."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.decoding import beam_search

VOCAB, END, START = 4, 2, 0
SEEDS = range(4)
search = jax.jit(beam_search, static_argnums=(0, 3, 4, 5, 6))


def step(carry, token):
    """A network whose weights are in the carry, so that one program serves them all."""
    (recurrent, embedding, readout), hidden = carry
    hidden = jnp.tanh(recurrent @ hidden + embedding[token])
    return (carry[0], hidden), readout @ hidden


def weights(seed):
    rng = np.random.default_rng(seed)
    shapes = ((5, 5), (VOCAB, 5), (VOCAB, 5))
    return tuple(rng.normal(size=shape) for shape in shapes)


def carry_of(seed):
    return jax.tree.map(jnp.float32, (weights(seed), np.zeros(5)))


def start():
    return jnp.asarray(START, jnp.int32)


@functools.cache
def log_probs_after(seed, max_length):
    """ln P of every next token after every prefix without an end."""
    recurrent, embedding, readout = weights(seed)
    found: dict[tuple[int, ...], np.ndarray] = {}
    left: list[tuple[tuple[int, ...], np.ndarray]] = [((), np.tanh(embedding[START]))]
    while left:
        prefix, hidden = left.pop()
        logits = readout @ hidden
        found[prefix] = logits - np.log(np.exp(logits).sum())
        if len(prefix) < max_length - 1:
            for token in {*range(VOCAB)} - {END}:
                after = np.tanh(recurrent @ hidden + embedding[token])
                left.append(((*prefix, token), after))
    return found


def penalised(log_prob, length, alpha):
    return log_prob / ((5 + length) / 6) ** alpha


def all_sequences(table, max_length, alpha):
    """Scores of all sequences that end, or are as long as can be, the best first."""
    found = []
    for length in range(1, max_length + 1):
        for tokens in itertools.product(range(VOCAB), repeat=length):
            ended = tokens[-1] == END
            if END in tokens[:-1] or not (ended or length == max_length):
                continue
            log_prob = sum(table[tokens[:i]][tokens[i]] for i in range(length))
            found.append((penalised(log_prob, length, alpha), tokens))
    return sorted(found, reverse=True)


def searched(table, num_beams, max_length, alpha):
    """Beam search as it is told: without arrays, carries or an early stop."""
    open_ones, done = [(0.0, ())], []
    for length in range(1, max_length + 1):
        grown = [
            (log_prob + table[tokens][token], (*tokens, token))
            for log_prob, tokens in open_ones
            for token in range(VOCAB)
        ]
        ended = [(p, tokens) for p, tokens in grown if tokens[-1] == END]
        open_ones = sorted(set(grown) - set(ended), reverse=True)[:num_beams]
        done += [(penalised(p, length, alpha), tokens) for p, tokens in ended]
    done += [(penalised(p, max_length, alpha), tokens) for p, tokens in open_ones]
    return sorted(done, reverse=True)[:num_beams]


def check(beams, expected, max_length, alpha):
    for index, (score, tokens) in enumerate(expected):
        padded = [*tokens, *[END] * (max_length - len(tokens))]
        np.testing.assert_array_equal(beams.tokens[index], padded)
        assert beams.lengths[index] == len(tokens)
        # A sum of a few logarithms in float32.
        np.testing.assert_allclose(beams.scores[index], score, rtol=1e-5)
        log_prob = score * ((5 + len(tokens)) / 6) ** alpha
        np.testing.assert_allclose(beams.log_probs[index], log_prob, rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 2.0])
def test_enough_beams_find_the_best_of_all_sequences(alpha):
    num_beams = (VOCAB - 1) ** 3
    for seed in SEEDS:
        table = log_probs_after(seed, 3)
        expected = all_sequences(table, 3, alpha)[:num_beams]
        beams = search(step, carry_of(seed), start(), num_beams, 3, END, alpha)
        check(beams, expected, 3, alpha)


@pytest.mark.parametrize(("num_beams", "alpha"), [(1, 0.0), (2, 1.0), (4, 0.6)])
def test_few_beams_find_what_a_plain_search_finds(num_beams, alpha):
    for seed in SEEDS:
        expected = searched(log_probs_after(seed, 6), num_beams, 6, alpha)
        beams = search(step, carry_of(seed), start(), num_beams, 6, END, alpha)
        check(beams, expected, 6, alpha)


def test_more_beams_than_sequences_leave_some_without_probability():
    def halves(carry, token):  # ends or goes on with 1, each with probability 1/2
        return carry, jnp.log(jnp.array([0.0, 0.5, 0.5, 0.0]))

    beams = beam_search(halves, (), start(), 5, 2, END)
    np.testing.assert_array_equal(beams.tokens[:3], [[2, 2], [1, 2], [1, 1]])
    np.testing.assert_array_equal(beams.lengths[:3], [1, 2, 2])
    expected = np.log([0.5, 0.25, 0.25])
    np.testing.assert_allclose(beams.log_probs[:3], expected, rtol=1e-6)
    np.testing.assert_array_equal(beams.log_probs[3:], [-np.inf, -np.inf])


def test_batches_are_made_by_vmap():
    carry = carry_of(0)
    starts = jnp.arange(VOCAB, dtype=jnp.int32)
    together = jax.vmap(lambda token: search(step, carry, token, 2, 6, END, 1.0))(
        starts
    )
    for index, token in enumerate(starts):
        alone = search(step, carry, token, 2, 6, END, 1.0)
        np.testing.assert_array_equal(together.tokens[index], alone.tokens)
        # A batched product sums in another order.
        np.testing.assert_allclose(together.scores[index], alone.scores, rtol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((0, 3, END), "num_beams: expected a whole number >= 1, got 0"),
        ((2, 0, END), "max_length: expected a whole number >= 1, got 0"),
        ((2, 3, END, -1.0), "length_penalty: expected a number of at least 0, got -1"),
        ((2, 3, END, float("nan")), "length_penalty: expected"),
    ],
)
def test_options_out_of_range_are_refused(sizes, words):
    with pytest.raises(ValueError, match=words):
        beam_search(step, carry_of(0), start(), *sizes)
