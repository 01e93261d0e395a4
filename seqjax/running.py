"""Running a cell over time once everything is time-major and checked.

`run` either follows a cell's own `sequence` (stacks, both directions) or scans its
step, with all that surrounds a step: probe, cut, reset, hold.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, Key, PyTree
from seqjax.cell import Cell, Noise
from seqjax.tree import log_norm, log_norm_probe


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


class _StepInputs(NamedTuple):
    """What one step reads; leaves that are not needed are None."""

    x: PyTree
    real: PyTree
    reset: PyTree
    cut: PyTree
    probe: PyTree
    noise: PyTree


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
    """Unrolls one cell, time-major; `reverse` is relative to the surrounding run."""
    if resets is not None and plan.resets is not None:
        resets = jnp.logical_or(resets, plan.resets)
    plan = dataclasses.replace(
        plan,
        reverse=plan.reverse != reverse,
        resets=plan.resets if resets is None else resets,
    )
    if cell.sequence is not None:
        return cell.sequence(functools.partial(run, plan), params, start, xs, key)
    return _scan_steps(plan, cell, params, start, xs, key)


def _scan_steps(
    plan: Plan, cell: Cell, params: PyTree, start: Start, xs: PyTree, key: Key | None
) -> tuple[PyTree, PyTree]:
    noise = None if key is None else cell.noise
    shared, per_step = None, None
    if key is not None and noise is not None:
        shared, per_step = _sample_noise(plan, noise, params, xs, key)
    entering, final = _split_probes(plan, start.probes)
    inputs = _StepInputs(
        xs, plan.mask, _reset_steps(plan), _cut_steps(plan), entering, per_step
    )

    def body(shared: PyTree, carry: PyTree, inputs: _StepInputs):
        def step(carry: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
            if noise is None:
                return cell.step(params, carry, x)
            return noise.step(params, carry, x, (shared, inputs.noise))

        return _one_step(plan, step, start.initial, carry, inputs)

    if plan.batched:
        cut_axis = None if inputs.cut is None or inputs.cut.ndim == 1 else 0
        body = jax.vmap(body, in_axes=(0, 0, _StepInputs(0, 0, 0, cut_axis, 0, 0)))
    carry, (ys, carries) = _scan(
        functools.partial(body, shared), start.carry, inputs, plan
    )
    if final is not None:
        carry, ys = _probe_final(carry, ys, final)
    return (carries if plan.return_carries else carry), ys


def _one_step(
    plan: Plan,
    step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    initial: PyTree,
    carry: PyTree,
    inputs: _StepInputs,
) -> tuple[PyTree, tuple[PyTree, PyTree]]:
    """One step of one sequence with everything around it: probe, cut, reset, hold."""
    if inputs.probe is not None:
        carry = _probe_parts(carry, inputs.probe)
    held, x = carry, inputs.x
    if inputs.cut is not None:
        carry = _where(inputs.cut, jax.lax.stop_gradient(carry), carry)
    if inputs.reset is not None:
        carry = _where(inputs.reset, initial, carry)
    if inputs.real is not None:
        # The first of two wheres: padding never enters the step, so that no NaN of
        # its derivative can meet the zero cotangent of the second where.
        x = _where(inputs.real, x, jax.tree.map(jnp.zeros_like, x))
    carry, y = step(carry, x)
    if inputs.real is not None:
        carry = _where(inputs.real, carry, held)
        y = _where(inputs.real, y, jax.tree.map(jnp.zeros_like, y))
    return carry, (y, carry if plan.return_carries else None)


def _scan(
    body: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    carry: PyTree,
    inputs: PyTree,
    plan: Plan,
) -> tuple[PyTree, PyTree]:
    scan = functools.partial(jax.lax.scan, reverse=plan.reverse)
    chunk = math.isqrt(plan.num_steps)
    if plan.method != "checkpoint" or chunk < 2:
        return scan(body, carry, inputs, length=plan.num_steps)
    num_chunks = plan.num_steps // chunk
    cut = num_chunks * chunk

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def run_chunk(carry: PyTree, inputs: PyTree) -> tuple[PyTree, PyTree]:
        return scan(body, carry, inputs)

    def head(carry: PyTree) -> tuple[PyTree, PyTree]:
        chunks = jax.tree.map(
            lambda a: a[:cut].reshape(num_chunks, chunk, *a.shape[1:]), inputs
        )
        carry, outputs = scan(run_chunk, carry, chunks)
        return carry, jax.tree.map(lambda a: a.reshape(cut, *a.shape[2:]), outputs)

    def tail(carry: PyTree) -> tuple[PyTree, PyTree]:
        return run_chunk(carry, jax.tree.map(lambda a: a[cut:], inputs))

    if cut == plan.num_steps:
        return head(carry)
    if plan.reverse:
        carry, late = tail(carry)
        carry, early = head(carry)
    else:
        carry, early = head(carry)
        carry, late = tail(carry)
    return carry, jax.tree.map(lambda *ab: jnp.concatenate(ab), early, late)


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
    batch_size = jax.tree.leaves(xs)[0].shape[1]
    shared, per_step = jax.vmap(sample)(jax.random.split(key, batch_size))
    return shared, jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), per_step)


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


def _probe_parts(carry: PyTree, probes: PyTree) -> PyTree:
    return jax.tree.map(log_norm_probe, carry, probes)


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


def _where(condition: Array, yes: PyTree, no: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
