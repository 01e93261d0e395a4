"""A model step by step, against the model over the whole sequence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import cells, combinators, models
from seqjax.decoding import (
    beam_search,
    generate,
    language_step,
    restrict,
    sample_logits,
)
from tests.helpers import random_like

VOCAB = 7
STACK = combinators.stack(cells.lstm(4, 5), combinators.residual(cells.gru(5, 5)))
TOKENS = jnp.array([3, 1, 6, 0, 2, 2, 5, 4], jnp.int32)


def language_model(cell, **options):
    return models.LanguageModel(cell, VOCAB, embedding_size=4, **options)


def labeller(cell, **options):
    return models.SequenceLabeller(cell, VOCAB, **options)


def random_params(model, xs):
    shapes = jax.eval_shape(model.init, jax.random.key(0), xs)
    return random_like(shapes["params"], seed=2)


MODELS = [
    language_model(cells.elman(4, 6)),
    language_model(cells.gru(4, 4), tied=True, layer_norm=True, dropout_rate=0.5),
    language_model(cells.lstm(4, 6), tied=True, product_dtype="bfloat16"),
    language_model(combinators.learned_carry(STACK), window=3, method="checkpoint"),
    labeller(STACK, vocab_size=VOCAB, embedding_size=4),
    labeller(cells.lstm(3, 4)),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{type(m).__name__} {m.cell}")
def test_steps_give_what_the_model_gives(model):
    xs = TOKENS
    if model.embedding_size is None:
        xs = random_like(jnp.zeros((8, 3)), seed=1)
    params = random_params(model, xs)
    carry, step = language_step(model, params)
    step, got = jax.jit(step), []
    for x in xs:
        carry, logits = step(carry, x)
        got.append(logits)
    last, expected = jax.jit(model.apply)({"params": params}, xs)
    # A product with one row against one with many sums in another order.
    np.testing.assert_allclose(jnp.stack(got), expected, rtol=1e-5, atol=1e-5)
    for leaf, other in zip(jax.tree.leaves(carry), jax.tree.leaves(last), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-5, atol=1e-5)


def test_what_a_model_generates_is_what_it_would_have_drawn(key):
    model = MODELS[0]
    params = random_params(model, TOKENS)
    carry, step = language_step(model, params)
    tokens = generate(step, carry, TOKENS[0], key, 10).tokens
    read = jnp.concatenate([TOKENS[:1], tokens[:-1]])
    _, logits = jax.jit(model.apply)({"params": params}, read)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(10))
    np.testing.assert_array_equal(tokens, jax.vmap(sample_logits)(logits, keys))


def test_beams_of_a_model_have_the_probability_that_it_gives_them():
    model, end = MODELS[0], 5
    params = random_params(model, TOKENS)
    carry, step = language_step(model, params)
    beams = beam_search(step, carry, TOKENS[0], 3, 5, end)
    tokens = jnp.concatenate([jnp.full((3, 1), TOKENS[0]), beams.tokens], axis=1)
    _, logits = jax.jit(model.apply)({"params": params}, tokens[:, :-1])
    chosen = jnp.take_along_axis(
        jax.nn.log_softmax(logits), tokens[:, 1:, None], axis=-1
    )[..., 0]
    real = jnp.arange(5)[None] < beams.lengths[:, None]
    # A sum of five logarithms of another order of summation.
    expected = jnp.sum(jnp.where(real, chosen, 0), axis=1)
    np.testing.assert_allclose(beams.log_probs, expected, rtol=1e-5)


def test_a_form_can_be_kept_by_a_model(key):
    model = MODELS[0]
    carry, step = language_step(model, random_params(model, TOKENS))
    allowed = jnp.eye(VOCAB) > 0
    step = restrict(step, allowed)
    carry = (carry, jnp.asarray(0, jnp.int32))
    got = generate(step, carry, TOKENS[0], key, VOCAB)
    np.testing.assert_array_equal(got.tokens, np.arange(VOCAB))


@pytest.mark.parametrize(
    "cell",
    [
        combinators.bidirectional(cells.gru(4, 3)),
        combinators.stack(combinators.bidirectional(cells.gru(4, 3)), cells.gru(6, 3)),
    ],
)
def test_a_model_that_reads_ahead_has_no_step(cell):
    model = language_model(cell)
    carry, step = language_step(model, random_params(model, TOKENS))
    with pytest.raises(ValueError, match="bidirectional: expected to be run over"):
        step(carry, TOKENS[0])
