"""Sentences through a trained translator, many at a time."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.datasets.vocabulary import (
    END,
    PAD,
    START,
    UNKNOWN,
    Vocabulary,
    characters,
)
from experiments.runs.served import Served
from experiments.translation.text import join_words
from seqjax.array_types import Array, PyTree
from seqjax.decoding import beam_search, greedy_search, translation_step

_SLACK = 10  # words that a translation may have more than its source has characters
_ROUND_TO = 16  # lengths of sources are padded to a multiple, to compile seldom


class Search:
    """Translates sentences by greedy search, or by beam search.

    The search never writes <pad>, <unk> or <start>, ends at <end>, and writes at most
    `max_length` words, and ten more than the longest source of a batch has characters.

    Attributes:
      name: how it searches.
    """

    def __init__(
        self,
        served: Served,
        *,
        num_beams: int,
        max_length: int,
        length_penalty: float = 1.0,
        batch_size: int = 64,
    ) -> None:
        """Compiles nothing yet.

        Args:
          served: a trained translator.
          num_beams: hypotheses that are followed; 1 searches greedily.
          max_length: most words of a translation.
          length_penalty: of the beam search, as in `beam_search`.
          batch_size: sentences that are translated side by side.
        """
        self.name = "greedy search" if num_beams == 1 else f"beam search, {num_beams}"
        self._sources = Vocabulary(served.task.source_vocabulary)
        self._targets = Vocabulary(served.task.vocabulary)
        self._params, self._batch_size = served.params, batch_size
        self._max_length = max_length
        search = functools.partial(
            _search_one, served.model, num_beams=num_beams, penalty=length_penalty
        )
        batched = jax.vmap(search, in_axes=(None, 0, 0, None))
        self._search = jax.jit(batched, static_argnums=3)

    def translate(self, sentences: Sequence[str]) -> list[str]:
        """Returns a translation of each sentence, in lower case; "" of "".

        Args:
          sentences: of the language of the sources.
        """
        return [join_words(words) for words in self.words(sentences)]

    def words(self, sentences: Sequence[str]) -> list[list[str]]:
        """Returns the words of a translation of each sentence; none of "".

        Args:
          sentences: of the language of the sources.
        """
        sources = [self._sources.encode(characters(text)) for text in sentences]
        order = [i for i in np.argsort([len(s) for s in sources]) if len(sources[i])]
        found: list[list[str]] = [[] for _ in sentences]
        for first in range(0, len(order), self._batch_size):
            chosen = order[first : first + self._batch_size]
            tokens = self._batch([sources[i] for i in chosen])
            for index, row in zip(chosen, tokens, strict=False):
                ended = np.flatnonzero(row == END)
                end = ended[0] if len(ended) else len(row)
                found[index] = self._targets.decode(row[:end])
        return found

    def _batch(self, sources: list[np.ndarray]) -> np.ndarray:
        """Tokens of translations, `[batch, time]`."""
        longest = -(-max(map(len, sources)) // _ROUND_TO) * _ROUND_TO
        padded = np.full((self._batch_size, longest), PAD, np.int32)
        lengths = np.ones(self._batch_size, np.int32)
        for row, source in enumerate(sources):
            padded[row, : len(source)] = source
            lengths[row] = len(source)
        num_steps = min(self._max_length, longest + _SLACK) + 1
        return np.asarray(self._search(self._params, padded, lengths, num_steps))


def _search_one(
    model: Any,
    params: PyTree,
    source: Array,
    length: Array,
    num_steps: int,
    *,
    num_beams: int,
    penalty: float,
) -> Array:
    """Tokens of the translation of one source, `[num_steps]`."""
    carry, step = translation_step(model, params, source, length)

    def writable(carry: PyTree, token: Array) -> tuple[PyTree, Array]:
        carry, logits = step(carry, token)
        return carry, logits.at[jnp.asarray([PAD, UNKNOWN, START])].set(-jnp.inf)

    start = jnp.asarray(START, jnp.int32)
    if num_beams == 1:
        return greedy_search(writable, carry, start, num_steps, END).tokens
    beams = beam_search(writable, carry, start, num_beams, num_steps, END, penalty)
    return beams.tokens[0]


def attention_weights(served: Served, sentence: str, words: Sequence[str]) -> Array:
    """Returns what each word of a translation looks at, as it is written.

    Args:
      served: a trained translator with attention.
      sentence: the source.
      words: the translation.

    Returns:
      Weights, `[words, characters]`; every row sums to 1.
    """
    source = Vocabulary(served.task.source_vocabulary).encode(characters(sentence))
    written = Vocabulary(served.task.vocabulary).encode(words)
    # A word is written by the step that reads the one before it.
    read = jnp.asarray([START, *written[:-1]], jnp.int32)
    return jax.jit(_look, static_argnums=0)(served.model, served.params, source, read)


def _look(model: Any, params: PyTree, source: Array, read: Array) -> Array:
    """Weights at every step that reads a token of `read`, `[time, source_time]`."""
    variables = {"params": params}

    def step(state: PyTree, token: Array) -> tuple[PyTree, Array]:
        state, _, weights = model.apply(variables, state, token, method="step")
        return state, weights

    started = model.apply(variables, source, method="start")
    return jax.lax.scan(step, started, read)[1]
