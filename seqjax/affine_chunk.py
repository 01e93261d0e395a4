"""Going back over a chunk of steps of an affine cell, once every carry is known.

All u = x W + b and v = h R of the chunk come again out of two products. What stays
sequential is the derivative of the rest of the step and one product δh += δv Rᵀ, and
δW = xᵀδu and δR = hᵀδv are one product for the chunk.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, DType, PyTree
from seqjax.cell import Affine, AffineParams, input_map, product
from seqjax.chunks import take_steps
from seqjax.stepping import StepInputs, hold, real_or_zero, swap_time, where
from seqjax.tree import log_norm, norm_dtype


class Sums(NamedTuple):
    """Cotangents on their way back: of the carry, and the sums over time."""

    carry: PyTree
    params: AffineParams
    initial: PyTree


class Span(NamedTuple):
    """A stretch of steps.

    Attributes:
        carry: What entered the step that ran first, leaves `[batch, ...]`; for a chunk
            what entered each step, `[batch, time, ...]`.
        inputs: Inputs of the steps, `[time, batch]`; x is the number of the step.
        ys: Cotangents of the outputs, leaves `[batch, time, ...]`.
        carries: Cotangents of the carries after each step, likewise, or None.
    """

    carry: PyTree
    inputs: StepInputs
    ys: PyTree
    carries: PyTree


class _Point(NamedTuple):
    """Where the rest of a step is differentiated; `real` is not."""

    u: Array
    v: Array
    entered: PyTree
    held: PyTree
    real: Array | None


class _Back(NamedTuple):
    """What going back over the steps of a chunk leaves behind, time-major.

    Attributes:
        du: Cotangent of u.
        dv: Cotangent of v; None where it is `du`, since u and v enter as a sum.
        after: Cotangent of the carry after each step.
        entered: Cotangent of what the step itself saw.
        before: Cotangent of the carry that came in.
    """

    du: Array
    dv: Array | None
    after: PyTree
    entered: PyTree
    before: PyTree


@dataclasses.dataclass(frozen=True)
class ChunkPull:
    """The backward pass over one chunk.

    Attributes:
        affine: Structure of the cell.
        params: Its parameters, split.
        initial: What a reset restores, one sequence.
        xs: All inputs, `[batch, time, input]`.
        reverse: Whether the scan ran from the last step to the first.
        product_dtype: Of the operands of products, or None for that of the arrays.
        wants_inputs: Whether to compute the cotangent of x.
    """

    affine: Affine
    params: AffineParams
    initial: PyTree
    xs: Array
    reverse: bool
    product_dtype: DType | None
    wants_inputs: bool

    @property
    def width(self) -> int:
        """Features of v."""
        return self.params.recurrent_kernel.shape[1]

    def chunk(self, span: Span, sums: Sums) -> tuple[Sums, Array | None, PyTree | None]:
        """Adds a chunk to the sums; also returns the cotangents of x and probes."""
        params, inputs = self.params, span.inputs
        span = Span(
            swap_time(span.carry, True), inputs, *swap_time(tuple(span[2:]), True)
        )
        x = real_or_zero(inputs.real, self._inputs(inputs.x))
        entered = _enter(span.carry, self.initial, inputs.reset)
        hidden = jax.vmap(jax.vmap(self.affine.hidden))(entered)
        u = input_map(params, _rows(x), self.product_dtype)
        u = u.reshape(*x.shape[:-1], -1)
        v = self._product(hidden, params.recurrent_kernel)
        point = _Point(u, v, entered, span.carry, inputs.real)
        carry, back = self._steps(point, span, sums.carry)
        dv = back.du if back.dv is None else back.dv
        gradients = AffineParams(
            self._weight_gradient(x, back.du),
            None if params.bias is None else jnp.sum(back.du, (0, 1)),
            self._weight_gradient(hidden, dv),
            self._rest_gradient(point, (back.after, span.ys)),
        )
        summed = jax.tree.map(jnp.add, sums.params, gradients)
        dinitial = _add_resets(sums.initial, back.entered, inputs.reset)
        dx = self._input_cotangent(back.du, inputs) if self.wants_inputs else None
        norms = _probe(back.before, inputs.probe)
        return Sums(carry, summed, dinitial), swap_time(dx, True), norms

    def _steps(self, point: _Point, span: Span, carry: PyTree) -> tuple[PyTree, _Back]:
        """The sequential part: the cotangent of the carry, step by step."""
        recurrent = _transposed(self.params.recurrent_kernel)

        def pull(point: _Point) -> Callable[..., Any]:
            def rest(u: Array, v: Array, entered: PyTree, held: PyTree):
                return self._rest(self.params.rest, u, v, entered, held, point.real)

            return jax.vjp(rest, *point[:-1])[1]

        def step(after: PyTree, inputs: tuple) -> tuple[PyTree, _Back]:
            pull_step, dy, dcarry, blocked = inputs
            if dcarry is not None:
                after = jax.tree.map(jnp.add, after, dcarry)
            du, dv, dentered, dheld = pull_step((after, dy))
            _, pull_hidden = jax.vjp(jax.vmap(self.affine.hidden), dentered)
            (through_hidden,) = pull_hidden(self._product(dv, recurrent))
            dentered = jax.tree.map(jnp.add, dentered, through_hidden)
            passed = dentered
            if blocked is not None:
                zeros = jax.tree.map(jnp.zeros_like, dentered)
                passed = where(blocked, zeros, dentered)
            before = jax.tree.map(jnp.add, passed, dheld)
            return before, _Back(du, None if dv is du else dv, after, dentered, before)

        # One pass over the chunk leaves its factors behind for the loop to read.
        blocked = _blocked(span.inputs, point.u.shape[:2])
        steps = (jax.vmap(pull)(point), span.ys, span.carries, blocked)
        return jax.lax.scan(step, carry, steps, reverse=not self.reverse)

    def _rest(
        self,
        rest_params: PyTree,
        u: Array,
        v: Array,
        entered: PyTree,
        held: PyTree,
        real: Array | None,
    ) -> tuple[PyTree, PyTree]:
        """The rest of one step of a batch, and the hold in the padding."""

        def one(u: Array, v: Array, entered: PyTree, held: PyTree, real: Array | None):
            new, y = self.affine.rest(rest_params, u, v, entered)
            return hold(real, new, held), real_or_zero(real, y)

        return jax.vmap(one)(u, v, entered, held, real)

    def _rest_gradient(self, point: _Point, cotangents: PyTree) -> PyTree:
        def rest(rest_params: PyTree) -> tuple[PyTree, PyTree]:
            return jax.vmap(lambda point: self._rest(rest_params, *point))(point)

        _, pull = jax.vjp(rest, self.params.rest)
        (gradient,) = pull(cotangents)
        return gradient

    def _inputs(self, steps: Array) -> Array:
        """Inputs of consecutive steps, `[time, batch, input]`."""
        return swap_time(take_steps(self.xs, steps[0], steps.shape[0], axis=1), True)

    def _input_cotangent(self, du: Array, inputs: StepInputs) -> Array:
        dx = self._product(du, self.params.kernel.T).astype(self.xs.dtype)
        return real_or_zero(inputs.real, dx)

    def _weight_gradient(self, a: Array, cotangent: Array) -> Array:
        return product(_transposed(_rows(a)), _rows(cotangent), self.product_dtype)

    def _product(self, a: Array, b: Array) -> Array:
        rows = product(_rows(a), b, self.product_dtype)
        return rows.reshape(*a.shape[:-1], b.shape[-1])


def _enter(carry: PyTree, initial: PyTree, reset: Array | None) -> PyTree:
    """What each step itself saw: `initial` where a segment began."""
    if reset is None:
        return carry
    start = jax.tree.map(
        lambda a, like: jnp.broadcast_to(a[None, None], like.shape), initial, carry
    )
    return where(reset, start, carry)


def _blocked(inputs: StepInputs, shape: tuple[int, ...]) -> Array | None:
    """Steps through which no gradient passes to the carry before, `[time, batch]`."""
    if inputs.cut is None:
        return inputs.reset
    cut = inputs.cut if inputs.cut.ndim == 2 else inputs.cut[:, None]
    cut = jnp.broadcast_to(cut, shape)
    return cut if inputs.reset is None else cut | inputs.reset


def _add_resets(initial: PyTree, dentered: PyTree, reset: Array | None) -> PyTree:
    if reset is None:
        return initial
    zeros = jax.tree.map(jnp.zeros_like, dentered)
    return jax.tree.map(
        lambda total, part: total + jnp.sum(part, (0, 1)),
        initial,
        where(reset, dentered, zeros),
    )


def _probe(before: PyTree, probe: PyTree | None) -> PyTree | None:
    """The ln ‖·‖ of the cotangents of the carries, in the dtype of the probes."""
    if probe is None:
        return None
    return jax.tree.map(lambda a, like: _log_norms(a).astype(like.dtype), before, probe)


def _log_norms(a: Array) -> Array:
    """The ln ‖·‖ of a leaf `[time, batch, ...]`, `[time, batch]`.

    Plain sums of squares, in a tenth of the time, where all of them keep their digits.
    """
    wide = a.astype(norm_dtype(a))
    limits = jnp.finfo(wide.dtype)
    squares = jnp.sum(jnp.square(wide), axis=tuple(range(2, a.ndim)))
    # Entries whose squares underflow are lost in the rounding of a sum this large.
    plain = (squares > limits.tiny / limits.eps**2) & (squares <= limits.max)
    return jax.lax.cond(
        jnp.all(plain),
        lambda: 0.5 * jnp.log(squares),
        lambda: jax.vmap(jax.vmap(log_norm))(wide),
    )


def _transposed(a: Array) -> Array:
    # As an array of its own it takes a product off a slow path of XLA on CPUs: each of
    # the two transposes here is worth 2 to 10 % of the whole backward pass.
    return jax.lax.optimization_barrier(a.T)


def _rows(a: Array) -> Array:
    return a.reshape(-1, a.shape[-1])
