"""Sentences and their translations as pairs of token sequences."""

import math
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.datasets.dataset import PairSplit
from experiments.datasets.sequences import (
    Ragged,
    SequenceData,
    Sequences,
    constant_answer,
)
from experiments.datasets.translations import load_help_zh_en
from experiments.datasets.vocabulary import (
    END,
    START,
    Vocabulary,
    build_vocabulary,
    characters,
    words,
)

PAIR_LOADERS: Mapping[str, Callable[[Path], Mapping[str, PairSplit]]] = (
    types.MappingProxyType({"help_zh_en": load_help_zh_en})
)
"""Name of a task -> `(data_dir) -> train, valid and test`."""


def load_translation_task(
    name: str, data_dir: Path, *, vocab_size: int, max_length: int
) -> SequenceData:
    """Loads pairs of sentences, to be translated word by word.

    Args:
      name: one of `PAIR_LOADERS`.
      data_dir: folder of all data sets.
      vocab_size: most tokens of either vocabulary.
      max_length: as in `encode_pairs`.

    Raises:
      DataError: the files are missing or damaged.
    """
    pairs = PAIR_LOADERS[name](data_dir)
    return encode_pairs(name, pairs, vocab_size=vocab_size, max_length=max_length)


def encode_pairs(
    name: str, pairs: Mapping[str, PairSplit], *, vocab_size: int, max_length: int
) -> SequenceData:
    """Turns pairs into tokens: sources into characters, targets into words.

    What the model reads of a target begins with a start token, and what it is to write
    ends with an end token. The vocabularies are those of the training pairs that stay.
    Long pairs are left out of every split, for half a source does not say the whole.

    Args:
      name: name of the task.
      pairs: train, valid and test.
      vocab_size: most tokens of either vocabulary.
      max_length: pairs with more characters, or with more words and an end token, are
        left out; the number of those for training becomes `dropped`. 0 for none.
    """
    tokens = {
        split: [
            (characters(source), words(target))
            for source, target in zip(part.sources, part.targets, strict=True)
            if not max_length or max(len(source), len(words(target)) + 1) <= max_length
        ]
        for split, part in pairs.items()
    }
    vocabularies = [
        build_vocabulary(side, max_size=vocab_size)
        for side in zip(*tokens["train"], strict=True)
    ]
    splits = {split: _encode(part, *vocabularies) for split, part in tokens.items()}
    source_vocabulary, vocabulary = (known.tokens for known in vocabularies)
    train, test = (_targets(splits[split]) for split in ("train", "test"))
    loss, _ = constant_answer(train, test, len(vocabulary))
    return SequenceData(
        name=name,
        kind="label",
        input_size=0,
        output_size=len(vocabulary),
        metric="bits_per_token",
        baseline_loss=loss,
        baseline_metric=loss / math.log(2),
        splits=splits,
        tokens="words",
        vocabulary=vocabulary,
        source_tokens="characters",
        source_vocabulary=source_vocabulary,
        dropped=len(pairs["train"].sources) - len(tokens["train"]),
    )


def _encode(
    pairs: Sequence[tuple[list[str], list[str]]],
    source_vocabulary: Vocabulary,
    vocabulary: Vocabulary,
) -> Sequences:
    start, end = (np.asarray([token], np.int32) for token in (START, END))
    targets = [vocabulary.encode(target) for _, target in pairs]
    return Sequences(
        Ragged.from_list([np.concatenate([start, target]) for target in targets]),
        Ragged.from_list([np.concatenate([target, end]) for target in targets]),
        sources=Ragged.from_list(
            [source_vocabulary.encode(source) for source, _ in pairs]
        ),
    )


def _targets(split: Sequences) -> np.ndarray:
    assert isinstance(split.targets, Ragged)
    return split.targets.values
