"""MIDI files, read back by the definition of the format."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.datasets.midi import midi_bytes, write_midi


def events(track: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the time in ticks and the bytes of every event of a track."""
    place = now = 0
    while place < len(track):
        wait = 0
        while True:
            byte = track[place]
            place += 1
            wait = wait << 7 | byte & 0x7F
            if byte < 0x80:
                break
        now += wait
        size = 3 + track[place + 2] if track[place] == 0xFF else 3
        yield now, track[place : place + size]
        place += size


def parse(data: bytes) -> tuple[int, list[tuple[int, bytes]]]:
    """Returns the ticks of a quarter note, and the events."""
    kind, size, form, num_tracks, ticks = struct.unpack(">4sIHHH", data[:14])
    assert (kind, size, form, num_tracks) == (b"MThd", 6, 0, 1)
    kind, size = struct.unpack(">4sI", data[14:22])
    assert kind == b"MTrk"
    assert size == len(data) - 22
    return ticks, list(events(data[22:]))


def read_roll(data: bytes, num_pitches: int, lowest_pitch: int) -> np.ndarray:
    """Plays a file into a roll."""
    ticks, found = parse(data)
    end, last = found[-1]
    assert last == b"\xff\x2f\x00"
    roll = np.zeros((end // ticks, num_pitches), np.uint8)
    since: dict[int, int] = {}
    for now, event in found:
        if event[0] == 0x90:
            # A note that sounds already is never struck again.
            assert since.setdefault(event[1], now) == now
            assert event[2] > 0
        elif event[0] == 0x80:
            steps = slice(since.pop(event[1]) // ticks, now // ticks)
            roll[steps, event[1] - lowest_pitch] = 1
    assert not since
    return roll


@given(
    num_steps=st.integers(0, 12),
    num_pitches=st.integers(1, 88),
    seed=st.integers(0, 99),
    density=st.sampled_from([0.0, 0.2, 0.8, 1.0]),
)
@settings(deadline=None)
def test_a_roll_is_read_back(
    num_steps: int, num_pitches: int, seed: int, density: float
) -> None:
    rng = np.random.default_rng(seed)
    roll = (rng.random((num_steps, num_pitches)) < density).astype(np.uint8)
    data = midi_bytes(roll, lowest_pitch=30)
    np.testing.assert_array_equal(read_roll(data, num_pitches, 30), roll)


def test_the_bytes_of_one_note() -> None:
    roll = np.zeros((3, 88), np.uint8)
    roll[1, 60 - 21] = 1
    expected = (
        "4d546864 00000006 0000 0001 01e0"  # format 0, one track, 480 ticks
        "4d54726b 00000016"
        "00 ff5103 03d090"  # 250,000 microseconds a quarter note
        "8360 903c50"  # after 480 ticks the C in the middle
        "8360 803c50"
        "8360 ff2f00"
    )
    assert midi_bytes(roll, 0.25) == bytes.fromhex(expected)


def test_long_waits_and_slow_steps() -> None:
    roll = np.zeros((300, 1), np.float32)
    roll[299] = 0.5
    data = midi_bytes(roll, 16.0)
    np.testing.assert_array_equal(read_roll(data, 1, 21), roll > 0)
    tempo = parse(data)[1][0][1]
    assert int.from_bytes(tempo[3:], "big") == 16_000_000


def test_a_file_holds_the_bytes(tmp_path: Path) -> None:
    roll = np.eye(4, dtype=np.uint8)
    write_midi(tmp_path / "a.mid", roll, 0.4, lowest_pitch=60)
    assert (tmp_path / "a.mid").read_bytes() == midi_bytes(roll, 0.4, 60)


def test_what_midi_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"numbers 0 to 127, got \[3\] from 21"):
        midi_bytes(np.zeros(3))
    for pitches, lowest in ((88, 41), (1, -1)):
        with pytest.raises(ValueError, match="numbers 0 to 127"):
            midi_bytes(np.zeros((2, pitches)), lowest_pitch=lowest)
    for seconds in (0.0, -1.0, 17.0):
        with pytest.raises(ValueError, match=r"0\.000001 to 16\.7 seconds"):
            midi_bytes(np.zeros((2, 3)), seconds)
