"""Running a cell over time once everything is checked.

`run` either follows a cell's own `sequence` (stacks, both directions) or scans its
step, with all that surrounds a step: probe, cut, reset, hold.

Inputs, outputs and carries are `[batch, time, ...]`, or `[time, ...]` without a batch:
what the user holds, so that nothing large is ever transposed. What has one scalar per
step (mask, resets, cuts, probes) is time-major.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.affine_scan import AffineScan, Operands
from seqjax.array_types import Array, DType, Key, PyTree
from seqjax.cell import AffineParams, Cell, Noise
from seqjax.derivative import apply_rule
from seqjax.mesh import vary_alike
from seqjax.stepping import (
    StepInputs,
    emit_both,
    emit_output,
    scan_steps,
    swap_time,
)
from seqjax.tree import log_norm

LEVELS = {"checkpoint": 1, "two_level": 2}
"""Levels of checkpoints, by the methods of `unroll` that have them."""


class Start(NamedTuple):
    """What enters an unroll, all shaped like the carry; `part` follows a sub-cell.

    Attributes:
        carry: Carry of the first step, leaves `[batch, ...]` or `[...]`.
        initial: What a reset restores, one sequence.
        probes: Leaves `[time+1, batch]` or `[time+1]`, or None.
    """

    carry: PyTree
    initial: PyTree
    probes: PyTree | None

    def part(self, index: int) -> "Start":
        """The start of the sub-cell at `index` of a carry that is a tuple."""
        return Start(*(None if field is None else field[index] for field in self))


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to run over time; arrays are time-major, `[time, batch]` or `[time]`."""

    num_steps: int
    batched: bool
    mask: Array | None
    resets: Array | None
    window: int | None
    method: str
    return_carries: bool
    reverse: bool
    product_dtype: DType | None


def run(
    plan: Plan,
    cell: Cell,
    params: PyTree,
    start: Start,
    xs: PyTree,
    key: Key | None,
    *,
    reverse: bool = False,
    resets: Array | None = None,
) -> tuple[PyTree, PyTree]:
    """Unrolls one cell.

    Args:
        plan: How to.
        cell: The cell.
        params: Its parameters.
        start: What enters.
        xs: Leaves `[batch, time, ...]` or `[time, ...]`.
        key: For masks, or None.
        reverse: Relative to the surrounding run.
        resets: Like the leaves of `xs`; added to those of the plan.

    Returns:
        The final carry or all carries, and the outputs, laid out like `xs`.
    """
    resets = either_reset(plan.resets, swap_time(resets, plan.batched))
    plan = dataclasses.replace(plan, reverse=plan.reverse != reverse, resets=resets)
    if cell.sequence is not None:
        return cell.sequence(functools.partial(run, plan), params, start, xs, key)
    return _scan_steps(plan, cell, params, start, xs, key)


def either_reset(a: Array | None, b: Array | None) -> Array | None:
    """Returns where one of two masks or both start anew; None is a mask of False."""
    if a is None or b is None:
        return b if a is None else a
    return jnp.logical_or(a, b)


def _scan_steps(
    plan: Plan, cell: Cell, params: PyTree, start: Start, xs: PyTree, key: Key | None
) -> tuple[PyTree, PyTree]:
    noise = None if key is None else cell.noise
    shared, per_step = None, None
    if key is not None and noise is not None:
        shared, per_step = _sample_noise(plan, noise, params, xs, key)
    entering, final = _split_probes(plan, start.probes)
    inputs = StepInputs(
        xs, plan.mask, _reset_steps(plan), _cut_steps(plan), entering, per_step
    )
    affine = cell.affine if noise is None else None
    if affine is not None and _takes_affine(plan, params, start, xs):
        parts = affine.split(params)
        carry, ys, carries = _scan_affine(plan, cell, parts, start, inputs)
    else:
        carry, ys, carries = _scan_plainly(
            plan, cell, params, start, inputs, noise, shared
        )
    if final is not None:
        carry, ys = _probe_final(carry, ys, final)
    return (carries if plan.return_carries else carry), ys


def _scan_plainly(
    plan: Plan,
    cell: Cell,
    params: PyTree,
    start: Start,
    inputs: StepInputs,
    noise: Noise | None,
    shared: PyTree,
) -> tuple[PyTree, PyTree, PyTree]:
    step_once = cell.step
    if noise is None and cell.affine is not None:
        # What is derived from params alone is derived once, before the scan.
        params = cell.affine.split(params)
        step_once = functools.partial(
            cell.affine.step_of_parts, product_dtype=plan.product_dtype
        )
    elif plan.product_dtype is not None:
        raise ValueError(
            f"product_dtype: expected None for {cell}, which is no affine cell "
            f"without noise, got {plan.product_dtype}; leave it out"
        )

    def step(carry: PyTree, x: PyTree, masks: PyTree) -> tuple[PyTree, PyTree]:
        if noise is None:
            return step_once(params, carry, x)
        return noise.step(params, carry, x, masks)

    inputs = inputs._replace(x=swap_time(inputs.x, plan.batched))
    params, carry, initial, inputs, shared = vary_alike(
        (params, start.carry, start.initial, inputs, shared)
    )
    carry, emitted = scan_steps(
        step,
        carry,
        initial,
        inputs,
        shared=shared,
        batched=plan.batched,
        reverse=plan.reverse,
        emit=emit_both if plan.return_carries else emit_output,
        levels=LEVELS.get(plan.method, 0),
    )
    return carry, *swap_time(emitted, plan.batched)


