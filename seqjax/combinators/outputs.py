"""Cells whose output goes through one more function."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, DType, Initializer, Key, PyTree
from seqjax.cell import Cell
from seqjax.checks import check_positive
from seqjax.combinators.common import Run, Wrapped, inseparable
from seqjax.made import factory
from seqjax.running import Start


@factory
def residual(cell: Cell) -> Cell:
    """Adds the input to the output.

    y = x + cell(x)

    Args:
        cell: Cell whose y has the shape of its x.

    Returns:
        A cell with the params and carry of `cell`.

    References:
        He, Zhang, Ren, Sun (2016), Deep residual learning for image recognition.

    Example:
        >>> from seqjax import cells
        >>> residual(cells.gru(8, 8))
        residual(gru(input_size=8, hidden_size=8))
    """

    def step(params: PyTree, carry: PyTree, x: Array) -> tuple[PyTree, Array]:
        carry, y = cell.step(params, carry, x)
        return carry, x + y

    def sequence(
        run: Run, params: PyTree, start: Start, xs: PyTree, key: Key | None
    ) -> tuple[PyTree, PyTree]:
        carry, ys = run(cell, params, start, xs, key)
        return carry, xs + ys

    return dataclasses.replace(
        cell, step=step, sequence=sequence, affine=None, noise=None, output=None
    )


@factory
def layer_norm(cell: Cell, size: int, *, dtype: DType = jnp.float32) -> Cell:
    """Normalises the output of a cell over its features.

    y = scale ∘ (y − mean) / √(variance + 1e-5) + bias

    For the norms inside an LSTM see `cells.lstm(layer_norm=True)`.

    Args:
        cell: Any cell with y `[size]`.
        size: Features of y.
        dtype: Of the params.

    Returns:
        A cell with the carry of `cell` and params `Wrapped(cell, (scale, bias))`.

    Raises:
        ValueError: On a size below 1.

    References:
        Ba, Kiros, Hinton (2016), Layer normalization.

    Example:
        >>> from seqjax import cells
        >>> layer_norm(cells.gru(3, 8), 8)
        layer_norm(gru(input_size=3, hidden_size=8), size=8)
    """
    check_positive(size=size)

    def init(key: Key) -> tuple[Array, Array]:
        return jnp.ones(size, dtype), jnp.zeros(size, dtype)

    def apply(outer: tuple[Array, Array], y: Array) -> Array:
        scale, bias = (part.reshape((1,) * (y.ndim - 1) + (-1,)) for part in outer)
        centred = y - jnp.mean(y, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + 1e-5) * scale + bias

    return _on_output(cell, init, apply, last=cell.last)


@factory
def projection(
    cell: Cell,
    input_size: int,
    output_size: int,
    *,
    kernel_init: Initializer | None = None,
    dtype: DType = jnp.float32,
) -> Cell:
    """Maps the output of a cell linearly; the recurrence does not see it.

    y = y P

    For a projection inside the recurrence see `cells.lstm(projection_size=...)`.

    Args:
        cell: Any cell with y `[input_size]`.
        input_size: Features of the cell's y.
        output_size: Features of the new y.
        kernel_init: Initialiser of P; LeCun normal if None.
        dtype: Of the params.

    Returns:
        A cell with the carry of `cell` and params `Wrapped(cell, P)`.

    Raises:
        ValueError: On a size below 1.

    Example:
        >>> from seqjax import cells
        >>> projection(cells.gru(3, 8), 8, 2)
        projection(gru(input_size=3, hidden_size=8), input_size=8, output_size=2)
    """
    check_positive(input_size=input_size, output_size=output_size)
    make_kernel = kernel_init or jax.nn.initializers.lecun_normal()

    def init(key: Key) -> Array:
        return make_kernel(key, (input_size, output_size), dtype)

    def apply(kernel: Array, y: Array) -> Array:
        return y @ kernel

    last = None if cell.last is None else inseparable("a projection of both")
    return _on_output(cell, init, apply, last=last)


def _on_output(
    cell: Cell,
    init_outer: Callable[[Key], PyTree],
    apply: Callable[[PyTree, Array], Array],
    *,
    last: Callable[..., PyTree] | None,
) -> Cell:
    """A cell whose output goes through `apply(outer, y)`, on any leading axes."""

    def init(key: Key) -> Wrapped:
        cell_key, outer_key = jax.random.split(key)
        return Wrapped(cell.init(cell_key), init_outer(outer_key))

    def step(params: Wrapped, carry: PyTree, x: PyTree) -> tuple[PyTree, Array]:
        carry, y = cell.step(params.cell, carry, x)
        return carry, apply(params.outer, y)

    def sequence(
        run: Run, params: PyTree, start: Start, xs: PyTree, key: Key | None
    ) -> tuple[PyTree, PyTree]:
        carry, ys = run(cell, params.cell, start, xs, key)
        return carry, apply(params.outer, ys)

    return dataclasses.replace(
        cell,
        init=init,
        initial_carry=lambda params: cell.initial_carry(params.cell),
        step=step,
        sequence=sequence,
        affine=None,
        noise=None,
        output=None,
        last=last,
    )
