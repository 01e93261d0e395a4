"""One class, or one forecast, per sequence."""

import math

import jax.numpy as jnp
from flax import linen as nn

from seqjax.array_types import Array, DType, PyTree
from seqjax.cell import Cell
from seqjax.checks import check_choice
from seqjax.losses import length_mask
from seqjax.models.common import (
    dense_like,
    embed_optional,
    prepare_readout,
    run_cell,
)
from seqjax.models.packing import Packing, unpack
from seqjax.unroll import last_output

POOLINGS = ("last", "mean", "max")
"""Ways to make one vector of a sequence of outputs."""


class SequenceClassifier(nn.Module):
    """Gives one class to a whole sequence.

    logits = W pool(y₀ … y₍length₋₁₎) + b

    Attributes:
        cell: The recurrent cell; its parameters are the subtree "cell".
        num_classes: Number of logits.
        pooling: "last" (the output that has seen the whole sequence), "mean" or "max"
            over the real steps; a sequence of length 0 pools to zeros.
        vocab_size: Reads tokens through an embedding; None reads features.
        embedding_size: Width of the embedding, the input size of the cell.
        dropout_rate: Rate of the dropout on the pooled outputs.
        layer_norm: Whether to normalise the pooled outputs first.
        window: Truncation of back-propagation, as in `unroll`.
        method: As in `unroll`.
        product_dtype: As in `unroll`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> model = SequenceClassifier(cells.gru(3, 8), num_classes=4, pooling="mean")
        >>> xs = jnp.ones((2, 5, 3))
        >>> variables = model.init(jax.random.key(0), xs)
        >>> carry, logits = model.apply(variables, xs, jnp.array([5, 2]))
        >>> sorted(variables["params"]), logits.shape
        (['cell', 'readout'], (2, 4))
    """

    cell: Cell
    num_classes: int
    pooling: str = "last"
    vocab_size: int | None = None
    embedding_size: int | None = None
    dropout_rate: float = 0.0
    layer_norm: bool = False
    window: int | None = None
    method: str = "auto"
    product_dtype: DType | None = None

    @nn.compact
    def __call__(
        self,
        xs: PyTree,
        lengths: Array | None = None,
        *,
        carry: PyTree | None = None,
        probes: PyTree | None = None,
        deterministic: bool = True,
        packing: Packing | None = None,
    ) -> tuple[PyTree, Array]:
        """Classifies sequences.

        Args:
            xs: Inputs, leaves `[*batch, time, input]`, or tokens `[*batch, time]`.
            lengths: Real steps, `[*batch]`; all if None.
            carry: Carry that enters the first step.
            probes: From `make_probes`.
            deterministic: Turns off all dropout; else pass an rng "dropout".
            packing: Where the sequences stand, if several share a row: `xs` are then
                rows, `[rows, time]` or `[rows, time, input]`, and `lengths`, which are
                needed, those of the sequences. The logits are those of the sequences
                alone.

        Returns:
            The final carry, and logits `[*batch, classes]`; of rows the carry at the
            end of each, and logits `[sequences, classes]`.

        Raises:
            ValueError: If sequences share rows and their lengths are not given.
        """
        check_choice("pooling", self.pooling, POOLINGS)
        xs = embed_optional(self.cell, xs, self.vocab_size, self.embedding_size)
        carry, ys = run_cell(
            self,
            xs,
            lengths=lengths if packing is None else None,
            carry=carry,
            probes=probes,
            deterministic=deterministic,
            resets=None if packing is None else packing.resets,
        )
        if packing is not None:
            if lengths is None:
                raise ValueError("lengths: expected those of the packed sequences")
            ys = unpack(ys, packing, lengths, ys.shape[1])
        pooled = _pool(self.pooling, self.cell, ys, lengths)
        pooled = prepare_readout(self, pooled, deterministic=deterministic)
        return carry, dense_like(pooled, self.num_classes, name="readout")


