"""What every model does: embed tokens, run the cell, read the outputs."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
from flax import linen as nn

from seqjax.array_types import Array, DType, Key, PyTree
from seqjax.cell import Cell
from seqjax.unroll import unroll


@runtime_checkable
class Recurrent(Protocol):
    """What the functions here read of the Linen module under way.

    Attributes:
        cell: The recurrent cell.
        dropout_rate: Rate of the dropout before the readout.
        layer_norm: Whether the readout sees normalised outputs.
        window: Truncation of back-propagation, as in `unroll`.
        method: As in `unroll`.
        product_dtype: As in `unroll`.
        param: `flax.linen.Module.param`.
        make_rng: `flax.linen.Module.make_rng`.
    """

    cell: Cell
    dropout_rate: float
    layer_norm: bool
    window: int | None
    method: str
    product_dtype: DType | None
    param: Callable[..., PyTree]
    make_rng: Callable[..., Key]


def run_cell(
    model: Recurrent,
    xs: PyTree,
    *,
    lengths: Array | None,
    carry: PyTree | None,
    probes: PyTree | None,
    deterministic: bool,
    resets: Array | None = None,
) -> tuple[PyTree, PyTree]:
    """Unrolls the cell of a model, whose parameters are the subtree "cell".

    Args:
        model: The Linen module under way.
        xs: Inputs, leaves `[*batch, time, input]`.
        lengths: As in `unroll`.
        carry: As in `unroll`.
        probes: As in `unroll`.
        deterministic: Turns off the noise of the cell; else one key of the "dropout"
            collection feeds it.
        resets: As in `unroll`.

    Returns:
        The final carry and the outputs, as `unroll` returns them.
    """
    return unroll(
        model.cell,
        model.param("cell", model.cell.init),
        xs,
        carry,
        lengths=lengths,
        resets=resets,
        key=None if deterministic else model.make_rng("dropout"),
        window=model.window,
        method=model.method,
        probes=probes,
        product_dtype=model.product_dtype,
    )


def cell_dtype(cell: Cell) -> DType:
    """Returns the dtype of a cell's carry."""
    carry = jax.eval_shape(
        lambda key: cell.initial_carry(cell.init(key)), jax.random.key(0)
    )
    return jax.tree.leaves(carry)[0].dtype


def make_embedding(cell: Cell, vocab_size: int, embedding_size: int) -> nn.Embed:
    """Makes the table that turns tokens `[*axes]` into a cell's inputs.

    Args:
        cell: The cell it feeds; gives the dtype.
        vocab_size: Number of tokens.
        embedding_size: Width of a row, the input size of the cell.

    Returns:
        A Linen module named "embedding".
    """
    dtype = cell_dtype(cell)
    return nn.Embed(
        vocab_size, embedding_size, dtype=dtype, param_dtype=dtype, name="embedding"
    )


def embed_optional(
    cell: Cell, xs: PyTree, vocab_size: int | None, embedding_size: int | None
) -> PyTree:
    """Embeds tokens where a vocabulary is given; else passes the inputs through.

    Args:
        cell: The cell that reads the result.
        xs: Tokens `[*batch, time]` or inputs, leaves `[*batch, time, input]`.
        vocab_size: Number of tokens, or None.
        embedding_size: Width of the embedding, or None.

    Returns:
        Inputs of the cell, leaves `[*batch, time, input]`.

    Raises:
        ValueError: If only one of the sizes is given.
    """
    if vocab_size is not None and embedding_size is not None:
        return make_embedding(cell, vocab_size, embedding_size)(xs)
    if vocab_size is None and embedding_size is None:
        return xs
    raise ValueError(
        "expected vocab_size and embedding_size both or neither, got "
        f"vocab_size={vocab_size} and embedding_size={embedding_size}"
    )


def prepare_readout(model: Recurrent, ys: Array, *, deterministic: bool) -> Array:
    """Normalises and drops outputs before a readout, as far as the model asks.

    Args:
        model: The Linen module under way.
        ys: `[*axes, output]`.
        deterministic: Turns off dropout.

    Returns:
        Same shape.
    """
    if model.layer_norm:
        ys = nn.LayerNorm(dtype=ys.dtype, param_dtype=ys.dtype, name="layer_norm")(ys)
    return nn.Dropout(model.dropout_rate, deterministic=deterministic)(ys)


def dense_like(ys: Array, size: int, name: str) -> Array:
    """Applies a dense layer in the dtype of its input.

    Args:
        ys: `[*axes, output]`.
        size: Number of features.
        name: Name of the layer.

    Returns:
        `[*axes, size]`.
    """
    return nn.Dense(size, dtype=ys.dtype, param_dtype=ys.dtype, name=name)(ys)
