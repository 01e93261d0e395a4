"""Stored sequences of different lengths, with what is asked of each."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple, Self

import numpy as np

from experiments.datasets.description import TaskDescription


class Ragged(NamedTuple):
    """Sequences of different lengths, one behind the other.

    Attributes:
      values: `[steps of all sequences, *feature]`.
      starts: where each sequence starts, and where the last one ends,
        `[sequences+1]`, int64.
    """

    values: np.ndarray
    starts: np.ndarray

    @classmethod
    def from_list(cls, sequences: list[np.ndarray]) -> Self:
        """Joins sequences `[time, *feature]`; at least one."""
        lengths = [len(sequence) for sequence in sequences]
        return cls(np.concatenate(sequences), np.cumsum([0, *lengths]))

    @classmethod
    def from_array(cls, values: np.ndarray) -> Self:
        """Takes sequences of one length, `[sequences, time, *feature]`."""
        count, num_steps, *feature = values.shape
        starts = num_steps * np.arange(count + 1)
        return cls(values.reshape(count * num_steps, *feature), starts)

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each sequence, `[sequences]`."""
        return np.diff(self.starts)

    def take(self, chosen: np.ndarray, num_steps: int) -> np.ndarray:
        """Returns some sequences as one array, zero behind the end of each.

        Args:
          chosen: numbers of the sequences, `[batch]`.
          num_steps: steps of the result; of longer sequences the first ones stay.

        Returns:
          `[batch, num_steps, *feature]`.
        """
        steps = self.starts[chosen][:, None] + np.arange(num_steps)
        real = steps < self.starts[chosen + 1][:, None]
        taken = self.values[np.minimum(steps, len(self.values) - 1)]
        taken[~real] = 0
        return taken


class Sequences(NamedTuple):
    """One split.

    Attributes:
      inputs: what the model reads: tokens, or features `[input]` of a step.
      targets: classify `[sequences]`, int32; forecast `[sequences, *output]`, float32;
        label and multilabel as many steps as `inputs`; transcribe `[sequences,
        labels]`, int32 from 1 on, zeros behind the end of each.
      unscored: first steps of each sequence that are there for their context alone and
        do not count, `[sequences]`; None for none.
      sources: what each sequence is a translation of, as tokens; None for none.
    """

    inputs: Ragged
    targets: np.ndarray | Ragged
    unscored: np.ndarray | None = None
    sources: Ragged | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceData(TaskDescription):
    """A stored task, ready to be cut into batches.

    Attributes:
      splits: train, valid and test. Bytes are pixels from 0 to 255, which whoever makes
        a batch divides by 255.
    """

    splits: Mapping[str, Sequences]


def constant_answer(
    train: np.ndarray, test: np.ndarray, num_classes: int
) -> tuple[float, float]:
    """Returns what an answer that ignores its input scores on test.

    Args:
      train: labels, whose shares are the answer.
      test: labels.
      num_classes: number of classes; each counts once more than it occurs.

    Returns:
      Cross-entropy in nats, and the accuracy of the commonest class.
    """
    counts = np.bincount(train, minlength=num_classes) + 1
    loss = -np.mean(np.log(counts / counts.sum())[test])
    return float(loss), float(np.mean(test == counts.argmax()))
