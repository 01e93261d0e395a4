"""What a study returns: numbers to hold against their bands, and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Picture(NamedTuple):
    """A picture of a study.

    Attributes:
      path: the PNG.
      title: what it shows.
      caption: how to read it, in a sentence or two.
    """

    path: Path
    title: str
    caption: str


class Result(NamedTuple):
    """What a study measured.

    Attributes:
      values: numbers by the names that the study's flagfile gives bands for; further
        names are shown without a verdict.
      pictures: what the page shows, in order.
    """

    values: Mapping[str, float]
    pictures: Sequence[Picture] = ()
