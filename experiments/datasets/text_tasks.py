"""Texts to classify as sequences of tokens."""

import types
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.datasets.dataset import TextData, TextSplit
from experiments.datasets.sequences import (
    Ragged,
    SequenceData,
    Sequences,
    constant_answer,
)
from experiments.datasets.texts import TEXT_LOADERS
from experiments.datasets.vocabulary import (
    TOKENISERS,
    Vocabulary,
    build_vocabulary,
)
from experiments.datasets.word_order import make_word_order

_BY_CHARACTER = ("reviews_zh",)


def load_text_task(
    name: str, data_dir: Path, *, tokens: str | None, vocab_size: int
) -> SequenceData:
    """Loads texts and turns them into numbers of tokens.

    Args:
      name: one of `TEXT_LOADERS`, or `word_order`, which is generated.
      data_dir: folder of all data sets.
      tokens: `characters` or `words`; what suits the language if None.
      vocab_size: most tokens of the vocabulary, which comes from train alone.

    Raises:
      DataError: the files are missing or damaged.
    """
    data = make_word_order() if name == "word_order" else TEXT_LOADERS[name](data_dir)
    kind = tokens or ("characters" if name in _BY_CHARACTER else "words")
    return tokenise(data, kind, vocab_size)


def tokenise(data: TextData, tokens: str, vocab_size: int) -> SequenceData:
    """Turns texts into numbers of tokens; what the vocabulary lacks becomes one.

    Args:
      data: the texts.
      tokens: `characters` or `words`.
      vocab_size: most tokens of the vocabulary, which comes from train alone.
    """
    texts = {
        split: [TOKENISERS[tokens](text) for text in part.texts]
        for split, part in data.splits.items()
    }
    vocabulary = build_vocabulary(texts["train"], max_size=vocab_size)
    splits = {
        split: _encode(vocabulary, texts[split], part)
        for split, part in data.splits.items()
    }
    loss, accuracy = constant_answer(
        data.splits["train"].labels, data.splits["test"].labels, len(data.classes)
    )
    return SequenceData(
        name=data.name,
        kind="classify",
        input_size=0,
        output_size=len(data.classes),
        metric="accuracy",
        baseline_loss=loss,
        baseline_metric=accuracy,
        splits=types.MappingProxyType(splits),
        tokens=tokens,
        vocabulary=vocabulary.tokens,
        classes=data.classes,
    )


def _encode(
    vocabulary: Vocabulary, texts: Sequence[list[str]], part: TextSplit
) -> Sequences:
    encoded = [np.asarray(vocabulary.encode(text), np.int32) for text in texts]
    return Sequences(Ragged.from_list(encoded), part.labels)
