"""Batches of sequences of unequal length: buckets of like length, and packed rows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Packing(NamedTuple):
    """Where every sequence stands when several share a row.

    Attributes:
      rows: the row of every sequence, int32 `[sequences]`.
      starts: the step of its row where it begins, int32 `[sequences]`.
      num_rows: number of rows.
      row_length: steps of a row.
    """

    rows: np.ndarray
    starts: np.ndarray
    num_rows: int
    row_length: int


class PackedRows(NamedTuple):
    """Rows filled with sequences.

    Attributes:
      values: `[rows, time, ...]`, of the type of the sequences.
      resets: True where a sequence, or the rest of a row, begins, bool `[rows, time]`.
      mask: True where a sequence stands, bool `[rows, time]`.
    """

    values: np.ndarray
    resets: np.ndarray
    mask: np.ndarray


def bucket_lengths(lengths: Sequence[int], num_buckets: int) -> np.ndarray:
    """Returns the lengths to which sequences are padded, a bucket each.

    The sequences in order of length are cut into parts as equal as can be; a bucket is
    as long as the longest sequence of its part. A sequence of `length` belongs to the
    bucket `numpy.searchsorted(edges, length)`.

    Args:
      lengths: lengths of the sequences, at least one, all positive.
      num_buckets: most buckets; there are fewer where many lengths are equal.

    Returns:
      Increasing lengths, int32 `[buckets]`, of which the last is the greatest length.

    Raises:
      ValueError: a length or `num_buckets` is not positive, or there is no length.

    Example:
      >>> bucket_lengths([3, 9, 4, 4, 20, 5], 3).tolist()
      [4, 5, 20]
    """
    ordered = np.sort(_checked(lengths))
    if num_buckets < 1:
        raise ValueError(f"num_buckets: expected at least 1, got {num_buckets}")
    ends = np.arange(1, num_buckets + 1) * len(ordered) // num_buckets
    return np.unique(ordered[ends[ends > 0] - 1])


def pack(lengths: Sequence[int], row_length: int) -> Packing:
    """Puts sequences into rows, the longest first, each into the first that has room.

    This needs at most 11/9 of the fewest rows possible, and one. Sequences of one
    length keep their order.

    Args:
      lengths: lengths of the sequences, at least one, all positive.
      row_length: steps of a row, at least the greatest length.

    Raises:
      ValueError: a length is not positive or exceeds `row_length`, or there is none.

    References:
      Johnson (1973), Near-optimal bin packing algorithms. Dósa (2007), The tight bound
      of first fit decreasing bin-packing algorithm is FFD(I) ≤ 11/9 OPT(I) + 6/9.

    Example:
      >>> packing = pack([2, 5, 3, 4], 7)
      >>> packing.rows.tolist(), packing.starts.tolist(), packing.num_rows
      ([0, 0, 1, 1], [5, 0, 4, 0], 2)
    """
    sizes = _checked(lengths)
    if sizes.max() > row_length:
        raise ValueError(
            f"lengths: expected at most row_length, {row_length}, got {sizes.max()}; "
            f"cut long sequences or make rows longer"
        )
    rows, starts = np.zeros_like(sizes), np.zeros_like(sizes)
    free = np.full(len(sizes), row_length, np.int32)  # the most rows there can be
    for index in np.argsort(-sizes, kind="stable"):
        row = int(np.argmax(free >= sizes[index]))
        rows[index], starts[index] = row, row_length - free[row]
        free[row] -= sizes[index]
    return Packing(rows, starts, int(rows.max()) + 1, row_length)


def fill_rows(sequences: Sequence[np.ndarray], packing: Packing) -> PackedRows:
    """Copies sequences into their rows; zeros fill what is left.

    Args:
      sequences: arrays `[time, ...]` of one type, equal but for their lengths.
      packing: their places, as `pack` gives them.
    """
    shape = (packing.num_rows, packing.row_length)
    values = np.zeros((*shape, *sequences[0].shape[1:]), sequences[0].dtype)
    resets, mask = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    places = zip(sequences, packing.rows, packing.starts, strict=True)
    for sequence, row, start in places:
        end = start + len(sequence)
        values[row, start:end] = sequence
        mask[row, start:end] = True
        resets[row, [start, *([end] if end < packing.row_length else [])]] = True
    return PackedRows(values, resets, mask)


def wasted_share(lengths: Sequence[int], padded_lengths: Sequence[int]) -> float:
    """Returns the share of all steps that are padding, 1 − Σ lengths / Σ padded.

    Args:
      lengths: lengths of the sequences.
      padded_lengths: lengths of the rows that hold them, be it one row for each or one
        for several.

    Raises:
      ValueError: the rows are shorter than the sequences, or there are none.

    Example:
      >>> wasted_share([3, 5], [5, 5])
      0.2
    """
    used, padded = int(np.sum(lengths)), int(np.sum(padded_lengths))
    if not 0 < used <= padded:
        raise ValueError(f"expected 0 < steps ≤ padded steps, got {used} and {padded}")
    return (padded - used) / padded


def _checked(lengths: Sequence[int]) -> np.ndarray:
    """Returns lengths as int32 `[sequences]`."""
    sizes = np.asarray(lengths, np.int32)
    if not sizes.size or sizes.min() < 1:
        raise ValueError("lengths: expected at least one, all of them positive")
    return sizes
