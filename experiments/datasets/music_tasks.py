"""Chorales as sequences of chords: which notes sound next."""

from pathlib import Path

import numpy as np

from experiments.datasets.chorales import load_chorales
from experiments.datasets.sequences import Ragged, SequenceData, Sequences


def load_chorale_task(data_dir: Path) -> SequenceData:
    """Loads chorales whose every chord is to be predicted from those before it.

    A step reads the chord before, silence at the first step, and a target is the chord
    itself: 88 features that are on or off. A guess without memory knows how often each
    note sounds in train.

    Args:
      data_dir: folder of all data sets.

    Raises:
      DataError: the file is missing or damaged.
    """
    rolls = {split: part.rolls for split, part in load_chorales(data_dir).items()}
    train, test = (np.concatenate(rolls[split]) for split in ("train", "test"))
    # Every note counts once as on and once as off beyond what it does.
    on = (train.sum(axis=0) + 1) / (len(train) + 2)
    loss = -np.mean(np.sum(np.where(test, np.log(on), np.log1p(-on)), axis=1))
    return SequenceData(
        name="chorales",
        kind="multilabel",
        input_size=train.shape[1],
        output_size=train.shape[1],
        metric="binary_cross_entropy",
        baseline_loss=float(loss),
        baseline_metric=float(loss),
        splits={split: _next_chords(part) for split, part in rolls.items()},
    )


def _next_chords(rolls: list[np.ndarray]) -> Sequences:
    before = [np.pad(roll[:-1], ((1, 0), (0, 0))) for roll in rolls]
    return Sequences(
        Ragged.from_list([roll.astype(bool) for roll in before]),
        Ragged.from_list([roll.astype(np.float32) for roll in rolls]),
    )
