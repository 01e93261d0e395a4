"""Spoken words and vowels as sequences of frames: one class for each, or several."""

import types
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from experiments.datasets.dataset import FrameSplit
from experiments.datasets.frames import (
    digit_strings,
    load_japanese_vowels,
    load_spoken_digits,
    standardise_frames,
)
from experiments.datasets.sequences import (
    Ragged,
    SequenceData,
    Sequences,
    constant_answer,
)

_LOADERS: Mapping[str, Callable[[Path], Mapping[str, FrameSplit]]] = (
    types.MappingProxyType(
        {"japanese_vowels": load_japanese_vowels, "spoken_digits": load_spoken_digits}
    )
)
_CLASSES = {
    "japanese_vowels": tuple(f"speaker {number}" for number in range(1, 10)),
    "spoken_digits": tuple("0123456789"),
}
_NUM_STRINGS = {"train": 10_000, "valid": 500, "test": 500}
_NUM_DIGITS = 1, 5


def load_speech_task(name: str, data_dir: Path) -> SequenceData:
    """Loads utterances to classify, every feature standardised over train.

    Args:
      name: `japanese_vowels` or `spoken_digits`.
      data_dir: folder of all data sets.

    Raises:
      DataError: the files are missing or damaged.
    """
    splits = standardise_frames(_LOADERS[name](data_dir))
    classes = _CLASSES[name]
    loss, accuracy = constant_answer(
        splits["train"].labels, splits["test"].labels, len(classes)
    )
    return SequenceData(
        name=name,
        kind="classify",
        input_size=splits["train"].frames[0].shape[1],
        output_size=len(classes),
        metric="accuracy",
        baseline_loss=loss,
        baseline_metric=accuracy,
        splits={
            split: Sequences(Ragged.from_list(part.frames), part.labels)
            for split, part in splits.items()
        },
        classes=classes,
    )


def load_digit_strings(data_dir: Path) -> SequenceData:
    """Loads strings of one to five spoken digits, to be written down.

    They are put together out of the recordings of `spoken_digits`, one right after the
    other, those of each split for itself, and standardised in the same way.

    Args:
      data_dir: folder of all data sets.

    Raises:
      DataError: the files are missing or damaged.
    """
    recordings = standardise_frames(load_spoken_digits(data_dir))
    splits, answers = {}, {}
    for seed, (name, count) in enumerate(_NUM_STRINGS.items()):
        strings = digit_strings(recordings[name], _NUM_DIGITS, count, seed)
        answers[name] = labels = np.zeros((count, _NUM_DIGITS[1]), np.int32)
        for row, digits in zip(labels, strings.labels, strict=True):
            row[: len(digits)] = digits + 1
        splits[name] = Sequences(Ragged.from_list(strings.frames), labels)
    classes = ("<blank>", *_CLASSES["spoken_digits"])
    loss, error_rate = constant_transcript(
        answers["train"], answers["test"], len(classes)
    )
    return SequenceData(
        name="digit_strings",
        kind="transcribe",
        input_size=recordings["train"].frames[0].shape[1],
        output_size=len(classes),
        metric="label_error_rate",
        baseline_loss=loss,
        baseline_metric=error_rate,
        splits=splits,
        classes=classes,
    )


def constant_transcript(
    train: np.ndarray, test: np.ndarray, num_classes: int
) -> tuple[float, float]:
    """Returns what an answer that ignores its input scores on test.

    Args:
      train: `[sequences, labels]`, zeros behind the end of each.
      test: the same.
      num_classes: number of classes, the blank among them.

    Returns:
      Nats per sequence where the number of labels, and each label for itself, are as
      often as in train; and the label error rate of one answer for all. That answer is
      made from nothing, label by label, by what lowers the errors on train most.
    """
    counts, test_counts = (np.sum(x > 0, axis=1) for x in (train, test))
    count_loss, _ = constant_answer(counts, test_counts, train.shape[1] + 1)
    label_loss, _ = constant_answer(train[train > 0], test[test > 0], num_classes)
    answer: list[int] = []
    errors = label_errors(answer, train)
    while True:
        longer = [
            [*answer[:place], label, *answer[place:]]
            for place in range(len(answer) + 1)
            for label in range(1, num_classes)
        ]
        found, candidate = min((label_errors(each, train), each) for each in longer)
        if found >= errors:
            break
        answer, errors = candidate, found
    loss = count_loss + label_loss * float(np.mean(test_counts))
    return loss, label_errors(answer, test) / int(np.sum(test_counts))


def label_errors(answer: list[int], labels: np.ndarray) -> int:
    """Counts the labels to insert, delete or replace in one answer to many sequences.

    Args:
      answer: labels.
      labels: the right ones, `[sequences, labels]`, zeros behind the end of each.
    """
    ends = np.sum(labels > 0, axis=1)
    row = np.tile(np.arange(labels.shape[1] + 1), (len(labels), 1))
    for label in answer:
        above, row = row, row + 1
        for place in range(labels.shape[1]):
            replaced = above[:, place] + (labels[:, place] != label)
            best = np.minimum(row[:, place + 1], replaced)
            row[:, place + 1] = np.minimum(best, row[:, place] + 1)
    return int(np.sum(row[np.arange(len(labels)), ends]))
