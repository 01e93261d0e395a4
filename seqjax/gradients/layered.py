"""Gradient norms of cells without a single step: both directions, and stacks of them.

Such a cell is several runs over the whole sequence, and what stands between two runs
(merging directions, adding a residual) acts at each time alone. Inside a run the
cotangent is carried in the log domain from step to step, as everywhere here; between
two runs it is one vector per time, each with a logarithmic scale of its own.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, Key, PyTree
from seqjax.cell import Cell
from seqjax.gradients.scaled import (
    LogNorms,
    Scaled,
    add,
    normalise,
    nothing,
    with_source,
)
from seqjax.running import Start, either_reset


def layered_log_norms(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    loss_fn: Callable[[PyTree], Array],
    carry: PyTree | None,
) -> LogNorms:
    """Measures gradient norms of a cell that is made of whole unrolls.

    Args:
        cell: A cell with a `sequence`; between its runs every function must act at
            each time alone, as in all of `seqjax.combinators`.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, leaves `[time, ...]`.
        loss_fn: Maps the outputs to a scalar.
        carry: Carry that enters; `cell.initial_carry(params)` if None.

    Returns:
        As `log_gradient_norms`; a cell that runs backwards has its initial carry at
        `time`, its final one at 0. Memory grows with time · hidden.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> from seqjax.combinators import bidirectional
        >>> cell = bidirectional(cells.gru(1, 2))
        >>> params, xs = cell.init(jax.random.key(0)), jnp.ones((3, 1))
        >>> norms = layered_log_norms(cell, params, xs, lambda ys: ys[0].sum(), None)
        >>> print(jnp.isfinite(norms.parts.backward.hidden))
        [False  True  True  True]
    """
    initial = cell.initial_carry(params)
    carry = initial if carry is None else carry
    # Rows go back into the shape of the carry by the place of each of its leaves.
    structure = jax.tree.structure(initial)
    start = Start(carry, initial, structure.unflatten(range(structure.num_leaves)))
    runs: list[_Run] = []
    _, ys = _follow(_Around(runs.append), cell, params, start, xs, None)
    pending, pull = _between(runs, cell, params, start, xs, jax.grad(loss_fn)(ys))
    rows: dict[int, Array] = {}
    for index in reversed(range(len(runs))):
        parts, x_gradients = runs[index].pull_back(pending[index])
        places = jax.tree.leaves(runs[index].start.probes)
        rows |= zip(places, jax.tree.leaves(parts), strict=True)
        earlier = pull(index, x_gradients)
        pending = [jax.vmap(add)(*pair) for pair in zip(pending, earlier, strict=True)]
    tree = structure.unflatten(rows[place] for place in range(structure.num_leaves))
    squares = 2 * jnp.stack(jax.tree.leaves(tree))
    return LogNorms(tree, jax.nn.logsumexp(squares, axis=0) / 2)


class _Run(NamedTuple):
    """One run of one cell.

    Attributes:
        cell: Runs by its step.
        params: Its parameters.
        start: What entered; `probes` holds the places of the carry's leaves.
        xs: Inputs, leaves `[time, ...]`.
        resets: `[time]` or None.
        reverse: Runs from the last step to the first.
        entering: The carry that enters each step, leaves `[time, ...]`.
        carry: The final carry.
        ys: Outputs, leaves `[time, ...]`.
    """

    cell: Cell
    params: PyTree
    start: Start
    xs: PyTree
    resets: Array | None
    reverse: bool
    entering: PyTree = None
    carry: PyTree = None
    ys: PyTree = None

    def forward(self) -> "_Run":
        """Runs over time."""

        def step(carry: PyTree, inputs: tuple[PyTree, Array | None]):
            after, y = self._step(carry, *inputs)
            return after, (y, carry)

        carry, (ys, entering) = jax.lax.scan(
            step, self.start.carry, (self.xs, self.resets), reverse=self.reverse
        )
        return self._replace(entering=entering, carry=carry, ys=ys)

    def pull_back(self, output_gradients: Scaled) -> tuple[PyTree, Scaled]:
        """Rows `[time+1]` per carry part, and the gradients of the inputs."""

        def backward(later: Scaled, step):
            carry, x, reset, source = step
            later, source = with_source(later, source.direction, source.logarithm)
            _, vjp = jax.vjp(lambda c, x: self._step(c, x, reset), carry, x)
            pulled, x_gradient = vjp((later.direction, source))
            unit, row = normalise(later._replace(direction=pulled))
            return unit, (row.parts, later._replace(direction=x_gradient))

        end = nothing(self.start.carry)
        steps = self.entering, self.xs, self.resets, output_gradients
        _, (rows, x_gradients) = jax.lax.scan(
            backward, end, steps, reverse=not self.reverse
        )
        final = jnp.full(1, end.high)
        ends = [final, None] if self.reverse else [None, final]
        rows = jax.tree.map(
            lambda row: jnp.concatenate([row if e is None else e for e in ends]), rows
        )
        return rows, x_gradients

    def _step(self, carry: PyTree, x: PyTree, reset: Array | None):
        if reset is not None:
            carry = jax.tree.map(
                lambda a, b: jnp.where(reset, a, b), self.start.initial, carry
            )
        return self.cell.step(self.params, carry, x)


class _Around(NamedTuple):
    """What surrounds a run.

    Attributes:
        found: Is told every run.
        given: Outputs that take the place of those of the runs, or None.
        reverse: Whether the surrounding run goes backwards.
        resets: `[time]` or None.
    """

    found: Callable[[_Run], None]
    given: list[_Run] | None = None
    reverse: bool = False
    resets: Array | None = None


def _follow(
    around: _Around,
    cell: Cell,
    params: PyTree,
    start: Start,
    xs: PyTree,
    key: Key | None,
    *,
    reverse: bool = False,
    resets: Array | None = None,
) -> tuple[PyTree, PyTree]:
    """`seqjax.running.run` for one sequence, which tells of every run it makes."""
    resets = either_reset(around.resets, resets)
    around = around._replace(reverse=around.reverse != reverse, resets=resets)
    if cell.sequence is not None:
        return cell.sequence(functools.partial(_follow, around), params, start, xs, key)
    if resets is not None and around.reverse:
        # Running backwards a segment begins at its last step.
        resets = jnp.concatenate([resets[1:], jnp.zeros_like(resets[:1])])
    made = _Run(cell, params, start, xs, resets, around.reverse)
    made = made.forward() if around.given is None else around.given.pop(0)
    around.found(made._replace(xs=xs))
    return made.carry, made.ys


def _between(
    runs: list[_Run],
    cell: Cell,
    params: PyTree,
    start: Start,
    xs: PyTree,
    output_gradients: PyTree,
) -> tuple[list[Scaled], Callable[[int, Scaled], list[Scaled]]]:
    """What reaches the outputs of each run from the loss, and how more gets there."""

    def local(outputs: list[PyTree]) -> tuple[list[PyTree], PyTree]:
        found: list[_Run] = []
        given = [r._replace(ys=ys) for r, ys in zip(runs, outputs, strict=True)]
        _, ys = _follow(_Around(found.append, given), cell, params, start, xs, None)
        return [run.xs for run in found], ys

    (inputs, ys), vjp = jax.vjp(local, [run.ys for run in runs])
    no_inputs, no_ys = jax.tree.map(jnp.zeros_like, (inputs, ys))

    def scaled_parts(cotangent: tuple[list[PyTree], PyTree], scale: Scaled):
        (parts,) = vjp(cotangent)
        return [
            jax.vmap(normalise)(scale._replace(direction=part))[0] for part in parts
        ]

    def pull(index: int, x_gradients: Scaled) -> list[Scaled]:
        inputs = [*no_inputs]
        inputs[index] = x_gradients.direction
        return scaled_parts((inputs, no_ys), x_gradients)

    one = jnp.zeros(jax.tree.leaves(xs)[0].shape[0], nothing(start.carry).high.dtype)
    return scaled_parts((no_inputs, output_gradients), Scaled(None, one, one)), pull
