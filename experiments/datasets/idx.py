"""Reads IDX files, the format of MNIST and its relatives, gzipped or not."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from experiments.datasets.dataset import DataError

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_BYTES = 1 << 30
_GZIP_MAGIC = b"\x1f\x8b"
# Deflate cannot shrink anything further than this.
_MAX_DEFLATE_RATIO = 1032


def read_idx(path: Path) -> np.ndarray:
    """Reads the array in one IDX file.

    The file begins with two zero bytes, a type code and the number of axes; then come
    the axis sizes as big-endian 32-bit integers, and the entries in C order.

    Args:
      path: the file, plain or gzipped; its name does not matter.

    Returns:
      Array of the shape and type that the header states, in the byte order of this
      machine.

    Raises:
      DataError: the file is not IDX, is cut short, or is longer than its header says.
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            limit = path.stat().st_size * (_MAX_DEFLATE_RATIO if zipped else 1)
            if not zipped:
                return _read(raw, path, limit)
            with gzip.GzipFile(fileobj=raw) as stream:
                return _read(stream, path, limit)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _read(stream: BinaryIO | gzip.GzipFile, path: Path, limit: int) -> np.ndarray:
    """Reads header and entries; `limit` is the most bytes the file can unpack to."""
    dtype, shape = _read_header(stream, path)
    expected = math.prod(shape) * dtype.itemsize
    # Compared before anything is allocated: a header can promise any size.
    if expected > min(limit, _MAX_BYTES):
        raise DataError(
            f"{path}: the header promises {expected:,} bytes {list(shape)}, more than "
            f"the file can hold; it is damaged or not an IDX file"
        )
    data = stream.read(expected + 1)
    if len(data) != expected:
        got = "more" if len(data) > expected else f"{len(data):,}"
        raise DataError(
            f"{path}: expected {expected:,} bytes of entries for the shape "
            f"{list(shape)} in its header, got {got}; fetch or copy the file again"
        )
    entries = np.frombuffer(data, dtype).reshape(shape)
    return entries.astype(dtype.newbyteorder("="))


def _read_header(
    stream: BinaryIO | gzip.GzipFile, path: Path
) -> tuple[np.dtype, tuple[int, ...]]:
    """Returns the type of the entries and the shape."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES:
        raise DataError(
            f"{path}: not an IDX file; expected it to begin with 00 00, a type and "
            f"the number of axes, got {magic.hex(' ') or 'nothing'}"
        )
    num_axes = magic[3]
    sizes = stream.read(4 * num_axes)
    if not num_axes or len(sizes) < 4 * num_axes:
        raise DataError(f"{path}: the IDX header of {num_axes} axes is cut short")
    return np.dtype(_DTYPES[magic[2]]), struct.unpack(f">{num_axes}I", sizes)
