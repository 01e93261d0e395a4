"""One sequence run forward with few carries kept, and backward with all of them."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, PyTree
from seqjax.cell import Cell, NoStepError
from seqjax.chunks import even_chunk, scan_chunks, take_steps
from seqjax.gradients.scaled import Scaled, with_source
from seqjax.unroll import leading_shape, unroll


def has_step(cell: Cell, params: PyTree, xs: PyTree) -> bool:
    """Says whether a cell can be run by single steps.

    Args:
        cell: The cell.
        params: Its parameters.
        xs: Inputs of one sequence.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.gru(1, 2)
        >>> has_step(cell, cell.init(jax.random.key(0)), jnp.ones((3, 1)))
        True
    """
    x = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), xs)
    try:
        jax.eval_shape(cell.step, params, jax.eval_shape(cell.initial_carry, params), x)
    except NoStepError:
        return False
    return True


def check_one_sequence(cell: Cell, xs: PyTree) -> int:
    """Returns the number of steps of one sequence.

    Args:
        cell: The cell.
        xs: Its inputs.

    Raises:
        ValueError: If there is a batch axis, or no step.

    Example:
        >>> import jax.numpy as jnp
        >>> from seqjax import cells
        >>> check_one_sequence(cells.gru(1, 2), jnp.ones((3, 1)))
        3
    """
    batch_shape, num_steps = leading_shape(cell, xs)
    if batch_shape:
        raise ValueError(
            f"xs: expected one sequence, got batch axes {list(batch_shape)}; batch "
            "with jax.vmap over xs"
        )
    if num_steps == 0:
        raise ValueError("xs: expected at least one step, got none")
    return num_steps


def scan_adjoint(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    starts: PyTree,
    backward: Callable[[PyTree, PyTree, PyTree, Array], tuple[PyTree, PyTree]],
    state: PyTree,
) -> tuple[PyTree, PyTree]:
    """Scans a function backwards over the steps, with the carry that enters each.

    Args:
        cell: A cell with a step.
        params: Its parameters.
        xs: Inputs, `[time, input]`.
        starts: From `run_forward`.
        backward: `(state, carry, x, t) -> (state, emitted)`.
        state: What enters the last step.

    Returns:
        The state after step 0, and what was emitted, leaves `[time, ...]`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.gru(1, 2)
        >>> params, xs = cell.init(jax.random.key(0)), jnp.ones((3, 1))
        >>> starts, _ = run_forward(cell, params, xs, cell.initial_carry(params), None)
        >>> scan_adjoint(
        ...     cell, params, xs, starts, lambda s, carry, x, t: (s + t, t), 0
        ... )
        (Array(3, dtype=int32), Array([0, 1, 2], dtype=int32))
    """
    num_steps = check_one_sequence(cell, xs)
    chunk = _chunk(num_steps)

    def fn(state: PyTree, first: Array, size: int) -> tuple[PyTree, PyTree]:
        start = jax.tree.map(lambda a: a[first // chunk], starts)
        inputs = take_steps(xs, first, size)
        carries, _ = unroll(cell, params, inputs, start, return_carries=True)
        entering = jax.tree.map(
            lambda a, rest: jnp.concatenate([a[None], rest[:-1]]), start, carries
        )
        steps = first + jnp.arange(size, dtype=first.dtype)
        return jax.lax.scan(
            lambda state, step: backward(state, *step),
            state,
            (entering, inputs, steps),
            reverse=True,
        )

    return scan_chunks(fn, state, num_steps, chunk, reverse=True)


def run_forward(
    cell: Cell, params: PyTree, xs: PyTree, carry: PyTree, num_outputs: int | None
) -> tuple[PyTree, PyTree]:
    """Runs a cell and keeps the carry at the start of every chunk of about √time.

    Args:
        cell: A cell with a step.
        params: Its parameters.
        xs: Inputs, `[time, input]`.
        carry: Carry that enters the first step.
        num_outputs: How many of the last outputs of each chunk are kept; None keeps
            all, 1 the least.

    Returns:
        Carries `[chunks, ...]`, and the kept outputs in the order of time.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.gru(1, 2)
        >>> params = cell.init(jax.random.key(0))
        >>> starts, ys = run_forward(
        ...     cell, params, jnp.ones((9, 1)), cell.initial_carry(params), 1
        ... )
        >>> starts.hidden.shape, ys.shape
        ((3, 2), (3, 2))
    """
    num_steps = check_one_sequence(cell, xs)

    def fn(carry: PyTree, first: Array, size: int) -> tuple[PyTree, PyTree]:
        start = jax.tree.map(lambda a: a[None], carry)
        carry, ys = unroll(cell, params, take_steps(xs, first, size), carry)
        kept = slice(None) if num_outputs is None else slice(-num_outputs, None)
        return carry, (start, jax.tree.map(lambda y: y[kept], ys))

    _, kept = scan_chunks(fn, carry, num_steps, _chunk(num_steps), reverse=False)
    return kept


def pull_back(
    step: Callable[[PyTree], tuple[PyTree, PyTree]],
    carry: PyTree,
    later: Scaled,
    output_gradient: PyTree,
) -> Scaled:
    """Takes a cotangent through one step:  (∂f/∂carry)ᵀ (later, output_gradient).

    Args:
        step: `carry -> (carry, y)`.
        carry: What enters it.
        later: Cotangent of the carry that leaves it.
        output_gradient: Cotangent of y, at scale 1.

    Returns:
        Cotangent of `carry`; its direction has any length.

    Example:
        >>> later = Scaled(jnp.ones(1), jnp.asarray(-200.0), jnp.zeros(()))
        >>> step = lambda carry: (carry / 2, jnp.zeros(1))
        >>> earlier = pull_back(step, jnp.ones(1), later, jnp.zeros(1))
        >>> print(earlier.direction, earlier.high)
        [0.5] -200.0
    """
    later, output_gradient = with_source(later, output_gradient)
    _, vjp = jax.vjp(step, carry)
    (pulled,) = vjp((later.direction, output_gradient))
    return later._replace(direction=pulled)


def _chunk(num_steps: int) -> int:
    return even_chunk(num_steps, math.isqrt(num_steps - 1) + 1)
