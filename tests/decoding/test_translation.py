"""Steps of a translator: the logits of the whole target, hypotheses side by side."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import cells
from seqjax.combinators import bidirectional
from seqjax.decoding import beam_search, translation_step
from seqjax.models import Translator
from tests.helpers import random_like

MODEL = Translator(
    cell=cells.lstm(3, 4),
    encoder=bidirectional(cells.lstm(3, 4)),
    vocab_size=5,
    source_vocab_size=9,
    embedding_size=3,
)
SOURCE, LENGTH = jnp.asarray([4, 8, 1, 0]), jnp.asarray(3)


def _params():
    target = jnp.zeros(2, jnp.int32)
    shapes: Any = jax.eval_shape(MODEL.init, jax.random.key(0), (SOURCE, target))
    # Large ones, so that every token matters.
    return random_like(shapes["params"], seed=0, scale=2.0)


def test_steps_give_the_logits_of_the_whole_target():
    params, target = _params(), jnp.asarray([2, 0, 4, 1], jnp.int32)
    lengths = (LENGTH, jnp.asarray(4))
    outputs: Any = MODEL.apply({"params": params}, (SOURCE, target), lengths)
    carry, step = translation_step(MODEL, params, SOURCE, LENGTH)
    _, logits = jax.lax.scan(step, carry, target)
    # The same products, blocked differently.
    np.testing.assert_allclose(logits, outputs[1], atol=1e-5)
    # What is not real is not read.
    carry, step = translation_step(MODEL, params, SOURCE.at[3].set(7), LENGTH)
    _, same = jax.lax.scan(step, carry, target)
    np.testing.assert_array_equal(same, logits)


def test_beams_find_the_likeliest_of_all_translations():
    params, max_length, end = _params(), 3, 0
    carry, step = translation_step(MODEL, params, SOURCE, LENGTH)
    start = jnp.asarray(2, jnp.int32)
    beams = beam_search(step, carry, start, 64, max_length, end)
    written = np.stack(np.unravel_index(np.arange(125), (5, 5, 5)), axis=-1)
    read = jnp.asarray(np.pad(written[:, :-1], ((0, 0), (1, 0)), constant_values=2))
    sources = jnp.tile(SOURCE, (125, 1))
    lengths = (jnp.full(125, LENGTH), jnp.full(125, max_length))
    outputs: Any = MODEL.apply({"params": params}, (sources, read), lengths)
    log_probs = np.asarray(jax.nn.log_softmax(outputs[1]))
    scores = np.take_along_axis(log_probs, written[..., None], axis=-1)[..., 0]
    is_end = written == end
    after = np.cumsum(is_end, axis=1) - is_end > 0
    totals = np.where(after, 0, scores).sum(axis=1)
    best = totals.argmax()
    expected = np.where(after[best], end, written[best])
    np.testing.assert_array_equal(beams.tokens[0], expected)
    # A sum of three in another order.
    np.testing.assert_allclose(beams.log_probs[0], totals[best], rtol=1e-5)
