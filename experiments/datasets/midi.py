"""Writes piano rolls as standard MIDI files, for listening."""

import struct
from pathlib import Path

import numpy as np

from experiments.common import files

_TICKS = 480  # of a step
_VELOCITY = 80
_NOTE_ON, _NOTE_OFF = 0x90, 0x80
_MAX_TEMPO = (1 << 24) - 1  # microseconds of a quarter note, in three bytes


def write_midi(
    path: Path, roll: np.ndarray, seconds_per_step: float = 0.5, lowest_pitch: int = 21
) -> None:
    """Writes a piano roll as a MIDI file; see `midi_bytes`."""
    files.write_atomic(path, midi_bytes(roll, seconds_per_step, lowest_pitch))


def midi_bytes(
    roll: np.ndarray, seconds_per_step: float = 0.5, lowest_pitch: int = 21
) -> bytes:
    """Returns a standard MIDI file of format 0 that plays a piano roll.

    A step lasts a quarter note. What sounds in successive steps is one held note.

    Args:
      roll: `[time, pitch]`: not 0 where a note sounds.
      seconds_per_step: how long a step lasts, up to 16.7.
      lowest_pitch: MIDI number of the roll's first column; 21 is a piano's first key.

    Raises:
      ValueError: the roll has another rank or pitches above 127, or the steps are too
        long or too short.
    """
    if roll.ndim != 2 or not 0 <= lowest_pitch <= 128 - roll.shape[1]:
        raise ValueError(
            f"expected a roll [time, pitch] with MIDI numbers 0 to 127, got "
            f"{list(roll.shape)} from {lowest_pitch}"
        )
    tempo = round(seconds_per_step * 1e6)
    if not 1 <= tempo <= _MAX_TEMPO:
        raise ValueError(
            f"expected steps of 0.000001 to 16.7 seconds, got {seconds_per_step}"
        )
    track = b"\x00\xff\x51\x03" + tempo.to_bytes(3, "big")
    track += _notes(roll != 0, lowest_pitch) + b"\xff\x2f\x00"
    header = struct.pack(">4sIHHH", b"MThd", 6, 0, 1, _TICKS)
    return header + struct.pack(">4sI", b"MTrk", len(track)) + track


def _notes(sounds: np.ndarray, lowest_pitch: int) -> bytes:
    """Returns the events that begin and end notes, up to the wait before the end."""
    silence = np.zeros((1, sounds.shape[1]), np.int8)
    changes = np.diff(sounds.astype(np.int8), axis=0, prepend=silence, append=silence)
    events, last = bytearray(), 0
    for step, pitch in np.argwhere(changes).tolist():
        status = _NOTE_ON if changes[step, pitch] > 0 else _NOTE_OFF
        events += _variable_length((step - last) * _TICKS)
        events += bytes((status, lowest_pitch + pitch, _VELOCITY))
        last = step
    return bytes(events + _variable_length((len(sounds) - last) * _TICKS))


def _variable_length(value: int) -> bytes:
    """Returns a number in groups of seven bits; all bytes but the last have bit 7."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))