class Forecaster(nn.Module):
    """Forecasts real values after a whole sequence.

    forecast = W y_last + b

    Quantiles never cross: with r = W y_last + b the middle one is its own r, and each
    one further out lies softplus(r) beyond its neighbour.

    Attributes:
        cell: The recurrent cell; its parameters are the subtree "cell".
        output_size: Values of one forecast step.
        horizon: Number of steps forecast at once.
        num_quantiles: Quantiles of each value, in rising order; None for one forecast.
        vocab_size: Reads tokens through an embedding; None reads features.
        embedding_size: Width of the embedding, the input size of the cell.
        dropout_rate: Rate of the dropout on the last output.
        layer_norm: Whether to normalise the last output first.
        window: Truncation of back-propagation, as in `unroll`.
        method: As in `unroll`.
        product_dtype: As in `unroll`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> model = Forecaster(cells.gru(3, 8), output_size=2, horizon=6)
        >>> xs = jnp.ones((4, 5, 3))
        >>> variables = model.init(jax.random.key(0), xs)
        >>> carry, forecast = model.apply(variables, xs)
        >>> forecast.shape
        (4, 6, 2)
    """

    cell: Cell
    output_size: int
    horizon: int = 1
    num_quantiles: int | None = None
    vocab_size: int | None = None
    embedding_size: int | None = None
    dropout_rate: float = 0.0
    layer_norm: bool = False
    window: int | None = None
    method: str = "auto"
    product_dtype: DType | None = None

    @nn.compact
    def __call__(
        self,
        xs: PyTree,
        lengths: Array | None = None,
        *,
        carry: PyTree | None = None,
        probes: PyTree | None = None,
        deterministic: bool = True,
    ) -> tuple[PyTree, Array]:
        """Forecasts from sequences.

        Args:
            xs: Inputs, leaves `[*batch, time, input]`, or tokens `[*batch, time]`.
            lengths: Real steps, `[*batch]`; all if None.
            carry: Carry that enters the first step.
            probes: From `make_probes`.
            deterministic: Turns off all dropout; else pass an rng "dropout".

        Returns:
            The final carry, and forecasts `[*batch, horizon, output]`; for horizon 1,
            `[*batch, output]`. Quantiles are one more axis at the end.
        """
        xs = embed_optional(self.cell, xs, self.vocab_size, self.embedding_size)
        carry, ys = run_cell(
            self,
            xs,
            lengths=lengths,
            carry=carry,
            probes=probes,
            deterministic=deterministic,
        )
        last = last_output(self.cell, ys, lengths)
        last = prepare_readout(self, last, deterministic=deterministic)
        shape = () if self.horizon == 1 else (self.horizon,)
        shape += (self.output_size,)
        shape += () if self.num_quantiles is None else (self.num_quantiles,)
        flat = dense_like(last, math.prod(shape), name="readout")
        forecast = flat.reshape(*flat.shape[:-1], *shape)
        return carry, forecast if self.num_quantiles is None else _rising(forecast)


def _rising(outputs: Array) -> Array:
    """Turns numbers `[*axes, quantile]` into quantiles that do not cross."""
    middle = outputs.shape[-1] // 2
    below, median, above = jnp.split(outputs, [middle, middle + 1], axis=-1)
    down = jnp.cumsum(nn.softplus(below)[..., ::-1], axis=-1)[..., ::-1]
    up = jnp.cumsum(nn.softplus(above), axis=-1)
    return jnp.concatenate([median - down, median, median + up], axis=-1)


def _pool(pooling: str, cell: Cell, ys: Array, lengths: Array | None) -> Array:
    """`[*batch, time, output]` to `[*batch, output]` over the real steps."""
    if pooling == "last":
        return last_output(cell, ys, lengths)
    if lengths is None:
        return jnp.mean(ys, axis=-2) if pooling == "mean" else jnp.max(ys, axis=-2)
    if pooling == "mean":
        # Outputs of padding are zero already.
        count = jnp.maximum(lengths, 1).astype(ys.dtype)
        return jnp.sum(ys, axis=-2) / count[..., None]
    real = length_mask(lengths, ys.shape[-2])[..., None] > 0
    largest = jnp.max(jnp.where(real, ys, -jnp.inf), axis=-2)
    return jnp.where((lengths > 0)[..., None], largest, 0)
