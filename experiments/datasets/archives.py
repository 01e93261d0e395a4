"""Reads members of package archives into memory: wheels, zips, gzipped tars, `.deb`.

Nothing is written or run, so no path in an archive matters. Only regular files are
read, and only up to limits, since an archive may unpack to far more than it weighs.
"""

import contextlib
import fnmatch
import gzip
import hashlib
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from experiments.datasets.dataset import DataError, Member

_MAX_RATIO = 200  # unpacked bytes per packed byte
_MAX_BYTES = 1 << 30  # of all members that are read together
_AR_MAGIC, _AR_HEADER = b"!<arch>\n", 60
_BAD_ARCHIVE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    zlib.error,
    lzma.LZMAError,
)


class _Entry(NamedTuple):
    """A member as its archive lists it; `read` gives at most so many bytes."""

    path: str
    regular: bool
    size: int
    read: Callable[[int], bytes]


def extract(archive: Path, members: Sequence[Member]) -> dict[str, bytes]:
    """Reads exactly the named members of an archive.

    Args:
      archive: a file `.whl`, `.zip`, `.tgz`, `.tar.gz` or `.deb`.
      members: what is read, and what it must be.

    Returns:
      The contents of every member by its path in the archive.

    Raises:
      DataError: the archive is damaged or unpacks to absurdly much; a member is
        missing, not a regular file, of another size, or of another SHA-256.
    """
    wanted = {member.path: member for member in members}
    contents: dict[str, bytes] = {}
    with _naming_damage(archive.name), archive.open("rb") as stream:
        for entry in _entries(archive.name, stream):
            member = wanted.get(entry.path)
            if member:
                _require_regular(archive.name, entry)
                _require_size(archive.name, member, entry.size)
                data = entry.read(member.num_bytes)
                contents[entry.path] = verified(archive.name, member, data)
    missing = [path for path in wanted if path not in contents]
    if missing:
        raise DataError(f"{archive.name}: holds no file {', '.join(missing)}")
    return contents


def unpack(name: str, data: bytes, patterns: Sequence[str]) -> dict[str, bytes]:
    """Reads all members of an archive whose paths match.

    Args:
      name: file name of the archive; its ending tells the format.
      data: contents of the archive, which may itself be a member of another one.
      patterns: patterns as of `fnmatch`, where `*` matches slashes too.

    Returns:
      The contents of the members by their paths, sorted.

    Raises:
      DataError: the archive is damaged or unpacks to absurdly much; a member is not a
        regular file, or no member matches one of the patterns.
    """
    contents: dict[str, bytes] = {}
    left = _MAX_BYTES
    with _naming_damage(name):
        for entry in _entries(name, io.BytesIO(data)):
            if not any(fnmatch.fnmatchcase(entry.path, p) for p in patterns):
                continue
            _require_regular(name, entry)
            left -= entry.size
            if left < 0:
                raise DataError(f"{name}: unpacks to over {_MAX_BYTES:,} bytes")
            contents[entry.path] = entry.read(entry.size)
    for pattern in patterns:
        if not fnmatch.filter(contents, pattern):
            raise DataError(f"{name}: holds no file {pattern}")
    return dict(sorted(contents.items()))


def verified(place: str, member: Member, data: bytes) -> bytes:
    """Returns `data` where it is what the catalogue knows as `member`.

    Raises:
      DataError: size or SHA-256 differs; the text begins with `place`.
    """
    _require_size(place, member, len(data))
    digest = hashlib.sha256(data).hexdigest()
    if digest != member.sha256:
        raise DataError(
            f"{place}: {member.path} is not the file that the catalogue knows; "
            f"expected SHA-256 {member.sha256}, got {digest}"
        )
    return data


@contextlib.contextmanager
def _naming_damage(name: str) -> Iterator[None]:
    """Turns whatever a damaged archive raises into one line that names it."""
    try:
        yield
    except DataError:
        raise
    except _BAD_ARCHIVE as error:
        raise DataError(f"{name}: damaged archive ({error})") from error


def _entries(name: str, stream: BinaryIO) -> Iterator[_Entry]:
    """Yields the members of an archive in its order; each is read at its turn."""
    if name.endswith((".whl", ".zip", ".mxl")):
        yield from _zip_entries(name, stream)
    elif name.endswith(".deb"):
        packed = _read_ar(name, stream, "data.tar.xz")
        with lzma.open(io.BytesIO(packed)) as unpacked:
            yield from _tar_entries(name, unpacked, len(packed))
    else:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        with gzip.GzipFile(fileobj=stream) as unpacked:
            yield from _tar_entries(name, unpacked, size)


def _tar_entries(
    name: str, unpacked: gzip.GzipFile | lzma.LZMAFile, packed_size: int
) -> Iterator[_Entry]:
    capped = _Capped(unpacked, _MAX_RATIO * packed_size, name)
    # A tar read as a stream needs nothing of a file but `read`.
    with tarfile.open(fileobj=capped, mode="r|") as tar:  # pyright: ignore[reportArgumentType, reportCallIssue]
        for info in tar:
            stream = tar.extractfile(info) if info.isreg() else None
            read = (stream or io.BytesIO()).read
            path = info.name.removeprefix("./")
            yield _Entry(path, info.isreg(), info.size, read)


class _Capped:
    """A stream that refuses to give more than `cap` bytes: a zip bomb's fuse."""

    def __init__(
        self, stream: gzip.GzipFile | lzma.LZMAFile, cap: int, name: str
    ) -> None:
        self.stream, self.left, self.name = stream, cap, name

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise DataError(f"{self.name}: unpacks to over {_MAX_RATIO} times its size")
        return data


def _zip_entries(name: str, stream: BinaryIO) -> Iterator[_Entry]:
    with zipfile.ZipFile(stream) as opened:
        for info in opened.infolist():
            # A zip keeps the Unix file type in the upper half; 0 where none was kept.
            kind = stat.S_IFMT(info.external_attr >> 16)
            regular = kind in (0, stat.S_IFREG) and not info.is_dir()

            def read(size: int, info: zipfile.ZipInfo = info) -> bytes:
                if info.file_size > _MAX_RATIO * info.compress_size:
                    raise DataError(
                        f"{name}: {info.filename} unpacks to over {_MAX_RATIO} times "
                        f"its size"
                    )
                with opened.open(info) as member:
                    return member.read(size)

            yield _Entry(info.filename, regular, info.file_size, read)


def _read_ar(name: str, stream: BinaryIO, wanted: str) -> bytes:
    """Returns one member of an `ar` archive, the outer shell of a `.deb`."""
    if stream.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise DataError(f"{name}: damaged archive (not an ar archive)")
    while header := stream.read(_AR_HEADER):
        # The name takes 16 bytes, the size 10 of them from the 48th on.
        path, size = header[:16].decode("ascii").rstrip(" /"), int(header[48:58])
        data = stream.read(size + size % 2)[:size]  # padded to even sizes
        if len(data) != size:
            break
        if path == wanted:
            return data
    raise DataError(f"{name}: holds no {wanted}, or is cut short")


def _require_regular(name: str, entry: _Entry) -> None:
    if not entry.regular:
        raise DataError(f"{name}: {entry.path} is not a regular file")


def _require_size(name: str, member: Member, size: int) -> None:
    if size != member.num_bytes:
        raise DataError(
            f"{name}: expected {member.num_bytes:,} bytes of {member.path}, got "
            f"{size:,}"
        )
