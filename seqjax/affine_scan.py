"""The time scan of an affine cell, with a backward pass that knows the structure.

Plain autodiff saves every intermediate of a step, and adds to the weight gradients step
by step. The rule here keeps carries alone, of every step or of few, and goes back in
chunks whose arrays fit the cache; see `seqjax.affine_chunk`.

Steps are read from and written to `[batch, time, ...]` arrays in place. A scan over
time-major arrays, as `jax.lax.scan` makes them, needs a transposed copy of all inputs
and outputs, which costs memory, and in fresh memory a third of a forward pass.

The input product stays inside the scan: taken out of it, for all steps at once, it made
forward passes of LSTM and GRU 2.0 to 4.2 times slower on a CPU, from (batch 16,
time 1000, input 2, hidden 64) to (128, 128, 128, 256). On a GPU it is the usual gain,
and has not been measured. Going back, it is one product per chunk.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax.affine_chunk import ChunkPull, Span, Sums
from seqjax.array_types import Array, DType, PyTree
from seqjax.cell import Affine, AffineParams, Cell
from seqjax.chunks import even_chunk, put_steps, scan_chunks, take_steps
from seqjax.stepping import (
    StepInputs,
    checkpoint_chunk,
    emit_both,
    emit_carry,
    emit_output,
    map_batch,
    one_step,
    real_or_zero,
    swap_time,
)

# Floats of one gate array of a chunk: 2 MiB of float32. On a CPU with 1 MiB of L2 per
# core this was the fastest size at hidden 64, 128 and 256 alike, or within 5 % of it.
# One sequence of 10,000 steps takes 0.97 (LSTM), 1.00 (GRU), 0.95 (Elman) of the time
# with 100 steps in a chunk instead of 50.
CHUNK_FLOATS = 2**19
MIN_CHUNK, MAX_CHUNK = 4, 128


class Operands(NamedTuple):
    """All arrays that enter the scan, with a batch axis.

    Attributes:
        params: Parameters of the cell, split: what a cell derives from its parameters,
            it derives once, and its gradient is autodiff's.
        carry: Carry of the first step, leaves `[batch, ...]`.
        initial: What a reset restores, one sequence.
        xs: All inputs, `[batch, time, input]`.
        inputs: Leaves `[time, batch]`; `cut` may be `[time]`; x is the number of the
            step, `[time]`.
    """

    params: AffineParams
    carry: PyTree
    initial: PyTree
    xs: Array
    inputs: StepInputs


class Outputs(NamedTuple):
    """What the scan returns; `carries` only where they are asked for.

    Attributes:
        carry: The final one, leaves `[batch, ...]`.
        ys: Outputs, leaves `[batch, time, ...]`.
        carries: After each step, leaves `[batch, time, ...]`, or None.
    """

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
    """

    cell: Cell
    reverse: bool
    keep_carries: bool
    levels: int
    product_dtype: DType | None

    @property
    def _affine(self) -> Affine:
        affine = self.cell.affine
        if affine is None:
            raise ValueError(f"cell: expected an affine cell, got {self.cell}")
        return affine

    def forward(self, operands: Operands) -> Outputs:
        """The scan itself."""
        emit = emit_both if self.keep_carries else emit_output
        carry, (ys, carries) = self._scan(operands, emit)
        return Outputs(carry, ys, carries)

    def keep(self, operands: Operands) -> tuple[Outputs, PyTree]:
        """The scan; keeps the carry after every step, or before every chunk."""
        if self.levels:
            return self._scan_keeping_checkpoints(operands)
        emit = emit_both if self.cell.output is None else emit_carry
        carry, (ys, carries) = self._scan(operands, emit)
        if self.cell.output is not None:
            # y is a part of the carry: kept once, it serves as the output too.
            ys = jax.vmap(jax.vmap(self.cell.output))(carries)
            ys = real_or_zero(swap_time(operands.inputs.real, True), ys)
        return Outputs(carry, ys, carries if self.keep_carries else None), carries

    def backward(
        self, operands: Operands, kept: PyTree, cotangents: Outputs, wanted: Operands
    ) -> Operands:
        """Back-propagation through time, chunk by chunk."""
        zeros = jax.tree.map(jnp.zeros_like, (operands.params, operands.initial))
        pull = ChunkPull(
            self._affine,
            operands.params,
            operands.initial,
            operands.xs,
            self.reverse,
            self.product_dtype,
            wants_inputs=bool(wanted.xs),
        )
        span = Span(operands.carry, operands.inputs, cotangents.ys, cotangents.carries)
        sums = Sums(cotangents.carry, *zeros)
        sums, dx, probe = self._pull(operands, pull, span, kept, sums)
        return Operands(
            sums.params,
            sums.carry,
            sums.initial,
            operands.xs if dx is None else dx,
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
            shape = (*inputs.cut.shape, operands.xs.shape[1 if mapped.xs else 0])
            inputs = inputs._replace(
                cut=jnp.broadcast_to(inputs.cut[:, :, None], shape)
            )
        folded = Operands(
            operands.params,
            _merge(operands.carry, mapped.carry, 0, size),
            operands.initial,
            _merge(operands.xs, mapped.xs, 0, size),
            _merge(inputs, is_mapped, 1, size),
        )
        return folded, lambda outputs: _split(outputs, size)

    def _scan(
        self,
        operands: Operands,
        emit: Callable[[PyTree, PyTree], PyTree],
        into: tuple[PyTree, Array] | None = None,
    ) -> tuple[PyTree, PyTree]:
        """Scans the step.

        Args:
            operands: All that enters.
            emit: What each step writes, as in `scan_steps`.
            into: Arrays that it is written to, and the number of their first step;
                new ones for the steps of `operands` if None.

        Returns:
            The final carry, and the arrays.
        """
        params, carry, initial, xs, inputs = operands
        inputs = inputs._replace(probe=None)

        def step(carry: PyTree, x: Array, _: PyTree) -> tuple[PyTree, PyTree]:
            dtype = self.product_dtype
            return self._affine.step_of_parts(params, carry, x, product_dtype=dtype)

        def one(_: PyTree, carry: PyTree, inputs: StepInputs) -> tuple[PyTree, PyTree]:
            carry, y = one_step(step, initial, carry, inputs, None)
            return carry, emit(carry, y)

        mapped = map_batch(one, inputs)

        def read_and_step(carry: PyTree, inputs: StepInputs) -> tuple[PyTree, PyTree]:
            x = jax.lax.dynamic_index_in_dim(xs, inputs.x, 1, keepdims=False)
            return mapped(None, carry, inputs._replace(x=x))

        if into is None:
            start = jax.tree.map(lambda a: a[0], inputs)
            _, emitted = jax.eval_shape(read_and_step, carry, start)
            into = _zeros(xs, emitted, inputs.x.shape[0]), inputs.x[0]
        arrays, first = into

        def body(state: tuple, inputs: StepInputs) -> tuple[tuple, None]:
            carry, arrays = state
            carry, emitted = read_and_step(carry, inputs)
            emitted = jax.tree.map(lambda a: a[:, None], emitted)
            return (carry, put_steps(arrays, emitted, inputs.x - first, axis=1)), None

        state, _ = jax.lax.scan(body, (carry, arrays), inputs, reverse=self.reverse)
        return state

    def _scan_keeping_checkpoints(self, operands: Operands) -> tuple[Outputs, PyTree]:
        inputs = operands.inputs
        num_steps = inputs.x.shape[0]
        emit = emit_both if self.keep_carries else emit_output

        def run_chunk(state: tuple, first: Array, size: int) -> tuple[tuple, PyTree]:
            carry, arrays = state
            part = operands._replace(
                carry=carry, inputs=take_steps(inputs, first, size)
            )
            start = jax.tree.map(lambda a: a[None], carry)
            return self._scan(part, emit, (arrays, inputs.x[0])), start

        emitted = jax.eval_shape(
            lambda: jax.tree.map(lambda a: a[:, 0], self._scan(operands, emit)[1])
        )
        arrays = _zeros(operands.xs, emitted, num_steps)
        (carry, (ys, carries)), starts = scan_chunks(
            run_chunk,
            (operands.carry, arrays),
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
    ) -> tuple[Sums, Array | None, PyTree]:
        """Goes back over a span for which `keep` has kept what `levels` says."""
        num_steps = span.inputs.x.shape[0]
        if self.levels:
            chunk = checkpoint_chunk(num_steps, self.levels)
        else:
            chunk = _chunk_steps(num_steps, operands.xs.shape[0] * pull.width)
        fewer = dataclasses.replace(self, levels=self.levels - 1, keep_carries=False)

        def part_of(span: Span, carry: PyTree, first: Array, size: int) -> Span:
            inputs = take_steps(span.inputs, first, size)
            rest = take_steps((span.ys, span.carries), first, size, axis=1)
            return Span(carry, inputs, *rest)

        def again(sums: Sums, first: Array, size: int):
            """Computes what one level of checkpoints less keeps, and goes back."""
            start = jax.tree.map(lambda a: take_steps(a, first // chunk, 1)[0], kept)
            part = part_of(span, start, first, size)
            part_operands = operands._replace(carry=start, inputs=part.inputs)
            _, part_kept = fewer.keep(part_operands)
            return fewer._pull(part_operands, pull, part, part_kept, sums)

        def chunk_pull(sums: Sums, first: Array, size: int):
            entering = _entering(span, kept, first, size, self.reverse)
            return pull.chunk(part_of(span, entering, first, size), sums)

        def go_back(state: tuple, first: Array, size: int) -> tuple[tuple, PyTree]:
            sums, dxs = state
            sums, dx, norms = (again if self.levels else chunk_pull)(sums, first, size)
            return (sums, put_steps(dxs, dx, first, axis=1)), norms

        dxs = None
        if pull.wants_inputs:
            dxs = _zeros(operands.xs, operands.xs[:, 0], num_steps)
        (sums, dxs), norms = scan_chunks(
            go_back, (sums, dxs), num_steps, chunk, reverse=not self.reverse
        )
        return sums, dxs, norms


def _zeros(like: Array, one_step: PyTree, num_steps: int) -> PyTree:
    """Zeros `[batch, time, ...]` for what one step emits; on the mesh like `like`."""

    def zeros(a: Any) -> Array:
        shape = (a.shape[0], num_steps, *a.shape[1:])
        return jax.lax.full_like(like, 0, a.dtype, shape)

    return jax.tree.map(zeros, one_step)


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


def _split(tree: PyTree, size: int) -> PyTree:
    """Undoes `_merge` at axis 0."""
    return jax.tree.map(lambda leaf: leaf.reshape(size, -1, *leaf.shape[1:]), tree)


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
        edge = take_steps(after, edge_step, 1, axis=1)
        edge = jnp.where(inside, edge, start[:, None])
        shifted = take_steps(after, first + 1 if reverse else first, size - 1, axis=1)
        return jnp.concatenate([shifted, edge] if reverse else [edge, shifted], axis=1)

    return jax.tree.map(one, span.carry, carries)
