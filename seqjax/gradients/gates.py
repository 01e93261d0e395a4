"""What gates let through: the path of an LSTM's cell, and the timescales of gates."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, PyTree
from seqjax.cell import Affine, AffineParams, Cell, input_map, product
from seqjax.cells.gru import GRUCarry
from seqjax.cells.lstm import LSTMCarry
from seqjax.gradients.backward import (
    check_one_sequence,
    pull_back,
    run_forward,
    scan_adjoint,
)
from seqjax.gradients.scaled import (
    Scaled,
    normalise,
    nothing,
    times_exp,
    with_source,
)
from seqjax.tree import log_norm


class PathSplit(NamedTuple):
    """Gradients of an LSTM's cell by the path that they took, each `[time+1]`.

    ∂L/∂cₜ is the sum of what came through c alone and of what passed through some h
    between two steps.

    Attributes:
        log_cell: ln of the norm of what came through c alone.
        log_hidden: ln of the norm of what passed through h.
        log_total: ln ‖∂L/∂cₜ‖.
        cell_share: Projection of the first on the total, as a share of it.
        hidden_share: Likewise of the second; the two sum to 1, and may leave [0, 1]
            where the paths point against each other. Both 0 for an exact zero.
    """

    log_cell: Array
    log_hidden: Array
    log_total: Array
    cell_share: Array
    hidden_share: Array


class GateTimescales(NamedTuple):
    """How long gates keep each unit.

    Attributes:
        timescale: −1 / mean ln f, steps in which the memory falls to 1/e, `[hidden]`;
            inf where the mean is not negative.
        mean_log_factor: Mean of ln f over time, `[hidden]`.
        quantiles: Of ln f over time, `[quantiles, hidden]`.
    """

    timescale: Array
    mean_log_factor: Array
    quantiles: Array


def path_split(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    loss_fn: Callable[[PyTree], Array],
    carry: PyTree | None = None,
) -> PathSplit:
    """Splits the gradient of an LSTM's cell into its two ways back.

    Through c alone, with no gradient into any h that enters a step (`h_detach` at every
    step):  aₜ = (∂cₜ₊₁/∂cₜ)ᵀ aₜ₊₁ + (∂yₜ/∂cₜ)ᵀ ∂L/∂yₜ.  The rest passed through an h
    that entered a later step; it is followed by itself, not as a difference. Each has a
    logarithmic scale of its own, so that neither is lost beside the other.

    Args:
        cell: Cell whose carry is an `LSTMCarry`.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`; batch with `jax.vmap`.
        loss_fn: Maps the outputs, `[time, output]`, to a scalar.
        carry: Carry that enters the first step; `cell.initial_carry(params)` if None.

    Returns:
        Curves for the carry that enters each step; float32 (float64 for float64
        carries), -inf for exact zeros.

    Raises:
        ValueError: If `xs` is not one sequence, or the carry is of another kind.

    References:
        Kanuparthi et al. (2019), h-detach: modifying the LSTM gradient towards better
        optimization.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.lstm(1, 2, forget_bias=1.0)
        >>> params = jax.tree.map(
        ...     jnp.zeros_like, cell.init(jax.random.key(0))
        ... )._replace(bias=jnp.repeat(jnp.asarray([0.0, 1.0, 0.0, 0.0]), 2))
        >>> split = path_split(
        ...     cell, params, jnp.zeros((3, 1)), lambda ys: jnp.sum(ys[-1])
        ... )
        >>> decay = jnp.exp(split.log_cell[0] - split.log_cell[1])
        >>> print(f"{decay:.4f} {split.cell_share[0]:.4f}")  # 1 / (1 + 1/e)
        0.7311 1.0000
    """
    check_one_sequence(cell, xs)
    carry = cell.initial_carry(params) if carry is None else carry
    if not isinstance(carry, LSTMCarry):
        raise ValueError(
            f"path_split: expected a cell whose carry is an LSTMCarry, got {cell}; "
            "for a stack, give one layer with the outputs of the layer below"
        )
    starts, ys = run_forward(cell, params, xs, carry, None)
    output_gradients = jax.grad(loss_fn)(ys)
    no_output = jax.tree.map(lambda y: jnp.zeros_like(y[0]), ys)

    def backward(later: tuple[Scaled, Scaled], carry: LSTMCarry, x: PyTree, t: Array):
        alone, rest = later
        output_gradient = jax.tree.map(lambda g: g[t], output_gradients)

        def step(carry: PyTree) -> tuple[PyTree, PyTree]:
            return cell.step(params, carry, x)

        pulled = pull_back(step, carry, alone, output_gradient)
        rest = pull_back(step, carry, rest, no_output)
        # What reaches h here goes on, at the next step back, as a passage through it.
        crossing = jax.tree.map(jnp.zeros_like, pulled.direction)._replace(
            hidden=pulled.direction.hidden
        )
        rest, crossing = with_source(rest, crossing, pulled.logarithm)
        rest = rest._replace(direction=jax.tree.map(jnp.add, rest.direction, crossing))
        alone = pulled._replace(
            direction=pulled.direction._replace(
                hidden=jnp.zeros_like(pulled.direction.hidden)
            )
        )
        alone, rest = normalise(alone)[0], normalise(rest)[0]
        return (alone, rest), _split(alone, rest)

    end = nothing(carry), nothing(carry)
    _, rows = scan_adjoint(cell, params, xs, starts, backward, end)
    return jax.tree.map(lambda a, b: jnp.append(a, b), rows, _split(*end))


def _split(alone: Scaled, rest: Scaled) -> PathSplit:
    """Compares the cell parts of two cotangents at the larger of their scales."""
    scale, rest_scale = alone.logarithm, rest.logarithm
    common = jnp.maximum(scale, rest_scale)
    through_cell = times_exp(alone.direction.cell, scale, common)
    through_hidden = times_exp(rest.direction.cell, rest_scale, common)
    total = through_cell + through_hidden
    log_length = log_norm(total).astype(common.dtype)
    # Divided twice by the length and not by its square, which may underflow.
    shrink = jnp.exp(-jnp.where(log_length == -jnp.inf, 0, log_length))
    unit = total * shrink.astype(total.dtype)
    return PathSplit(
        log_cell=scale + log_norm(alone.direction.cell).astype(common.dtype),
        log_hidden=rest_scale + log_norm(rest.direction.cell).astype(common.dtype),
        log_total=common + log_length,
        cell_share=jnp.vdot(through_cell, unit) * shrink,
        hidden_share=jnp.vdot(through_hidden, unit) * shrink,
    )


def gate_timescales(
    cell: Cell,
    params: PyTree,
    xs: Array,
    carry: PyTree | None = None,
    *,
    quantiles: Sequence[float] = (0.1, 0.5, 0.9),
) -> GateTimescales:
    """Measures how long the gates of an LSTM or a GRU keep each unit.

    f is the factor with which a step keeps its memory: the forget gate of an LSTM, the
    update gate z of a GRU. It is ∂c′/∂c (∂h′/∂h) with the products x W and h R held,
    one derivative in the direction of ones, since the path is element-wise. With
    peepholes c moves its gates too, and f is |∂c′/∂c| with that; without a forget gate
    it is 1. The recurrent paths through R, and the reset gate, are left out: this is
    the memory that the gates alone would have.

    Args:
        cell: `lstm` or `gru` in any variant, without combinators.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`; batch with `jax.vmap`.
        carry: Carry that enters the first step; `cell.initial_carry(params)` if None.
        quantiles: Probabilities, of steps; an entry of the data (the nearest), with no
            interpolation.

    Returns:
        Timescales in steps, logarithms in nats per step.

    Raises:
        ValueError: If `xs` is not one sequence, or the cell has no such gate.

    References:
        Tallec, Ollivier (2018), Can recurrent neural networks warp time?

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.gru(1, 2)
        >>> params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0)))
        >>> gates = gate_timescales(cell, params, jnp.zeros((4, 1)))
        >>> print(gates.timescale)  # z = 1/2: 1 / ln 2
        [1.442695 1.442695]
    """
    check_one_sequence(cell, xs)
    start = cell.initial_carry(params) if carry is None else carry
    if cell.affine is None or not isinstance(start, LSTMCarry | GRUCarry):
        raise ValueError(
            f"gate_timescales: expected an lstm or a gru without combinators, got "
            f"{cell}; it has no gate that keeps its memory"
        )
    affine, parts = cell.affine, cell.affine.split(params)

    def advance(carry: PyTree, x: Array) -> tuple[PyTree, Array]:
        return cell.step(params, carry, x)[0], _kept(affine, parts, carry, x)

    _, factors = jax.lax.scan(advance, start, xs)
    logs = jnp.log(jnp.abs(factors))
    mean = jnp.mean(logs, axis=0)
    return GateTimescales(
        timescale=jnp.where(mean < 0, -1 / jnp.where(mean < 0, mean, 1), jnp.inf),
        mean_log_factor=mean,
        quantiles=jnp.quantile(
            logs, jnp.asarray(quantiles, logs.dtype), axis=0, method="nearest"
        ),
    )


def _kept(affine: Affine, parts: AffineParams, carry: PyTree, x: Array) -> Array:
    """The derivative of each unit of the memory by itself with both products held."""
    u = input_map(parts, x, None)
    v = product(affine.hidden(carry), parts.recurrent_kernel, None)
    rest = parts.rest
    if isinstance(carry, GRUCarry):
        # What is left to a GRU's rest makes the candidate, which may read h once more.
        rest = jax.tree.map(jnp.zeros_like, rest)
    name = carry._fields[-1]

    def keep(memory: Array) -> Array:
        new, _ = affine.rest(rest, u, v, carry._replace(**{name: memory}))
        return getattr(new, name)

    memory = getattr(carry, name)
    return jax.jvp(keep, (memory,), (jnp.ones_like(memory),))[1]
