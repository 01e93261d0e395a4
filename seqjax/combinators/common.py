"""What the combinators share."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, DType, Key, PyTree

Run: TypeAlias = Callable[..., tuple[PyTree, PyTree]]
"""`(cell, params, start, xs, key, *, reverse=False, resets=None) -> (carry, ys)`."""


class Wrapped(NamedTuple):
    """Params of a cell and of what stands around it."""

    cell: PyTree
    outer: PyTree


def split_or_none(key: Key | None, num: int) -> tuple[Key | None, ...]:
    """Splits a key; no key gives none."""
    return (None,) * num if key is None else tuple(jax.random.split(key, num))


def dropout_mask(key: Key, shape: tuple[int, ...], dtype: DType, rate: float) -> Array:
    """0 with probability `rate`, else 1/(1 − rate)."""
    kept = jax.random.bernoulli(key, 1 - rate, shape)
    return jnp.where(kept, jnp.asarray(1 / (1 - rate), dtype), jnp.zeros((), dtype))


def inseparable(what: str) -> Callable[..., PyTree]:
    """Makes a `Cell.last` that says why there is no last output."""

    def last(ys: PyTree, first: Callable, final: Callable) -> PyTree:
        raise ValueError(
            f"last_output: expected directions that can be told apart, got {what}; "
            "use merge='concat' or 'none', or pool over time by mean or max"
        )

    return last
