"""The time scan of an affine cell, with a backward pass that knows the structure.

Plain autodiff saves every intermediate of a step, and adds to the weight gradients step
by step. The rule here keeps carries alone, of every step or of few, and goes back in
chunks whose arrays fit the cache; see `seqjax.affine_chunk`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax.affine_chunk import ChunkPull, Span, Sums
from seqjax.array_types import Array, DType, PyTree
from seqjax.cell import Affine, Cell
from seqjax.chunks import even_chunk, scan_chunks, take_steps
from seqjax.stepping import (
    StepInputs,
    checkpoint_chunk,
    emit_both,
    emit_carry,
    emit_output,
    real_or_zero,
    scan_steps,
)

# Floats of one gate array of a chunk: 2 MiB of float32. On a CPU with 1 MiB of L2 per
# core this was the fastest size at hidden 64, 128 and 256 alike, or within 5 % of it.
CHUNK_FLOATS = 2**19
MIN_CHUNK, MAX_CHUNK = 8, 64


class Operands(NamedTuple):
    """All arrays that enter the scan, time-major and with a batch axis.

    Attributes:
        params: Parameters of the cell.
        carry: Carry of the first step, leaves `[batch, ...]`.
        initial: What a reset restores, one sequence.
        xs: `[time, batch, input]` or `[batch, time, input]`, as `time_axis` says.
        inputs: Leaves `[time, batch, ...]`; `cut` may be `[time]`; x is the number of
            the step.
    """

    params: PyTree
    carry: PyTree
    initial: PyTree
    xs: Array
    inputs: StepInputs


class Outputs(NamedTuple):
    """What the scan returns, `carries` only where they are asked for."""

    carry: PyTree
    ys: PyTree
    carries: PyTree


@dataclasses.dataclass(frozen=True)
class AffineScan:
    """A rule for `seqjax.derivative.apply_rule`.

    Attributes:
        cell: An affine cell.
        reverse: Runs from the last step to the first.
        keep_carries: Returns the carry after every step.
        levels: Levels of checkpoints; 0 keeps the carry of every step.
        product_dtype: Of the operands of products, or None for that of the arrays.
        time_axis: Of the inputs, 0 or 1: they are read as they lie, not copied.
    """

    cell: Cell
    reverse: bool
    keep_carries: bool
    levels: int
    product_dtype: DType | None
    time_axis: int

    @property
    def _affine(self) -> Affine:
        affine = self.cell.affine
        if affine is None:
            raise ValueError(f"cell: expected an affine cell, got {self.cell}")
        return affine

    def forward(self, operands: Operands) -> Outputs:
        """The scan itself."""
        return self._scan(operands, emit_both if self.keep_carries else emit_output)

    def keep(self, operands: Operands) -> tuple[Outputs, PyTree]:
        """The scan; keeps the carry after every step, or before every chunk."""
        if self.levels:
            return self._scan_keeping_checkpoints(operands)
        carry, ys, carries = self._scan(
            operands, emit_both if self.cell.output is None else emit_carry
        )
        if self.cell.output is not None:
            # y is a part of the carry: kept once, it serves as the output too.
            ys = jax.vmap(jax.vmap(self.cell.output))(carries)
            ys = real_or_zero(operands.inputs.real, ys)
        return Outputs(carry, ys, carries if self.keep_carries else None), carries

    def backward(
        self, operands: Operands, kept: PyTree, cotangents: Outputs, wanted: Operands
    ) -> Operands:
        """Back-propagation through time, chunk by chunk."""
        params, pull_split = jax.vjp(self._affine.split, operands.params)
        zeros = jax.tree.map(jnp.zeros_like, (params, operands.initial))
        pull = ChunkPull(
            self._affine,
            params,
            operands.initial,
            operands.xs,
            self.time_axis,
            self.reverse,
            self.product_dtype,
            wants_inputs=bool(wanted.xs),
        )
        sums, (dx, probe) = self._pull(
            operands,
            pull,
            Span(operands.carry, operands.inputs, cotangents.ys, cotangents.carries),
            kept,
            Sums(cotangents.carry, *zeros),
        )
        (dparams,) = pull_split(sums.params)
        return Operands(
            dparams,
            sums.carry,
            sums.initial,
            operands.xs if dx is None else jnp.moveaxis(dx, 0, self.time_axis),
            operands.inputs._replace(probe=probe),
        )

    def fold(
        self, operands: Operands, mapped: Operands, size: int
    ) -> tuple[Operands, Callable[[Outputs], Outputs]] | None:
        """Makes one batch of a batch of batches, unless parameters differ."""
        if any(jax.tree.leaves((mapped.params, mapped.initial))):
            return None
        inputs, is_mapped = operands.inputs, mapped.inputs
        if is_mapped.cut is True and inputs.cut.ndim == 2:
            shape = (
                *inputs.cut.shape,
                operands.xs.shape[1 - self.time_axis + mapped.xs],
            )
            inputs = inputs._replace(
                cut=jnp.broadcast_to(inputs.cut[:, :, None], shape)
            )
        folded = Operands(
            operands.params,
            _merge(operands.carry, mapped.carry, 0, size),
            operands.initial,
            _merge(operands.xs, mapped.xs, 1 - self.time_axis, size),
            _merge(inputs, is_mapped, 1, size),
        )
        return folded, lambda outputs: Outputs(
            _split(outputs.carry, 0, size),
            *_split(tuple(outputs[1:]), 1, size),
        )

    def _scan(
        self, operands: Operands, emit: Callable[[PyTree, PyTree], PyTree]
    ) -> Outputs:
        params, carry, initial, xs, inputs = operands
        carry, (ys, carries) = scan_steps(
            lambda carry, x, _: self._affine.step(
                params, carry, x, product_dtype=self.product_dtype
            ),
            carry,
            initial,
            inputs._replace(probe=None),
            read=lambda t: jax.lax.dynamic_index_in_dim(
                xs, t, self.time_axis, keepdims=False
            ),
            batched=True,
            reverse=self.reverse,
            emit=emit,
        )
        return Outputs(carry, ys, carries)

    def _scan_keeping_checkpoints(self, operands: Operands) -> tuple[Outputs, PyTree]:
        inputs = operands.inputs._replace(probe=None)
        num_steps = inputs.x.shape[0]

        def run_chunk(carry: PyTree, first: Array, size: int):
            part = take_steps(inputs, first, size)
            outputs = self.forward(operands._replace(carry=carry, inputs=part))
            start = jax.tree.map(lambda a: a[None], carry)
            return outputs.carry, (outputs.ys, outputs.carries, start)

        carry, (ys, carries, starts) = scan_chunks(
            run_chunk,
            operands.carry,
            num_steps,
            checkpoint_chunk(num_steps, self.levels),
            reverse=self.reverse,
        )
        return Outputs(carry, ys, carries), starts

    def _pull(
        self,
        operands: Operands,
        pull: ChunkPull,
        span: Span,
        kept: PyTree,
        sums: Sums,
    ) -> tuple[Sums, tuple[Any, PyTree]]:
        """Goes back over a span for which `keep` has kept what `levels` says."""
        num_steps = span.inputs.x.shape[0]
        batch_size = operands.xs.shape[1 - self.time_axis]
        if self.levels:
            chunk = checkpoint_chunk(num_steps, self.levels)
        else:
            chunk = _chunk_steps(num_steps, batch_size * pull.width)
        fewer = dataclasses.replace(self, levels=self.levels - 1, keep_carries=False)

        def again(sums: Sums, first: Array, size: int):
            """Computes what one level of checkpoints less keeps, and goes back."""
            start = jax.tree.map(lambda a: take_steps(a, first // chunk, 1)[0], kept)
            part = Span(start, *take_steps(tuple(span[1:]), first, size))
            part_operands = operands._replace(carry=start, inputs=part.inputs)
            _, part_kept = fewer.keep(part_operands)
            return fewer._pull(part_operands, pull, part, part_kept, sums)

        def chunk_pull(sums: Sums, first: Array, size: int):
            entering = _entering(span, kept, first, size, self.reverse)
            part = take_steps(tuple(span[1:]), first, size)
            return pull.chunk(Span(entering, *part), sums)

        return scan_chunks(
            again if self.levels else chunk_pull,
            sums,
            num_steps,
            chunk,
            reverse=not self.reverse,
        )


def _merge(tree: PyTree, mapped: PyTree, axis: int, size: int) -> PyTree:
    """Merges a leading mapped axis into the batch axis at `axis`."""

    def one(leaf: Array, is_mapped: bool) -> Array:
        if is_mapped:
            leaf = jnp.moveaxis(leaf, 0, axis)
        elif leaf.ndim == axis:
            return leaf  # a cut that the batch shares
        else:
            shape = (*leaf.shape[:axis], size, *leaf.shape[axis:])
            leaf = jnp.broadcast_to(jnp.expand_dims(leaf, axis), shape)
        return leaf.reshape(*leaf.shape[:axis], -1, *leaf.shape[axis + 2 :])

    return jax.tree.map(one, tree, mapped)


def _split(tree: PyTree, axis: int, size: int) -> PyTree:
    """Undoes `_merge`: the mapped axis leads again."""

    def one(leaf: Array) -> Array:
        shape = (*leaf.shape[:axis], size, -1, *leaf.shape[axis + 1 :])
        return jnp.moveaxis(leaf.reshape(shape), axis, 0)

    return jax.tree.map(one, tree)


def _chunk_steps(num_steps: int, width: int) -> int:
    """Steps per chunk where every carry is known, for `width` floats of v per step."""
    fitting = CHUNK_FLOATS // max(width, 1)
    steps = max(MIN_CHUNK, min(MAX_CHUNK, fitting))
    return even_chunk(num_steps, min(steps, round(num_steps**0.5)))


def _entering(
    span: Span, carries: PyTree, first: Array, size: int, reverse: bool
) -> PyTree:
    """The carry that entered each step of a chunk, of those after each step."""
    num_steps = span.inputs.x.shape[0]
    before = first + size if reverse else first - 1
    inside = (before >= 0) & (before < num_steps)
    edge_step = jnp.clip(before, 0, num_steps - 1)

    def one(start: Array, after: Array) -> Array:
        edge = jnp.where(inside, take_steps(after, edge_step, 1), start[None])
        shifted = take_steps(after, first + 1 if reverse else first, size - 1)
        return jnp.concatenate([shifted, edge] if reverse else [edge, shifted])

    return jax.tree.map(one, span.carry, carries)