def _takes_affine(plan: Plan, params: PyTree, start: Start, xs: PyTree) -> bool:
    """Whether the rule for affine cells applies; `scan` is the way around it."""
    if plan.method == "scan" or plan.num_steps == 0:
        return False
    floats = jax.tree.leaves((params, start.carry, xs))
    return all(jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in floats)


def _scan_affine(
    plan: Plan, cell: Cell, parts: AffineParams, start: Start, inputs: StepInputs
) -> tuple[PyTree, PyTree, PyTree]:
    rule = AffineScan(
        cell,
        plan.reverse,
        plan.return_carries,
        LEVELS.get(plan.method, 0),
        plan.product_dtype,
    )
    carry, xs = start.carry, inputs.x
    inputs = inputs._replace(x=jnp.arange(plan.num_steps, dtype=jnp.int32))
    if not plan.batched:
        carry, xs = jax.tree.map(lambda a: a[None], (carry, xs))
        per_step = inputs._replace(x=None, cut=None)
        per_step = jax.tree.map(lambda a: a[:, None], per_step)
        inputs = per_step._replace(x=inputs.x, cut=inputs.cut)
    outputs = apply_rule(rule, Operands(parts, carry, start.initial, xs, inputs))
    if not plan.batched:
        outputs = jax.tree.map(lambda a: a[0], outputs)
    return tuple(outputs)


def _sample_noise(
    plan: Plan, noise: Noise, params: PyTree, xs: PyTree, key: Key
) -> tuple[PyTree, PyTree]:
    """Masks of all sequences: shared `[batch, ...]`, per step `[time, batch, ...]`."""
    skip = 2 if plan.batched else 1
    x = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[skip:], a.dtype), xs)

    def sample(key: Key) -> tuple[PyTree, PyTree]:
        return noise.sample(key, params, x, plan.num_steps)

    if not plan.batched:
        return sample(key)
    batch_size = jax.tree.leaves(xs)[0].shape[0]
    shared, per_step = jax.vmap(sample)(jax.random.split(key, batch_size))
    return shared, swap_time(per_step, True)


def _reset_steps(plan: Plan) -> Array | None:
    """Steps that begin a segment in the order of running."""
    resets = plan.resets
    if resets is None or not plan.reverse:
        return resets
    # Running backwards a segment begins at its last step, just before the next one;
    # a segment that begins in the padding does not exist.
    resets = resets if plan.mask is None else resets & plan.mask
    return jnp.concatenate([resets[1:], jnp.zeros_like(resets[:1])])


def _cut_steps(plan: Plan) -> Array | None:
    """Steps whose carry passes no gradient back, `[time]` or `[time, batch]`."""
    if plan.window is None:
        return None
    steps = jnp.arange(plan.num_steps)
    if plan.reverse and plan.mask is not None:
        # From the last real step of each sequence: padding moves no boundary.
        steps = steps.reshape((-1,) + (1,) * (plan.mask.ndim - 1))
        steps = jnp.sum(plan.mask, axis=0)[None] - 1 - steps
    elif plan.reverse:
        steps = steps[::-1]
    return (steps % plan.window == 0) & (steps > 0)


def _split_probes(plan: Plan, probes: PyTree | None) -> tuple[PyTree, PyTree]:
    """Probes of the carries that enter a step `[time, ...]`, and of the final one."""
    if probes is None:
        return None, None
    if plan.reverse:
        return (
            jax.tree.map(lambda p: p[1:], probes),
            jax.tree.map(lambda p: p[0], probes),
        )
    return (
        jax.tree.map(lambda p: p[:-1], probes),
        jax.tree.map(lambda p: p[-1], probes),
    )


@jax.custom_vjp
def _probe_final(carry: PyTree, ys: PyTree, probes: PyTree) -> tuple[PyTree, PyTree]:
    # The outputs pass through as well: a loss on them alone must still report a zero
    # gradient of the carry, and not nothing at all.
    del probes
    return carry, ys


def _probe_final_forward(carry: PyTree, ys: PyTree, probes: PyTree):
    return (carry, ys), probes


def _probe_final_backward(probes: PyTree, cotangents: tuple[PyTree, PyTree]):
    def measure(probe: Array, part: Array) -> Array:
        return jax.vmap(log_norm)(part) if probe.ndim else log_norm(part)

    carry, ys = cotangents
    norms = jax.tree.map(
        lambda probe, part: measure(probe, part).astype(probe.dtype), probes, carry
    )
    return carry, ys, norms


_probe_final.defvjp(_probe_final_forward, _probe_final_backward)
