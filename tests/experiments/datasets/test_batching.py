"""Buckets and packed rows: nothing is lost, nothing overlaps."""

import doctest
import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.datasets import batching
from experiments.datasets.batching import (
    bucket_lengths,
    fill_rows,
    pack,
    wasted_share,
)
from seqjax import cells, unroll

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=40)


def test_examples_run() -> None:
    result = doctest.testmod(batching)
    assert result.failed == 0
    assert result.attempted


@given(LENGTHS, st.integers(1, 50))
def test_every_sequence_has_a_bucket(lengths: list[int], num_buckets: int) -> None:
    edges = bucket_lengths(lengths, num_buckets)
    assert edges.dtype == np.int32
    assert 1 <= len(edges) <= num_buckets
    assert edges[-1] == max(lengths)
    assert np.all(np.diff(edges) > 0)
    assert set(edges.tolist()) <= set(lengths)
    padded = edges[np.searchsorted(edges, lengths)]
    assert np.all(padded >= lengths)
    assert wasted_share(lengths, padded.tolist()) <= wasted_share(
        lengths, [max(lengths)] * len(lengths)
    )


@given(st.sets(st.integers(1, 500), min_size=1, max_size=60), st.integers(1, 9))
def test_buckets_are_equally_full(lengths: set[int], num_buckets: int) -> None:
    edges = bucket_lengths(sorted(lengths), num_buckets)
    counts = np.bincount(np.searchsorted(edges, sorted(lengths)))
    assert counts.max() - counts.min() <= 1


@given(LENGTHS, st.integers(30, 60))
def test_packed_sequences_do_not_overlap(lengths: list[int], row_length: int) -> None:
    packing = pack(lengths, row_length)
    taken = np.zeros((packing.num_rows, row_length), int)
    for length, row, start in zip(lengths, packing.rows, packing.starts, strict=True):
        assert 0 <= start <= row_length - length
        taken[row, start : start + length] += 1
    assert taken.max() == 1
    assert taken.sum() == sum(lengths)
    assert np.all(taken.any(axis=1))
    # Rows are filled from their start, without holes.
    assert np.all(np.diff(taken, axis=1) <= 0)
    # First fit leaves no two rows that would fit into one.
    used = taken.sum(axis=1)
    assert all(a + b > row_length for a, b in itertools.combinations(used, 2))


def test_longest_first_each_where_it_first_fits() -> None:
    # 6, 5, 4, 3, 3, 2, 1 by hand: the 4 joins the 6, a 3 and the 2 the 5, the other 3
    # opens a row, and the 1 follows it.
    packing = pack([3, 6, 2, 4, 5, 3, 1], 10)
    assert packing.rows.tolist() == [1, 0, 1, 0, 1, 2, 2]
    assert packing.starts.tolist() == [5, 0, 8, 6, 0, 0, 3]
    assert packing.num_rows == 3


def test_packing_of_many_sequences_wastes_little() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 2000).tolist()
    packing = pack(lengths, 100)
    fewest = int(np.ceil(sum(lengths) / 100))
    # The bound of the docstring, with the sum of lengths below the fewest rows.
    assert packing.num_rows <= 11 / 9 * fewest + 1
    padded = [100] * packing.num_rows
    assert wasted_share(lengths, padded) < 0.02 < wasted_share(lengths, [100] * 2000)


@given(LENGTHS)
def test_rows_hold_every_sequence(lengths: list[int]) -> None:
    sequences = [
        np.arange(2 * length).reshape(length, 2) + 100 * number + 1
        for number, length in enumerate(lengths)
    ]
    packing = pack(lengths, 32)
    values, resets, mask = fill_rows(sequences, packing)
    assert values.shape == (packing.num_rows, 32, 2)
    assert mask.sum() == sum(lengths)
    assert np.all((values != 0).all(axis=-1) == mask)
    for sequence, row, start in zip(
        sequences, packing.rows, packing.starts, strict=True
    ):
        end = start + len(sequence)
        np.testing.assert_array_equal(values[row, start:end], sequence)
        assert resets[row, start]
        assert not resets[row, start + 1 : end].any()
    # Beside the starts, only the first step of a rest is a reset.
    rests = (~mask).any(axis=1).sum()
    assert resets.sum() == len(lengths) + rests
    assert resets[:, 0].all()


def test_a_packed_row_unrolls_like_its_sequences() -> None:
    rng = np.random.default_rng(0)
    sequences = [rng.normal(size=(n, 3)).astype(np.float32) for n in (4, 2, 4, 2)]
    packing = pack([4, 2, 4, 2], 7)
    rows = fill_rows(sequences, packing)
    cell = cells.gru(input_size=3, hidden_size=4)
    params = cell.init(jax.random.key(0))
    _, together = unroll(cell, params, rows.values, resets=rows.resets)
    for sequence, row, start in zip(
        sequences, packing.rows, packing.starts, strict=True
    ):
        _, alone = unroll(cell, params, sequence)
        found = together[row, start : start + len(sequence)]
        # Batched and single matrix products round differently: a few units of 2⁻²⁴.
        np.testing.assert_allclose(found, alone, atol=1e-6)


def test_bad_lengths_are_refused() -> None:
    for lengths in ([], [3, 0], [-1]):
        with pytest.raises(ValueError, match="at least one, all of them positive"):
            bucket_lengths(lengths, 2)
        with pytest.raises(ValueError, match="at least one, all of them positive"):
            pack(lengths, 9)
    with pytest.raises(ValueError, match="num_buckets: expected at least 1, got 0"):
        bucket_lengths([1], 0)
    with pytest.raises(ValueError, match="at most row_length, 9, got 10"):
        pack([3, 10], 9)
    with pytest.raises(ValueError, match="got 5 and 4"):
        wasted_share([5], [4])
    with pytest.raises(ValueError, match="got 0 and 0"):
        wasted_share([], [])
