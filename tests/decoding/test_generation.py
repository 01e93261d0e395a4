"""Sequences that go on, against a loop in Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.decoding import (
    generate,
    greedy_search,
    restrict,
    sample_bernoulli,
    sample_logits,
)

VOCAB = 5


def chain(seed=0):
    """A step whose carry counts what was read, and that depends on the two last."""
    table = jax.random.normal(jax.random.key(seed), (VOCAB, VOCAB, VOCAB))

    def step(carry, token):
        before, count = carry
        return (token, count + 1), 2 * table[before, token]

    return (start(1), start(0)), step


def start(token):
    return jnp.asarray(token, jnp.int32)


def looped(step, carry, token, key, num_tokens, sample_fn):
    tokens = []
    for index in range(num_tokens):
        carry, logits = step(carry, token)
        token = sample_fn(logits, jax.random.fold_in(key, index))
        tokens.append(int(token))
    return tokens


def test_generating_is_a_loop_of_steps_and_draws(key):
    carry, step = chain()
    expected = looped(step, carry, start(2), key, 20, sample_logits)
    got = jax.jit(lambda key: generate(step, carry, start(2), key, 20))(key)
    np.testing.assert_array_equal(got.tokens, expected)
    assert len(set(expected)) > 2
    assert got.length == 20


def test_a_longer_sequence_begins_with_the_shorter_one(key):
    carry, step = chain()
    short, long = (generate(step, carry, start(0), key, n).tokens for n in (7, 12))
    np.testing.assert_array_equal(short, long[:7])


def test_another_key_gives_another_sequence(key):
    carry, step = chain()
    other = jax.random.key(1)
    one, two = (generate(step, carry, start(0), k, 20).tokens for k in (key, other))
    assert np.any(one != two)


def test_after_the_end_there_are_end_tokens_alone(key):
    carry, step = chain()
    free = generate(step, carry, start(0), key, 30).tokens.tolist()
    end = free[11]
    first = free.index(end)
    got = generate(step, carry, start(0), key, 30, end=end)
    assert got.length == first
    np.testing.assert_array_equal(got.tokens, free[:first] + [end] * (30 - first))


def test_an_end_that_does_not_come_changes_nothing(key):
    carry, step = chain()
    never = restrict(step, jnp.arange(VOCAB)[None] != 4)
    carry = (carry, start(0))
    free = generate(never, carry, start(0), key, 15)
    got = generate(never, carry, start(0), key, 15, end=4)
    np.testing.assert_array_equal(got.tokens, free.tokens)
    assert got.length == 15


def test_batches_are_made_by_vmap(key):
    carry, step = chain()
    keys = jax.random.split(key, 3)
    together = jax.vmap(lambda k: generate(step, carry, start(0), k, 9, end=3))(keys)
    for index, one in enumerate(keys):
        alone = generate(step, carry, start(0), one, 9, end=3)
        np.testing.assert_array_equal(together.tokens[index], alone.tokens)
        assert together.length[index] == alone.length


def test_steps_may_read_features(key):
    def step(carry, x):
        return carry + x, carry - x

    got = generate(step, jnp.zeros(3), jnp.ones(3), key, 4, sample_fn=sample_bernoulli)
    carry, x, expected = jnp.zeros(3), jnp.ones(3), []
    for index in range(4):
        carry, logits = step(carry, x)
        x = sample_bernoulli(logits, jax.random.fold_in(key, index))
        expected.append(x)
    np.testing.assert_array_equal(got.tokens, jnp.stack(expected))


def test_greedy_search_takes_the_likeliest():
    carry, step = chain()

    def likeliest(logits, key):
        return jnp.argmax(logits).astype(jnp.int32)

    expected = looped(step, carry, start(2), jax.random.key(9), 12, likeliest)
    got = greedy_search(step, carry, start(2), 12)
    np.testing.assert_array_equal(got.tokens, expected)
    end = expected[3]
    first = expected.index(end)
    got = greedy_search(step, carry, start(2), 12, end=end)
    np.testing.assert_array_equal(got.tokens, expected[:first] + [end] * (12 - first))
    assert got.length == first


def test_a_restricted_step_gives_allowed_tokens_alone(key):
    carry, step = chain()
    allowed = np.zeros((4, VOCAB), bool)
    allowed[[0, 1, 2, 3], [4, 2, 0, 1]] = True
    allowed[3, 3] = True
    got = generate(
        restrict(step, jnp.asarray(allowed)), (carry, start(0)), start(2), key, 20
    )
    tokens = got.tokens.tolist()
    assert tokens[:3] == [4, 2, 0]
    assert set(tokens[3:]) == {1, 3}  # the last row holds on


def test_a_restricted_step_keeps_the_logits_that_are_allowed():
    carry, step = chain()
    allowed = jnp.arange(VOCAB)[None] < 2
    (inner, position), logits = restrict(step, allowed)((carry, start(0)), start(1))
    expected_carry, expected = step(carry, start(1))
    np.testing.assert_array_equal(logits[:2], expected[:2])
    assert np.all(logits[2:] == -np.inf)
    assert inner == expected_carry
    assert position == 1


def test_no_tokens_are_refused(key):
    carry, step = chain()
    with pytest.raises(ValueError, match="num_tokens: expected a whole number >= 1"):
        generate(step, carry, start(0), key, 0)
