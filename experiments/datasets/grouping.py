"""Splits by groups: what is almost the same never stands in two splits."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from experiments.datasets.splits import SHARES


def connected_groups(num_items: int, pairs: Iterable[Sequence[int]]) -> np.ndarray:
    """Returns which items hang together through pairs, directly or over others.

    Args:
      num_items: number of items.
      pairs: places of two items that belong together.

    Returns:
      For every item the place of the first one in its group, int64 `[items]`.
    """
    first = list(range(num_items))
    for pair in pairs:
        roots = []
        for item in pair:
            while first[item] != item:
                item = first[item]
            roots.append(item)
        first[max(roots)] = min(roots)
    # No entry is above its own place, so what an entry points to is final already.
    for item in range(num_items):
        first[item] = first[first[item]]
    return np.array(first, np.int64)


def split_groups(
    names: Sequence[str], groups: np.ndarray, shares: Mapping[str, float] = SHARES
) -> dict[str, list[int]]:
    """Deals whole groups out to the splits, in the order of a hash of their names.

    Unlike a hash that decides for each group alone, this keeps close to the shares even
    where items are few.

    Args:
      names: a name per item; a group is called by its first item.
      groups: the place of the first item of each item's group, int `[items]`.
      shares: the splits and how much of all items each of them gets, in sum 1. A group
        goes to the first split that is not full yet.

    Returns:
      The places of the items of every split, sorted.
    """
    members: dict[int, list[int]] = {}
    for item, first in enumerate(groups):
        members.setdefault(int(first), []).append(item)
    in_order = sorted(members, key=lambda first: _digest(names[first]))
    ends = np.round(np.cumsum(list(shares.values())) * len(names))
    places: dict[str, list[int]] = {split: [] for split in shares}
    dealt = 0
    for first in in_order:
        split = list(shares)[int(np.searchsorted(ends, dealt, side="right"))]
        places[split] += members[first]
        dealt += len(members[first])
    return {split: sorted(items) for split, items in places.items()}


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
