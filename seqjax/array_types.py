"""The legend of axes, and the names that signatures use for arrays.

Axis words, the same in every docstring:

- `time`: steps of a sequence; `time+1` counts the carries around them.
- `batch`: independent sequences; `*batch` is any number of batch axes, also none.
- `input`, `hidden`, `output`: features of x, of the hidden part of a carry, of y.
- `gates*hidden`: gate blocks side by side, each `hidden` wide.

A shape in back-ticks, `[batch, time, input]`, lists the axes in order.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array
"""A JAX array (or tracer)."""

ArrayLike: TypeAlias = jax.typing.ArrayLike
"""Anything `jnp.asarray` accepts."""

Key: TypeAlias = jax.Array
"""One typed PRNG key, as `jax.random.key` makes it."""

PyTree: TypeAlias = Any
"""A nest of containers with arrays at the leaves."""

DType: TypeAlias = type[Any] | np.dtype | str
"""A dtype or its name."""

Initializer: TypeAlias = Callable[[Key, tuple[int, ...], Any], Array]
"""`(key, shape, dtype) -> array`, the convention of `jax.nn.initializers`."""
