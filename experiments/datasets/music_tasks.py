"""Chorales as sequences of chords: which notes sound next."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from experiments.datasets.chorales import load_chorales
from experiments.datasets.sequences import Ragged, SequenceData, Sequences


def load_chorale_task(data_dir: Path, *, transpose: int) -> SequenceData:
    """Loads chorales whose every chord is to be predicted from those before it.

    A step reads the chord before, silence at the first step, and a target is the chord
    itself: 88 features that are on or off. A guess without memory knows how often each
    note sounds in train.

    Args:
      data_dir: folder of all data sets.
      transpose: train also has every piece moved up and down by up to so many
        semitones; the guess does not learn from those.

    Raises:
      DataError: the file is missing or damaged.
    """
    rolls = {split: part.rolls for split, part in load_chorales(data_dir).items()}
    train, test = (np.concatenate(rolls[split]) for split in ("train", "test"))
    # Every note counts once as on and once as off beyond what it does.
    on = (train.sum(axis=0) + 1) / (len(train) + 2)
    loss = -np.mean(np.sum(np.where(test, np.log(on), np.log1p(-on)), axis=1))
    shifts = range(-transpose, transpose + 1)
    moved = [moved for roll in rolls["train"] for moved in transposed(roll, shifts)]
    return SequenceData(
        name="chorales",
        kind="multilabel",
        input_size=train.shape[1],
        output_size=train.shape[1],
        metric="binary_cross_entropy",
        baseline_loss=float(loss),
        baseline_metric=float(loss),
        splits={
            split: _next_chords(part)
            for split, part in (rolls | {"train": moved}).items()
        },
    )


def transposed(roll: np.ndarray, shifts: Iterable[int]) -> list[np.ndarray]:
    """Moves a piece up by numbers of semitones, without those that it has no room for.

    Args:
      roll: which notes sound, `[time, note]`.
      shifts: semitones, negative ones down.
    """
    sounding = np.flatnonzero(roll.any(axis=0))
    lowest, highest = sounding[0], sounding[-1]
    return [
        np.roll(roll, shift, axis=1)
        for shift in shifts
        if lowest + shift >= 0 and highest + shift < roll.shape[1]
    ]


def _next_chords(rolls: list[np.ndarray]) -> Sequences:
    before = [np.pad(roll[:-1], ((1, 0), (0, 0))) for roll in rolls]
    return Sequences(
        Ragged.from_list([roll.astype(bool) for roll in before]),
        Ragged.from_list([roll.astype(np.float32) for roll in rolls]),
    )
