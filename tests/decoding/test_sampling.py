"""Draws from logits: what is kept, how often it is drawn, and the extremes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.decoding import keep_likely, sample_bernoulli, sample_logits

P = np.array([0.0625, 0.25, 0.125, 0.5, 0.0625])


def kept(logits, **options):
    """The numbers of the tokens that stay."""
    return np.flatnonzero(np.isfinite(keep_likely(jnp.asarray(logits), **options)))


def counts(logits, num_draws, **options):
    keys = jax.random.split(jax.random.key(0), num_draws)
    draw = jax.jit(jax.vmap(lambda key: sample_logits(logits, key, **options)))
    return np.bincount(draw(keys), minlength=len(logits))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"top_k": 1}, [3]),
        ({"top_k": 3}, [1, 2, 3]),
        ({"top_k": 4}, [0, 1, 2, 3]),  # of two equal ones the first
        ({"top_k": 99}, [0, 1, 2, 3, 4]),
        ({"top_p": 1e-6}, [3]),
        ({"top_p": 0.5}, [3]),
        ({"top_p": 0.51}, [1, 3]),
        ({"top_p": 0.75}, [1, 3]),
        ({"top_p": 0.76}, [1, 2, 3]),
        ({"top_p": 0.9}, [0, 1, 2, 3]),
        ({"top_p": 0.99}, [0, 1, 2, 3, 4]),
        ({"top_p": 1.0}, [0, 1, 2, 3, 4]),
        # Of the three that are left the likeliest one has 4/7 and two have 6/7.
        ({"top_k": 3, "top_p": 0.57}, [3]),
        ({"top_k": 3, "top_p": 0.58}, [1, 3]),
        ({"top_k": 3, "top_p": 0.86}, [1, 2, 3]),
    ],
)
def test_what_is_kept_is_the_likeliest(options, expected):
    # Powers of two: their logarithms' softmax is exact to less than the steps above.
    np.testing.assert_array_equal(kept(np.log(P), **options), expected)


@pytest.mark.parametrize("vocab_size", [1, 2, 7])
def test_nucleus_and_rank_agree_with_a_loop(vocab_size):
    rng = np.random.default_rng(vocab_size)
    for top_k, top_p in itertools.product((1, 2, 5), (0.1, 0.5, 0.9)):
        logits = 3 * rng.normal(size=vocab_size)
        order = sorted(range(vocab_size), key=lambda i: -logits[i])[:top_k]
        odds = np.exp(logits[order]) / np.exp(logits[order]).sum()
        count = 1
        while odds[:count].sum() < top_p:
            count += 1
        got = kept(logits, top_k=top_k, top_p=top_p)
        np.testing.assert_array_equal(got, sorted(order[:count]))


def test_equal_tokens_are_cut_at_the_rank():
    np.testing.assert_array_equal(kept(np.zeros(6), top_k=2), [0, 1])
    np.testing.assert_array_equal(kept(np.zeros(4), top_p=0.5), [0, 1])


def test_kept_logits_keep_their_values():
    logits = jnp.array([[1.0, 5.0, 3.0], [7.0, -2.0, 6.0]])
    expected = [[-jnp.inf, 5.0, 3.0], [7.0, -jnp.inf, 6.0]]
    np.testing.assert_array_equal(keep_likely(logits, top_k=2), expected)


def test_draws_follow_the_probabilities():
    num_draws = 20_000
    for temperature in (0.5, 1.0, 2.0):
        expected = P ** (1 / temperature)
        expected /= expected.sum()
        logits = jnp.log(P) + 30.0  # a constant changes nothing
        shares = counts(logits, num_draws, temperature=temperature) / num_draws
        # Five standard deviations of a share.
        error = 5 * np.sqrt(expected * (1 - expected) / num_draws)
        assert np.all(np.abs(shares - expected) < error)


def test_cut_tokens_are_never_drawn_and_the_others_share_their_part():
    num_draws = 20_000
    shares = counts(jnp.log(P), num_draws, top_k=2) / num_draws
    assert shares[[0, 2, 4]].sum() == 0
    # Five standard deviations: 2/3 and 1/3 are left.
    assert abs(shares[3] - 2 / 3) < 5 * np.sqrt(2 / 9 / num_draws)


def test_the_nucleus_is_that_of_the_cooled_distribution():
    # At temperature 1/2 the shares are about 0.01, 0.18, 0.05, 0.74, 0.01.
    drawn = counts(jnp.log(P), 2000, temperature=0.5, top_p=0.7)
    np.testing.assert_array_equal(np.flatnonzero(drawn), [3])
    drawn = counts(jnp.log(P), 2000, top_p=0.7)
    np.testing.assert_array_equal(np.flatnonzero(drawn), [1, 3])


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-45, 1e-6])
def test_a_vanishing_temperature_takes_the_likeliest(temperature, key):
    logits = jnp.array([[-1e30, 2.0, 1e30], [-jnp.inf, 4.0, 5.0]])
    for top_k in (None, 2):
        tokens = sample_logits(logits, key, temperature=temperature, top_k=top_k)
        np.testing.assert_array_equal(tokens, [2, 2])
        assert tokens.dtype == jnp.int32


def test_at_temperature_zero_the_first_of_equal_tokens_wins(key):
    logits = jnp.array([1.0, 4.0, 4.0])
    for top_k, top_p in ((None, None), (2, None), (None, 0.9)):
        token = sample_logits(logits, key, temperature=0, top_k=top_k, top_p=top_p)
        assert token == 1


@pytest.mark.parametrize("options", [{}, {"top_k": 2, "top_p": 0.9}])
def test_impossible_tokens_are_never_drawn(options):
    logits = jnp.array([-jnp.inf, 1.0, -jnp.inf, 0.0])
    for temperature in (0.1, 1e30):
        drawn = counts(logits, 500, temperature=temperature, **options)
        assert set(np.flatnonzero(drawn)) <= {1, 3}


def test_a_great_temperature_draws_evenly():
    drawn = counts(jnp.array([-1e30, 0.0, 1e30]), 3000, temperature=1e38)
    assert np.all(np.abs(drawn - 1000) < 5 * np.sqrt(3000 * 2 / 9))


def test_short_floats_are_drawn_from_as_float32(key):
    logits = jnp.log(jnp.asarray(P)).astype(jnp.bfloat16)
    assert keep_likely(logits).dtype == jnp.float32
    assert sample_logits(logits, key, temperature=0.0) == 3


def test_features_are_drawn_each_on_its_own():
    logits = jnp.array([-2.0, 0.0, 1.0, jnp.inf, -jnp.inf])
    num_draws = 20_000
    keys = jax.random.split(jax.random.key(0), num_draws)
    for temperature in (0.5, 1.0):
        drawn = jax.vmap(
            lambda key, t=temperature: sample_bernoulli(logits, key, temperature=t)
        )(keys)
        expected = np.asarray(jax.nn.sigmoid(logits / temperature))
        # Five standard deviations of a share, and of a covariance.
        error = 5 * np.sqrt(expected * (1 - expected) / num_draws)
        assert np.all(np.abs(drawn.mean(axis=0) - expected) <= error)
        assert abs(np.cov(drawn[:, 1], drawn[:, 2])[0, 1]) < 5 * 0.25 / num_draws**0.5
    assert drawn.dtype == logits.dtype


@pytest.mark.parametrize("temperature", [0.0, 1e-300])
def test_features_without_chance(temperature, key):
    drawn = sample_bernoulli(jnp.array([-1.0, 1.0]), key, temperature=temperature)
    np.testing.assert_array_equal(drawn, [0.0, 1.0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": -1.0}, "temperature: expected a number of at least 0, got -1"),
        ({"temperature": float("nan")}, "temperature: expected"),
        ({"temperature": float("inf")}, "temperature: expected"),
        ({"top_k": 0}, "top_k: expected a whole number >= 1, got 0"),
        ({"top_p": 0.0}, r"top_p: expected a probability in \(0, 1\], got 0.0"),
        ({"top_p": 1.5}, r"top_p: expected"),
        ({"top_p": float("nan")}, r"top_p: expected"),
    ],
)
def test_options_out_of_range_are_refused(options, words, key):
    with pytest.raises(ValueError, match=words):
        sample_logits(jnp.zeros(3), key, **options)


def test_a_negative_temperature_of_features_is_refused(key):
    with pytest.raises(ValueError, match="temperature: expected"):
        sample_bernoulli(jnp.zeros(3), key, temperature=-0.5)
