"""Groups and their splits, against the plain definitions."""

import hashlib
import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from experiments.datasets.grouping import connected_groups, split_groups

PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12)


def test_groups_of_a_few_pairs() -> None:
    assert connected_groups(7, [(5, 3), (1, 4), (3, 6), (4, 2)]).tolist() == [
        0, 1, 1, 3, 1, 3, 3,
    ]  # fmt: skip
    assert connected_groups(3, []).tolist() == [0, 1, 2]


@given(PAIRS)
def test_groups_are_what_can_be_reached(pairs: list[tuple[int, int]]) -> None:
    reached = np.eye(10, dtype=bool)
    for one, other in pairs:
        reached[one, other] = reached[other, one] = True
    for _ in range(4):  # paths of up to 16 pairs
        reached = reached @ reached
    groups = connected_groups(10, pairs)
    np.testing.assert_array_equal(groups, reached.argmax(axis=1))


@given(PAIRS)
def test_no_group_is_torn(pairs: list[tuple[int, int]]) -> None:
    groups = connected_groups(10, pairs)
    splits = split_groups([str(i) for i in range(10)], groups)
    assert sorted(itertools.chain(*splits.values())) == list(range(10))
    for items in splits.values():
        assert items == sorted(items)
        inside = np.isin(np.arange(10), items)
        for one, other in pairs:
            assert inside[one] == inside[other]


def test_single_items_are_dealt_in_the_order_of_their_hashes() -> None:
    names = [f"piece {i}" for i in range(20)]
    shares = {"train": 0.5, "valid": 0.3, "test": 0.2}
    splits = split_groups(names, np.arange(20), shares)
    order = sorted(range(20), key=lambda i: hashlib.sha256(names[i].encode()).digest())
    assert splits == {
        "train": sorted(order[:10]),
        "valid": sorted(order[10:16]),
        "test": sorted(order[16:]),
    }
