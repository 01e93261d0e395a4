"""Randomness inside the recurrence, drawn before the scan."""

import dataclasses

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, Key, PyTree
from seqjax.cell import Cell, Noise
from seqjax.checks import check_rate
from seqjax.combinators.common import dropout_mask
from seqjax.made import factory


@factory
def variational_dropout(
    cell: Cell, *, input: float = 0.0, recurrent: float = 0.0, output: float = 0.0
) -> Cell:
    """Drops the same inputs, recurrent units and outputs at every step of a sequence.

    u = (x ∘ mₓ) W + b,  v = (h ∘ mₕ) R,  y = y ∘ m_y, with masks drawn once per
    sequence and scaled by 1/(1 − rate). Paths that skip the recurrent product (an
    LSTM's cell, a GRU's z ∘ h) keep every unit.

    Args:
        cell: Plain cell with declared affine structure.
        input: Rate for x.
        recurrent: Rate for h inside the recurrent product.
        output: Rate for y.

    Returns:
        A cell that is `cell` unless `unroll` is given a key.

    Raises:
        ValueError: On a rate outside [0, 1), or a cell without affine structure.

    References:
        Gal, Ghahramani (2016), A theoretically grounded application of dropout in
        recurrent neural networks.

    Example:
        >>> from seqjax import cells
        >>> variational_dropout(cells.lstm(3, 8), input=0.1, recurrent=0.2)
        variational_dropout(lstm(input_size=3, hidden_size=8), input=0.1, recurrent=0.2)
    """
    check_rate(input=input, recurrent=recurrent, output=output)
    affine = cell.affine
    if affine is None or cell.noise is not None:
        raise ValueError(
            f"variational_dropout: expected a plain cell with affine structure, got "
            f"{cell}; apply it to the layers, inside every other combinator"
        )

    def sample(key: Key, params: PyTree, x: PyTree, num_steps: int):
        input_key, recurrent_key, output_key = jax.random.split(key, 3)
        carry = jax.eval_shape(cell.initial_carry, params)
        h = jax.eval_shape(affine.hidden, carry)
        _, y = jax.eval_shape(cell.step, params, carry, x)
        masks = (
            dropout_mask(input_key, x.shape, x.dtype, input),
            dropout_mask(recurrent_key, h.shape, h.dtype, recurrent),
            dropout_mask(output_key, y.shape, y.dtype, output),
        )
        return masks, ()

    def step(params: PyTree, carry: PyTree, x: Array, noise: PyTree):
        (x_mask, h_mask, y_mask), _ = noise
        masked = dataclasses.replace(
            affine, hidden=lambda carry: affine.hidden(carry) * h_mask
        )
        carry, y = masked.step(params, carry, x * x_mask)
        return carry, y * y_mask

    return dataclasses.replace(
        cell,
        noise=Noise(sample, step),
        output=cell.output if output == 0 else None,
    )


