"""Cells side by side, on top of each other, restarted."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, Key, PyTree
from seqjax.cell import Cell, NoStepError
from seqjax.checks import check_choice, check_rate
from seqjax.combinators.common import (
    Run,
    Wrapped,
    dropout_mask,
    inseparable,
    split_or_none,
)
from seqjax.made import factory
from seqjax.running import Start

MERGES = ("concat", "sum", "mean", "none")
"""Ways to join the outputs of two directions."""


@factory
def stack(*cells: Cell, dropout: float = 0.0) -> Cell:
    """Feeds each cell's outputs to the next one.

    Params and carry are tuples with one entry per cell.

    Args:
        *cells: Cells from the input upwards, whose sizes fit each other.
        dropout: Rate at which outputs are dropped between two cells while training,
            anew at each step, the rest scaled by 1/(1 − rate).

    Returns:
        A cell with the x of the first and the y of the last.

    Raises:
        ValueError: Without any cell, or on a rate outside [0, 1).

    References:
        Zaremba, Sutskever, Vinyals (2014), Recurrent neural network regularization
        (dropout between layers only).

    Example:
        >>> from seqjax import cells
        >>> stack(cells.gru(3, 8), cells.gru(8, 8), dropout=0.2)
        stack(gru(input_size=3, hidden_size=8), gru(input_size=8, hidden_size=8), \
dropout=0.2)
    """
    if not cells:
        raise ValueError("stack: expected at least one cell, got none")
    check_rate(dropout=dropout)

    def init(key: Key) -> tuple:
        keys = jax.random.split(key, len(cells))
        return tuple(cell.init(k) for cell, k in zip(cells, keys, strict=True))

    def step(params: tuple, carry: tuple, x: PyTree) -> tuple[tuple, PyTree]:
        carries = []
        for cell, cell_params, cell_carry in zip(cells, params, carry, strict=True):
            cell_carry, x = cell.step(cell_params, cell_carry, x)
            carries.append(cell_carry)
        return tuple(carries), x

    def sequence(
        run: Run, params: PyTree, start: Start, xs: PyTree, key: Key | None
    ) -> tuple[PyTree, PyTree]:
        keys = split_or_none(key, 2 * len(cells))
        carries = []
        for i, cell in enumerate(cells):
            if i > 0:
                xs = _drop(keys[2 * i], xs, dropout)
            carry, xs = run(cell, params[i], start.part(i), xs, keys[2 * i + 1])
            carries.append(carry)
        return tuple(carries), xs

    return Cell(
        init=init,
        initial_carry=lambda params: tuple(
            cell.initial_carry(p) for cell, p in zip(cells, params, strict=True)
        ),
        step=step,
        input_ndim=cells[0].input_ndim,
        sequence=sequence,
        output=_last_of(cells[-1].output),
        last=cells[-1].last,
    )


class Both(NamedTuple):
    """Params, carries or outputs of the two directions."""

    forward: PyTree
    backward: PyTree


@factory
def bidirectional(
    forward: Cell, backward: Cell | None = None, *, merge: str = "concat"
) -> Cell:
    """Runs one cell from each end of the sequence and joins their outputs.

    yₜ = merge(forward yₜ, backward yₜ), both in input order. With lengths, the
    backward cell starts at the last real step. Params and carry are `Both`.

    Args:
        forward: Cell that runs from the first step.
        backward: Cell that runs from the last; like `forward`, with its own params,
            if None.
        merge: `concat` along features, `sum`, `mean`, or `none` for a pair.

    Returns:
        A cell for `unroll` alone: it has no single step.

    Raises:
        ValueError: On an unknown merge; in a step; on outputs of unequal width where
            they are merged.

    References:
        Schuster, Paliwal (1997), Bidirectional recurrent neural networks.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells, unroll
        >>> cell = bidirectional(cells.gru(3, 4))
        >>> carry, ys = unroll(cell, cell.init(jax.random.key(0)), jnp.ones((5, 3)))
        >>> ys.shape, carry.backward.hidden.shape
        ((5, 8), (4,))
    """
    check_choice("merge", merge, MERGES)
    back = forward if backward is None else backward

    def init(key: Key) -> Both:
        forward_key, backward_key = jax.random.split(key)
        return Both(forward.init(forward_key), back.init(backward_key))

    def step(params: Both, carry: Both, x: PyTree) -> tuple[Both, PyTree]:
        raise NoStepError(
            "bidirectional: expected to be run over a whole sequence, got a single "
            "step, and the backward cell has not seen the future; use unroll"
        )

    def sequence(
        run: Run, params: PyTree, start: Start, xs: PyTree, key: Key | None
    ) -> tuple[PyTree, PyTree]:
        keys = split_or_none(key, 2)
        first, ys = run(forward, params.forward, start.part(0), xs, keys[0])
        second, zs = run(
            back, params.backward, start.part(1), xs, keys[1], reverse=True
        )
        return Both(first, second), _merge(merge, ys, zs)

    return Cell(
        init=init,
        initial_carry=lambda params: Both(
            forward.initial_carry(params.forward), back.initial_carry(params.backward)
        ),
        step=step,
        input_ndim=forward.input_ndim,
        sequence=sequence,
        last=_last_of_both(merge),
    )


@factory
def with_reset(cell: Cell) -> Cell:
    """Lets every step say whether a new segment begins.

    x becomes (x, reset): where reset is True the step starts from the initial carry.

    Args:
        cell: Any cell.

    Returns:
        A cell with x `(x, reset)`, reset a bool scalar; params and carry of `cell`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells, unroll
        >>> cell = with_reset(cells.gru(3, 4))
        >>> params = cell.init(jax.random.key(0))
        >>> resets = jnp.array([False, False, True, False])
        >>> _, ys = unroll(cell, params, (jnp.ones((4, 3)), resets))
        >>> bool(jnp.all(ys[:2] == ys[2:]))
        True
    """

    def step(params: PyTree, carry: PyTree, x: tuple[PyTree, Array]):
        x, reset = x
        initial = cell.initial_carry(params)
        carry = jax.tree.map(lambda a, b: jnp.where(reset, a, b), initial, carry)
        return cell.step(params, carry, x)

    def sequence(
        run: Run, params: PyTree, start: Start, xs: PyTree, key: Key | None
    ) -> tuple[PyTree, PyTree]:
        xs, resets = xs
        return run(cell, params, start, xs, key, resets=resets)

    return dataclasses.replace(
        cell,
        step=step,
        input_ndim=(cell.input_ndim, 0),
        sequence=sequence,
        affine=None,
        noise=None,
    )


@factory
def learned_carry(cell: Cell) -> Cell:
    """Makes the initial carry a parameter, started at the cell's own.

    Args:
        cell: Any cell; put `with_reset` outside, which then restores the learned carry.

    Returns:
        A cell with params `Wrapped(cell, carry)`; resets restore the learned carry.

    Example:
        >>> import jax
        >>> from seqjax import cells
        >>> learned_carry(cells.elman(1, 2)).init(jax.random.key(0)).outer
        ElmanCarry(hidden=Array([0., 0.], dtype=float32))
    """

    def init(key: Key) -> Wrapped:
        params = cell.init(key)
        return Wrapped(params, cell.initial_carry(params))

    def step(params: Wrapped, carry: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        return cell.step(params.cell, carry, x)

    def sequence(
        run: Run, params: PyTree, start: Start, xs: PyTree, key: Key | None
    ) -> tuple[PyTree, PyTree]:
        return run(cell, params.cell, start, xs, key)

    return dataclasses.replace(
        cell,
        init=init,
        initial_carry=lambda params: params.outer,
        step=step,
        sequence=sequence,
        affine=None,
        noise=None,
    )


def _drop(key: Key | None, tree: PyTree, rate: float) -> PyTree:
    if key is None or rate == 0:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(
        leaf * dropout_mask(k, leaf.shape, leaf.dtype, rate)
        for leaf, k in zip(leaves, keys, strict=True)
    )


def _merge(merge: str, ys: PyTree, zs: PyTree) -> PyTree:
    if merge == "none":
        return Both(ys, zs)
    if ys.shape != zs.shape:
        raise ValueError(
            f"bidirectional: expected outputs of equal width to {merge}, got "
            f"{ys.shape[-1]} and {zs.shape[-1]}; use merge='none' and join them"
        )
    if merge == "concat":
        return jnp.concatenate([ys, zs], axis=-1)
    total = ys + zs
    return total if merge == "sum" else total / 2


def _last_of(output: Callable[[PyTree], PyTree] | None):
    return None if output is None else lambda carry: output(carry[-1])


def _last_of_both(merge: str) -> Callable[..., PyTree]:
    def concatenated(ys: Array, first: Callable, final: Callable) -> Array:
        ahead, back = jnp.split(ys, 2, axis=-1)
        return jnp.concatenate([final(ahead), first(back)], axis=-1)

    def apart(ys: Both, first: Callable, final: Callable) -> Both:
        return Both(jax.tree.map(final, ys.forward), jax.tree.map(first, ys.backward))

    by_merge = {"concat": concatenated, "none": apart}
    return by_merge.get(merge) or inseparable(f"merge={merge!r}")
