"""One answer per step: labels, and the next token."""

from flax import linen as nn

from seqjax.array_types import Array, DType, PyTree
from seqjax.cell import Cell
from seqjax.models.common import (
    dense_like,
    embed_optional,
    make_embedding,
    prepare_readout,
    run_cell,
)


class SequenceLabeller(nn.Module):
    """Gives a class to every step.

    logitsₜ = W yₜ + b

    Attributes:
        cell: The recurrent cell; its parameters are the subtree "cell".
        num_classes: Number of logits per step.
        vocab_size: Reads tokens through an embedding; None reads features.
        embedding_size: Width of the embedding, the input size of the cell.
        dropout_rate: Rate of the dropout on the outputs.
        layer_norm: Whether to normalise the outputs first.
        window: Truncation of back-propagation, as in `unroll`.
        method: As in `unroll`.
        product_dtype: As in `unroll`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> model = SequenceLabeller(cells.gru(3, 8), num_classes=9)
        >>> xs = jnp.ones((2, 5, 3))
        >>> carry, logits = model.apply(model.init(jax.random.key(0), xs), xs)
        >>> logits.shape
        (2, 5, 9)
    """

    cell: Cell
    num_classes: int
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
        """Labels the steps of sequences.

        Args:
            xs: Inputs, leaves `[*batch, time, input]`, or tokens `[*batch, time]`.
            lengths: Real steps, `[*batch]`; all if None. Logits of padding mean
                nothing.
            carry: Carry that enters the first step.
            probes: From `make_probes`.
            deterministic: Turns off all dropout; else pass an rng "dropout".

        Returns:
            The final carry, and logits `[*batch, time, classes]`.
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
        ys = prepare_readout(self, ys, deterministic=deterministic)
        return carry, dense_like(ys, self.num_classes, name="readout")


class LanguageModel(nn.Module):
    """Predicts the next token at every step.

    logitsₜ = W yₜ + b, or with tied weights E P yₜ, where E is the embedding table and
    P a projection to its width, left out where yₜ has that width already.

    Attributes:
        cell: The recurrent cell; its parameters are the subtree "cell".
        vocab_size: Number of tokens.
        embedding_size: Width of the embedding, the input size of the cell.
        tied: Whether the embedding table reads out, too.
        dropout_rate: Rate of the dropout on the outputs.
        layer_norm: Whether to normalise the outputs first.
        window: Truncation of back-propagation, as in `unroll`.
        method: As in `unroll`.
        product_dtype: As in `unroll`.

    References:
        Press, Wolf (2017), Using the output embedding to improve language models.
        Inan, Khosravi, Socher (2017), Tying word vectors and word classifiers.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> model = LanguageModel(cells.lstm(6, 8), 27, embedding_size=6, tied=True)
        >>> tokens = jnp.zeros((2, 5), jnp.int32)
        >>> variables = model.init(jax.random.key(0), tokens)
        >>> carry, logits = model.apply(variables, tokens)
        >>> sorted(variables["params"]), logits.shape
        (['cell', 'embedding', 'projection'], (2, 5, 27))
    """

    cell: Cell
    vocab_size: int
    embedding_size: int
    tied: bool = False
    dropout_rate: float = 0.0
    layer_norm: bool = False
    window: int | None = None
    method: str = "auto"
    product_dtype: DType | None = None

    @nn.compact
    def __call__(
        self,
        xs: Array,
        lengths: Array | None = None,
        *,
        carry: PyTree | None = None,
        probes: PyTree | None = None,
        deterministic: bool = True,
    ) -> tuple[PyTree, Array]:
        """Scores the tokens that may follow each step.

        Args:
            xs: Tokens, `[*batch, time]`, integers.
            lengths: Real steps, `[*batch]`; all if None. Logits of padding mean
                nothing.
            carry: Carry that enters the first step: the text goes on.
            probes: From `make_probes`.
            deterministic: Turns off all dropout; else pass an rng "dropout".

        Returns:
            The final carry, and logits `[*batch, time, vocab]`.
        """
        embedding = make_embedding(self.cell, self.vocab_size, self.embedding_size)
        carry, ys = run_cell(
            self,
            embedding(xs),
            lengths=lengths,
            carry=carry,
            probes=probes,
            deterministic=deterministic,
        )
        ys = prepare_readout(self, ys, deterministic=deterministic)
        if not self.tied:
            return carry, dense_like(ys, self.vocab_size, name="readout")
        if ys.shape[-1] != self.embedding_size:
            ys = dense_like(ys, self.embedding_size, name="projection")
        return carry, embedding.attend(ys)
