"""Spoken words and vowels as sequences of frames, one class for each."""

import types
from collections.abc import Callable, Mapping
from pathlib import Path

from experiments.datasets.dataset import FrameSplit
from experiments.datasets.frames import (
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
