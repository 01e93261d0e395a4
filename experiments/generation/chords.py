"""Chords: how a prompt is read, and how they are shown and written."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.common.launch import BAD_FLAG, Exit
from experiments.datasets.chorales import LOWEST_PITCH, NUM_PITCHES
from experiments.datasets.midi import write_midi

_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_NOTE = re.compile(r"([A-G])([#b]?)(\d)")
_REST = "rest"


class Chords:
    """The keys of a piano, any number of them at a step.

    Attributes:
      start: what the model reads before the prompt: silence.
      end: None: a piece has no end.
      ending: what is shown behind a piece.
      allowed: None: there is nothing that may not follow.
    """

    start = np.zeros(NUM_PITCHES, np.float32)
    end = None
    ending = ""
    allowed = None

    def read(self, prompt: str) -> np.ndarray:
        """Returns the chords of a prompt, float32 `[time, 88]`.

        Args:
          prompt: chords with blanks between, notes with commas between, as in
            `C3,G3,E4,C5 rest Bb2,F3`.

        Raises:
          Exit: a word is no chord on a piano.
        """
        roll = np.zeros((len(prompt.split()), NUM_PITCHES), np.float32)
        for step, chord in enumerate(prompt.split()):
            if chord != _REST:
                roll[step, [_key(note) for note in chord.split(",")]] = 1
        return roll

    def show(self, chord: np.ndarray) -> str:
        """Returns a line that `read` reads."""
        pitches = [LOWEST_PITCH + int(key) for key in np.flatnonzero(chord)]
        names = [f"{_NAMES[pitch % 12]}{pitch // 12 - 1}" for pitch in pitches]
        return (",".join(names) or _REST) + "\n"

    def report(self, samples: Sequence[Sequence[np.ndarray]]) -> None:
        """Tells nothing: chords keep no form."""

    def write(self, path: Path, samples: Sequence[Sequence[np.ndarray]]) -> None:
        """Writes MIDI files; of several pieces with `-1`, `-2` and so on."""
        for number, chords in enumerate(samples, start=1):
            name = f"{path.stem}-{number}{path.suffix}"
            target = path if len(samples) == 1 else path.with_name(name)
            write_midi(target, np.array(chords).reshape(-1, NUM_PITCHES))


def _key(note: str) -> int:
    """Returns the column of a note such as `F#4`."""
    found = _NOTE.fullmatch(note)
    if found:
        accidental = {"": 0, "#": 1, "b": -1}[found[2]]
        pitch = 12 * (int(found[3]) + 1) + _NAMES.index(found[1]) + accidental
        if 0 <= pitch - LOWEST_PITCH < NUM_PITCHES:
            return pitch - LOWEST_PITCH
    raise Exit(
        BAD_FLAG, f"--prompt: {note!r} is no note from A0 to C8; expected C3,G3,E4 rest"
    )
