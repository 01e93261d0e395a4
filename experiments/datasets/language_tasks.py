"""Texts to be continued, character by character."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.datasets.literature import load_quatrains, load_shakespeare
from experiments.datasets.melodies import load_melodies
from experiments.datasets.sequences import Ragged, SequenceData, Sequences
from experiments.datasets.vocabulary import (
    END,
    START,
    Vocabulary,
    build_vocabulary,
)

_WINDOW = 256  # characters, where --max_length does not say


def load_language_task(
    name: str, data_dir: Path, *, vocab_size: int, max_length: int
) -> SequenceData:
    """Loads a text whose every character is to be predicted from those before it.

    Quatrains and melodies are one sequence each, from a start token on, with an end
    token as the last target. Shakespeare is cut into windows of `max_length`
    characters; those of valid and test overlap by half, and there the first half of a
    window is context and does not count.

    Args:
      name: `melodies`, `quatrains` or `shakespeare`.
      data_dir: folder of all data sets.
      vocab_size: most characters that are told apart.
      max_length: characters of a window; 256 if 0.

    Raises:
      DataError: the files are missing or damaged.
    """
    if name == "shakespeare":
        text = load_shakespeare(data_dir)
        vocabulary = build_vocabulary([list(text["train"])], max_size=vocab_size)
        splits = {
            split: cut_windows(
                np.asarray(vocabulary.encode(list(part)), np.int32),
                max_length or _WINDOW,
                overlap=split != "train",
            )
            for split, part in text.items()
        }
    else:
        load = load_quatrains if name == "quatrains" else load_melodies
        texts = load(data_dir)
        vocabulary = build_vocabulary(map(list, texts["train"]), max_size=vocab_size)
        splits = {split: whole_texts(vocabulary, part) for split, part in texts.items()}
    return _task(name, vocabulary, splits)


def cut_windows(tokens: np.ndarray, window: int, *, overlap: bool) -> Sequences:
    """Cuts a text into windows, each with the tokens that follow its own.

    Args:
      tokens: `[time]`, more than `window`.
      window: tokens of a window.
      overlap: whether the next window begins in the middle of the one before, so that
        what counts in it, its second half, has as much context at least.
    """
    stride = window // 2 if overlap else window
    starts = np.arange(0, len(tokens) - window, stride)
    places = starts[:, None] + np.arange(window)
    unscored = np.where(starts > 0, window - stride, 0)
    return Sequences(
        Ragged.from_array(tokens[places]),
        Ragged.from_array(tokens[places + 1]),
        unscored,
    )


def whole_texts(vocabulary: Vocabulary, texts: list[str]) -> Sequences:
    """Takes each text as a sequence of its own, with a start and an end."""
    encoded = [np.asarray(vocabulary.encode(list(text)), np.int32) for text in texts]
    start, end = (np.asarray([token], np.int32) for token in (START, END))
    return Sequences(
        Ragged.from_list([np.concatenate([start, text]) for text in encoded]),
        Ragged.from_list([np.concatenate([text, end]) for text in encoded]),
    )


def _task(
    name: str, vocabulary: Vocabulary, splits: Mapping[str, Sequences]
) -> SequenceData:
    """A guess without memory knows how often each token occurs in train."""
    size = len(vocabulary.tokens)
    train, test = (_targets(splits[split]) for split in ("train", "test"))
    counts = np.bincount(train, minlength=size) + 1
    loss = float(-np.mean(np.log(counts / counts.sum())[test]))
    return SequenceData(
        name=name,
        kind="label",
        input_size=0,
        output_size=size,
        metric="bits_per_token",
        baseline_loss=loss,
        baseline_metric=loss / math.log(2),
        splits=splits,
        tokens="characters",
        vocabulary=vocabulary.tokens,
    )


def _targets(split: Sequences) -> np.ndarray:
    assert isinstance(split.targets, Ragged)
    return split.targets.values
