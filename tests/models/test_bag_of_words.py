from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.models import BagOfWords

MODEL = BagOfWords(num_classes=3, vocab_size=9, embedding_size=4)
TOKENS = jax.random.randint(jax.random.key(0), (5, 7), 0, 9)
VARIABLES = MODEL.init(jax.random.key(1), TOKENS)


def apply(*args: Any, model: BagOfWords = MODEL, **options: Any) -> Any:
    return model.apply(*args, **options)


def test_logits_are_the_readout_of_the_mean_embedding():
    params = VARIABLES["params"]
    lengths = jnp.asarray([7, 3, 1, 5, 2])
    carry, logits = apply(VARIABLES, TOKENS, lengths)
    assert carry is None
    table, readout = params["embedding"]["embedding"], params["readout"]
    for row, length, got in zip(TOKENS, lengths, logits, strict=True):
        mean = np.mean(np.asarray(table)[np.asarray(row[:length])], axis=0)
        expected = mean @ readout["kernel"] + readout["bias"]
        # A mean of seven and a product of four numbers in float32.
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_all_steps_count_without_lengths():
    _, alone = apply(VARIABLES, TOKENS)
    _, stated = apply(VARIABLES, TOKENS, jnp.full(5, 7))
    np.testing.assert_allclose(alone, stated, rtol=1e-6)


def test_padding_and_order_change_nothing_and_other_words_do():
    lengths = jnp.full(5, 4)
    _, logits = apply(VARIABLES, TOKENS, lengths)
    _, padded = apply(VARIABLES, TOKENS.at[:, 4:].set(8), lengths)
    np.testing.assert_array_equal(logits, padded)
    turned = TOKENS.at[:, :4].set(TOKENS[:, 3::-1])
    _, turned = apply(VARIABLES, turned, lengths)
    # The order of a sum of four.
    np.testing.assert_allclose(logits, turned, rtol=1e-5, atol=1e-6)
    _, other = apply(VARIABLES, (TOKENS + 1) % 9, lengths)
    assert not np.allclose(logits, other)


def test_an_empty_text_gets_the_bias():
    _, logits = apply(VARIABLES, TOKENS[:1], jnp.zeros(1, jnp.int32))
    np.testing.assert_array_equal(logits[0], VARIABLES["params"]["readout"]["bias"])


def test_dropout_draws_only_in_training():
    model = BagOfWords(3, 9, 64, dropout_rate=0.5)
    variables = model.init(jax.random.key(1), TOKENS)

    def logits(key, deterministic):
        return apply(
            variables,
            TOKENS,
            model=model,
            deterministic=deterministic,
            rngs={"dropout": key},
        )[1]

    one, other = jax.random.key(2), jax.random.key(3)
    np.testing.assert_array_equal(logits(one, True), logits(other, True))
    assert not np.array_equal(logits(one, False), logits(other, False))