@factory
def zoneout(cell: Cell, rates: PyTree) -> Cell:
    """Keeps each unit of the carry at its old value with some probability.

    While training  carry′ = m ∘ carry + (1 − m) ∘ step(carry), m ~ Bernoulli(rate) anew
    at each step; at test time m is its mean, the rate. The output follows the carry.

    Args:
        cell: Plain cell whose y is a part of its carry.
        rates: One rate, or a tuple like the carry with one per part:
            `zoneout(lstm(3, 8), LSTMCarry(hidden=0.05, cell=0.5))`.

    Returns:
        A cell with the params and carry of `cell`.

    Raises:
        ValueError: On a rate outside [0, 1), or a cell whose y is not read from its
            carry (stacks: zone out the layers instead).

    References:
        Krueger et al. (2017), Zoneout: regularizing RNNs by randomly preserving
        hidden activations.

    Example:
        >>> from seqjax import cells
        >>> zoneout(cells.gru(3, 8), 0.1)
        zoneout(gru(input_size=3, hidden_size=8), rates=0.1)
    """
    for rate in jax.tree.leaves(rates):
        check_rate(rates=rate)
    read, inner = cell.output, cell.noise
    if cell.sequence is not None or read is None:
        raise ValueError(
            f"zoneout: expected a plain cell that declares its output as a part of "
            f"its carry, got {cell}; zone out the layers, inside other combinators"
        )

    def blend(keep: PyTree, old: PyTree, new: PyTree) -> tuple[PyTree, PyTree]:
        carry = jax.tree.map(lambda m, a, b: m * a + (1 - m) * b, keep, old, new)
        return carry, read(carry)

    def spread(carry: PyTree) -> PyTree:
        return jax.tree.map(
            lambda rate, part: jax.tree.map(lambda leaf: rate, part), rates, carry
        )

    def step(params: PyTree, carry: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        new, _ = cell.step(params, carry, x)
        return blend(spread(carry), carry, new)

    def sample(key: Key, params: PyTree, x: PyTree, num_steps: int):
        inner_key, keep_key = jax.random.split(key)
        carry = jax.eval_shape(cell.initial_carry, params)
        leaves, structure = jax.tree.flatten(carry)
        keys = structure.unflatten(jax.random.split(keep_key, len(leaves)))
        keep = jax.tree.map(
            lambda leaf, k, rate: jax.random.bernoulli(
                k, rate, (num_steps, *leaf.shape)
            ).astype(leaf.dtype),
            carry,
            keys,
            spread(carry),
        )
        if inner is None:
            return ((), (keep, ()))
        shared, per_step = inner.sample(inner_key, params, x, num_steps)
        return shared, (keep, per_step)

    def noisy_step(params: PyTree, carry: PyTree, x: PyTree, noise: PyTree):
        shared, (keep, per_step) = noise
        if inner is None:
            new, _ = cell.step(params, carry, x)
        else:
            new, _ = inner.step(params, carry, x, (shared, per_step))
        return blend(keep, carry, new)

    return dataclasses.replace(
        cell, step=step, affine=None, noise=Noise(sample, noisy_step)
    )


@factory
def h_detach(cell: Cell, rate: float) -> Cell:
    """Stops the gradient through the hidden path of an LSTM at random steps.

    While training, with probability `rate` at each step and for all units together,
    hₜ enters the step as a constant; the gradient through cₜ and that of the output
    stay. Values do not change: the cell is `cell`, with another gradient. On average
    every passage through h counts 1 − rate times, and every one through c once:
    E[∂carryₜ₊₁/∂carryₜ] = ∂carryₜ₊₁/∂cₜ + (1 − rate) ∂carryₜ₊₁/∂hₜ.

    Args:
        cell: Cell whose carry has the parts `hidden` and `cell`.
        rate: Probability of a stop, per step and sequence; 0.25 to 0.5 in the paper's
            code.

    Returns:
        A cell with the params and carry of `cell`; it is `cell` unless `unroll` is
        given a key.

    Raises:
        ValueError: On a rate outside [0, 1), or a carry without those two parts
            (stacks: detach the layers instead).

    References:
        Kanuparthi et al. (2019), h-detach: modifying the LSTM gradient towards better
        optimization.

    Example:
        >>> from seqjax import cells
        >>> h_detach(cells.lstm(3, 8), 0.25)
        h_detach(lstm(input_size=3, hidden_size=8), rate=0.25)
    """
    check_rate(rate=rate)
    carry = jax.eval_shape(lambda: cell.initial_carry(cell.init(jax.random.key(0))))
    if getattr(carry, "_fields", None) != ("hidden", "cell"):
        raise ValueError(
            f"h_detach: expected a carry of the parts hidden and cell, got {cell}; "
            "detach the LSTM layers, inside other combinators"
        )
    inner = cell.noise

    def sample(key: Key, params: PyTree, x: PyTree, num_steps: int):
        inner_key, stop_key = jax.random.split(key)
        stops = jax.random.bernoulli(stop_key, rate, (num_steps,))
        if inner is None:
            return (), (stops, ())
        shared, per_step = inner.sample(inner_key, params, x, num_steps)
        return shared, (stops, per_step)

    def step(params: PyTree, carry: PyTree, x: PyTree, noise: PyTree):
        shared, (stop, per_step) = noise
        constant = jax.lax.stop_gradient(carry.hidden)
        carry = carry._replace(hidden=jnp.where(stop, constant, carry.hidden))
        if inner is None:
            return cell.step(params, carry, x)
        return inner.step(params, carry, x, (shared, per_step))

    return dataclasses.replace(cell, noise=Noise(sample, step))
