"""The header of a flagfile: its question, and the bands that its numbers must meet.

A header is the comments before the first flag. An entry begins with `# Name:` and goes
on in lines that begin with `#` and two blanks or more. Every expected number has an
entry of its own:

    # Expected: test_mean_squared_error in [0, 0.005]; a guess has 1/6 = 0.1667.

The flagfile of a training run may say what a short run changes, and expects:

    # Short: --num_steps=300 --eval_size=200
    # Expected short: test_mean_squared_error in [0, 0.2]; it has begun to learn.
"""

import math
import re
from pathlib import Path
from typing import NamedTuple

FLAGFILES = Path(__file__).parents[1] / "flagfiles"
_ENTRY = re.compile(r"# ([A-Z][a-z]+(?: short)?): (.*)")
_BAND = re.compile(r"(\w+) in \[([^,\]]+), ([^,\]]+)\](?:[;,] (.*))?")
_NEEDED = ("Question", "Source", "Command", "Cost", "Expected")


class Band(NamedTuple):
    """What a number is expected to be.

    Attributes:
      name: of the number.
      low: smallest expected value.
      high: largest expected value.
      why: where the band comes from.
    """

    name: str
    low: float
    high: float
    why: str

    def holds(self, value: float) -> bool:
        """Says whether a value lies in the band; NaN does not."""
        return self.low <= value <= self.high


class Header(NamedTuple):
    """What a flagfile says of itself.

    Attributes:
      question: what is asked.
      source: where the claim or the setting was published.
      command: the command line that answers.
      cost: time that it takes.
      bands: the expected numbers, in the order of the file.
      short: flags that a short run adds.
      short_bands: the numbers that a short run is expected to have.
    """

    question: str
    source: str
    command: str
    cost: str
    bands: tuple[Band, ...]
    short: tuple[str, ...] = ()
    short_bands: tuple[Band, ...] = ()

    def expected(self, *, full: bool) -> tuple[Band, ...]:
        """Returns the bands of the full run or, if it differs, of the short one."""
        return self.bands if full or not self.short else self.short_bands


def read_header(path: Path) -> Header:
    """Reads the header of a flagfile.

    Raises:
      ValueError: an entry is missing, or a band cannot be read.
    """
    entries = _entries(path.read_text("utf-8"))
    missing = [name for name in _NEEDED if name not in entries]
    if missing:
        raise ValueError(f"{path.name}: expected an entry `# {missing[0]}: ...`")
    bands, short_bands = (
        _bands(path, entries.get(name, [])) for name in ("Expected", "Expected short")
    )
    short = tuple(" ".join(entries.get("Short", [])).split())
    question, source, command, cost = (" ".join(entries[name]) for name in _NEEDED[:4])
    return Header(question, source, command, cost, bands, short, short_bands)


def _bands(path: Path, texts: list[str]) -> tuple[Band, ...]:
    bands = tuple(_band(path, text) for text in texts)
    names = [band.name for band in bands]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"{path.name}: two bands for {sorted(twice)[0]}")
    return bands


def _entries(text: str) -> dict[str, list[str]]:
    """Returns the texts of the header by the name of their entry."""
    entries: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        found = _ENTRY.fullmatch(line)
        if found:
            current = entries.setdefault(found[1], [])
            current.append(found[2].strip())
        elif current:
            current[-1] += " " + line[1:].strip()
    return entries


def _band(path: Path, text: str) -> Band:
    found = _BAND.fullmatch(text)
    expected = f"{path.name}: expected `NAME in [low, high]; why`, got {text!r}"
    if not found:
        raise ValueError(expected)
    try:
        low, high = float(found[2]), float(found[3])
    except ValueError as error:
        raise ValueError(expected) from error
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"{expected}: the ends must be finite and in order")
    return Band(found[1], low, high, found[4] or "")
