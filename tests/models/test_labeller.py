from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import cells, unroll
from seqjax.models import LanguageModel, SequenceLabeller
from tests.helpers import assert_trees_close

XS = jax.random.normal(jax.random.key(0), (4, 6, 3))
TOKENS = jax.random.randint(jax.random.key(2), (4, 6), 0, 11)


def _apply(model, variables, *args, **options) -> tuple[Any, Any]:
    return model.apply(variables, *args, **options)


def test_labels_are_the_readout_of_every_output():
    cell = cells.gru(3, 5)
    model = SequenceLabeller(cell, 7)
    params = model.init(jax.random.key(1), XS)["params"]
    carry, logits = _apply(model, {"params": params}, XS)
    expected_carry, ys = unroll(cell, params["cell"], XS)
    assert_trees_close(carry, expected_carry)
    kernel, bias = (np.asarray(params["readout"][name]) for name in ("kernel", "bias"))
    # One order of float32 products against another.
    np.testing.assert_allclose(logits, np.asarray(ys) @ kernel + bias, atol=1e-6)


def test_untied_language_model_is_a_labeller_of_tokens():
    cell = cells.lstm(4, 5)
    model = LanguageModel(cell, 11, embedding_size=4)
    labeller = SequenceLabeller(cell, 11, vocab_size=11, embedding_size=4)
    params = model.init(jax.random.key(1), TOKENS)
    assert_trees_close(_apply(model, params, TOKENS), _apply(labeller, params, TOKENS))


@pytest.mark.parametrize("hidden_size", [4, 5])
def test_tied_weights_read_out_with_the_embedding_table(hidden_size):
    cell = cells.lstm(4, hidden_size)
    model = LanguageModel(cell, 11, embedding_size=4, tied=True)
    params = model.init(jax.random.key(1), TOKENS)["params"]
    table: Any = params["embedding"]["embedding"]
    _, ys = unroll(cell, params["cell"], table[TOKENS])
    if hidden_size == 4:
        assert set(params) == {"cell", "embedding"}
    else:
        assert set(params) == {"cell", "embedding", "projection"}
        # The bias starts at zero.
        ys = ys @ params["projection"]["kernel"]
    _, logits = _apply(model, {"params": params}, TOKENS)
    # One order of float32 products against another.
    np.testing.assert_allclose(logits, ys @ table.T, atol=1e-6)


def test_tied_table_learns_from_tokens_that_are_never_read():
    model = LanguageModel(cells.lstm(4, 4), 11, embedding_size=4, tied=True)
    tokens = jnp.zeros((1, 3), jnp.int32)
    params = model.init(jax.random.key(1), tokens)

    def loss(params):
        return jnp.sum(jax.nn.log_softmax(_apply(model, params, tokens)[1])[..., 7])

    gradient = jax.grad(loss)(params)["params"]["embedding"]["embedding"]
    assert np.all(np.any(gradient != 0, axis=1))


def test_a_text_in_two_pieces_scores_as_in_one():
    model = LanguageModel(cells.lstm(4, 5), 11, embedding_size=4)
    params = model.init(jax.random.key(1), TOKENS)
    carry, logits = _apply(model, params, TOKENS)
    middle, early = _apply(model, params, TOKENS[:, :2])
    final, late = _apply(model, params, TOKENS[:, 2:], carry=middle)
    # The same steps compiled at two lengths.
    assert_trees_close(final, carry, atol=1e-6)
    np.testing.assert_allclose(jnp.concatenate([early, late], 1), logits, atol=1e-6)
