"""One step of one sequence with all that surrounds it, and the plain scan of it."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, PyTree
from seqjax.chunks import even_chunk, scan_chunks, take_steps
from seqjax.tree import log_norm_probe

Step = Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]
"""`(carry, x, (shared, per_step)) -> (carry, y)` of one sequence, masks last."""


class StepInputs(NamedTuple):
    """What one step reads; leaves that are not needed are None.

    Attributes:
        x: Input, a pytree.
        real: False in the padding.
        reset: True where a segment begins.
        cut: True where no gradient passes into the carry; shared by the batch
            (`[time]`) or not.
        probe: Like the carry, one scalar per leaf.
        noise: Pytree of masks of this step.
    """

    x: PyTree
    real: PyTree = None
    reset: PyTree = None
    cut: PyTree = None
    probe: PyTree = None
    noise: PyTree = None


def scan_steps(
    step: Step,
    carry: PyTree,
    initial: PyTree,
    inputs: StepInputs,
    *,
    shared: PyTree = None,
    batched: bool,
    reverse: bool,
    emit: Callable[[PyTree, PyTree], PyTree],
    levels: int = 0,
) -> tuple[PyTree, PyTree]:
    """Scans a step over time-major inputs.

    Args:
        step: Step of one sequence.
        carry: Carry that enters the step that runs first.
        initial: What a reset restores, one sequence.
        inputs: Leaves `[time, batch, ...]`, or `[time, ...]` if not `batched`.
        shared: Masks that hold for a whole sequence, leaves `[batch, ...]`.
        batched: Whether there is a batch axis, over which the step is mapped.
        reverse: Runs from the last step to the first.
        emit: `(carry, y) -> outputs` of one step, whose carry is the one after it.
        levels: Levels of checkpoints between which the backward pass computes the
            carries again; 0 saves what it needs at every step.

    Returns:
        The final carry, and what is emitted, time-major.
    """

    def one(shared: PyTree, carry: PyTree, inputs: StepInputs) -> tuple[PyTree, PyTree]:
        carry, y = one_step(step, initial, carry, inputs, shared)
        return carry, emit(carry, y)

    body = map_batch(one, inputs) if batched else one
    return _scan(functools.partial(body, shared), carry, inputs, reverse, levels)


def map_batch(one: Callable[..., PyTree], inputs: StepInputs) -> Callable[..., PyTree]:
    """Maps `(shared, carry, inputs)` of one sequence over a batch.

    Args:
        one: The function.
        inputs: Those of all steps, which tell whether `cut` is shared by the batch.
    """
    shared_cut = inputs.cut is not None and inputs.cut.ndim == 1
    axes = StepInputs(0, 0, 0, None if shared_cut else 0, 0, 0)
    return jax.vmap(one, in_axes=(0, 0, axes))


def emit_both(carry: PyTree, y: PyTree) -> tuple[PyTree, PyTree]:
    """Emits the output and the carry."""
    return y, carry


def emit_output(carry: PyTree, y: PyTree) -> tuple[PyTree, None]:
    """Emits the output, and None for the carry."""
    del carry
    return y, None


def emit_carry(carry: PyTree, y: PyTree) -> tuple[None, PyTree]:
    """Emits None for the output, and the carry."""
    del y
    return None, carry


def one_step(
    step: Step, initial: PyTree, carry: PyTree, inputs: StepInputs, shared: PyTree
) -> tuple[PyTree, PyTree]:
    """One step of one sequence with everything around it: probe, cut, reset, hold."""
    if inputs.probe is not None:
        carry = jax.tree.map(log_norm_probe, carry, inputs.probe)
    entering = enter(carry, initial, inputs)
    x = real_or_zero(inputs.real, inputs.x)
    new, y = step(entering, x, (shared, inputs.noise))
    return hold(inputs.real, new, carry), real_or_zero(inputs.real, y)


def enter(carry: PyTree, initial: PyTree, inputs: StepInputs) -> PyTree:
    """The carry that the step itself sees."""
    if inputs.cut is not None:
        carry = where(inputs.cut, jax.lax.stop_gradient(carry), carry)
    if inputs.reset is not None:
        carry = where(inputs.reset, initial, carry)
    return carry


def hold(real: Array | None, new: PyTree, held: PyTree) -> PyTree:
    """Keeps the carry in the padding."""
    return new if real is None else where(real, new, held)


def real_or_zero(real: Array | None, tree: PyTree) -> PyTree:
    """Zeroes the padding.

    On the inputs it is the first of two wheres: padding never enters a step, so that
    no NaN of its derivative can meet the zero cotangent of the second one.
    """
    if real is None:
        return tree
    return where(real, tree, jax.tree.map(jnp.zeros_like, tree))


def where(condition: Array, yes: PyTree, no: PyTree) -> PyTree:
    """`jnp.where` of two pytrees; `condition` has leading axes of the leaves."""

    def choose(a: Array, b: Array) -> Array:
        ndim = max(jnp.ndim(a), jnp.ndim(b))
        shape = condition.shape + (1,) * (ndim - condition.ndim)
        return jnp.where(condition.reshape(shape), a, b)

    return jax.tree.map(choose, yes, no)


def swap_time(tree: PyTree, batched: bool) -> PyTree:
    """`[batch, time, ...]` to `[time, batch, ...]` and back; as it is without batch."""
    return jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), tree) if batched else tree


def checkpoint_chunk(num_steps: int, levels: int) -> int:
    """Steps between two checkpoints: time^(levels/(levels+1))."""
    return even_chunk(num_steps, round(num_steps ** (levels / (levels + 1))))


def _scan(
    body: Callable[[PyTree, StepInputs], tuple[PyTree, PyTree]],
    carry: PyTree,
    inputs: StepInputs,
    reverse: bool,
    levels: int,
) -> tuple[PyTree, PyTree]:
    num_steps = jax.tree.leaves(inputs)[0].shape[0]
    chunk = checkpoint_chunk(num_steps, levels) if levels else num_steps
    if levels == 0 or chunk in (1, num_steps):
        return jax.lax.scan(body, carry, inputs, reverse=reverse)

    def run_chunk(carry: PyTree, first: Array, size: int) -> tuple[PyTree, PyTree]:
        @functools.partial(jax.checkpoint, prevent_cse=False)
        def again(carry: PyTree, inputs: StepInputs) -> tuple[PyTree, PyTree]:
            return _scan(body, carry, inputs, reverse, levels - 1)

        return again(carry, take_steps(inputs, first, size))

    return scan_chunks(run_chunk, carry, num_steps, chunk, reverse=reverse)
