"""One sequence of tokens into another: encoder, decoder, attention between them."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.array_types import Array, DType, Key, PyTree
from seqjax.cell import Cell, NoStepError
from seqjax.checks import check_choice
from seqjax.losses import length_mask
from seqjax.models.common import cell_dtype
from seqjax.unroll import unroll

ATTENTIONS = ("none", "additive", "dot")
"""How a decoder's output is compared with the encoder's outputs."""


class Memory(NamedTuple):
    """What attention looks at.

    Attributes:
        values: Outputs of the encoder, `[*batch, source_time, value]`.
        keys: What outputs of the decoder are compared with,
            `[*batch, source_time, output]`.
        real: 1 where a step of the source is real, `[*batch, source_time]`.
    """

    values: Array
    keys: Array
    real: Array


class DecoderState(NamedTuple):
    """A translation under way.

    Attributes:
        carry: Of the decoder, leaves `[*batch, ...]`; all that changes from one token
            to the next.
        memory: What attention looks at; None without attention.
    """

    carry: PyTree
    memory: Memory | None


class Translator(nn.Module):
    """Reads a source, then writes its translation token by token.

    The encoder runs over the source, and its final carry starts the decoder: as it is
    where the shapes of both carries agree, else through a dense layer from all of the
    one to all of the other. The decoder reads the target shifted by one step, the true
    tokens in training. Attention follows the recurrence, so that the decoder is a plain
    cell: with yₜ its outputs, mₛ those of the encoder and K a matrix,

        additive: eₜₛ = v · tanh(Q yₜ + K mₛ)        dot: eₜₛ = yₜ · K mₛ
        αₜ = softmax over the real steps s of eₜₛ,    cₜ = Σₛ αₜₛ mₛ
        logitsₜ = W tanh(M [cₜ, yₜ] + b) + d;         none: logitsₜ = W yₜ + d

    In the paper of the additive score it is the previous carry that asks, and the
    decoder reads cₜ; here both scores stand where the dot's paper has them.

    The parameters of the encoder are the subtree "encoder", those of the decoder "cell"
    as in all models, and `probes` are the decoder's. Dropout acts on embedded tokens
    and on what is read out.

    Attributes:
        cell: The decoder; it reads embedded tokens and has a single step.
        encoder: Any cell that reads embedded tokens, bidirectional ones included.
        vocab_size: Number of tokens of the targets, and of logits.
        source_vocab_size: Number of tokens of the sources.
        embedding_size: Width of both embeddings, the input size of both cells.
        attention: One of `ATTENTIONS`.
        dropout_rate: Rate of the dropout.
        window: Truncation of back-propagation in both cells, as in `unroll`.
        method: As in `unroll`.
        product_dtype: As in `unroll`, for the products of both cells in `__call__`.

    Raises:
        ValueError: On an unknown attention, or a decoder without a single step.

    References:
        Sutskever, Vinyals, Le (2014), Sequence to sequence learning with neural
        networks (no attention). Bahdanau, Cho, Bengio (2015), Neural machine
        translation by jointly learning to align and translate (additive). Luong, Pham,
        Manning (2015), Effective approaches to attention-based neural machine
        translation (dot, their "general" score; attention after the recurrence).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells, combinators
        >>> model = Translator(
        ...     cell=cells.gru(4, 8),
        ...     encoder=combinators.bidirectional(cells.gru(4, 8)),
        ...     vocab_size=7,
        ...     source_vocab_size=9,
        ...     embedding_size=4,
        ...     attention="dot",
        ... )
        >>> source, target = jnp.zeros((2, 5), jnp.int32), jnp.zeros((2, 3), jnp.int32)
        >>> variables = model.init(jax.random.key(0), (source, target))
        >>> carry, logits = model.apply(variables, (source, target))
        >>> state = model.apply(variables, source, method="start")
        >>> state, first, weights = model.apply(
        ...     variables, state, target[:, 0], method="step"
        ... )
        >>> logits.shape, weights.shape, bool(jnp.allclose(first, logits[:, 0]))
        ((2, 3, 7), (2, 5), True)
    """

    cell: Cell
    encoder: Cell
    vocab_size: int
    source_vocab_size: int
    embedding_size: int
    attention: str = "dot"
    dropout_rate: float = 0.0
    window: int | None = None
    method: str = "auto"
    product_dtype: DType | None = None

    def setup(self) -> None:
        """Declares the parameters; a layer that is never used has none."""
        check_choice("attention", self.attention, ATTENTIONS)
        output_size = _output_size(self.cell, self.embedding_size)
        dtype = cell_dtype(self.cell)
        embed = functools.partial(
            nn.Embed, features=self.embedding_size, dtype=dtype, param_dtype=dtype
        )
        dense = functools.partial(nn.Dense, dtype=dtype, param_dtype=dtype)
        self.source_embedding = embed(self.source_vocab_size)
        self.embedding = embed(self.vocab_size)
        self.encoder_params = self.param("encoder", self.encoder.init)
        self.cell_params = self.param("cell", self.cell.init)
        self.bridge = dense(sum(math.prod(leaf.shape) for leaf in self._carry_leaves()))
        self.keys = dense(output_size, use_bias=False)
        self.queries = dense(output_size, use_bias=False)
        self.score = dense(1, use_bias=False)
        self.mixture = dense(output_size)
        self.readout = dense(self.vocab_size)
        self.dropout = nn.Dropout(self.dropout_rate)

    def __call__(
        self,
        xs: tuple[Array, Array],
        lengths: tuple[Array, Array] | None = None,
        *,
        probes: PyTree | None = None,
        deterministic: bool = True,
    ) -> tuple[PyTree, Array]:
        """Scores the tokens that may follow each step of the targets.

        Args:
            xs: Tokens of the sources, `[*batch, source_time]`, and of the targets from
                their start token on, `[*batch, time]`, integers.
            lengths: Real steps of both, `[*batch]`; all if None. Logits of padding mean
                nothing.
            probes: From `make_probes` with the decoder.
            deterministic: Turns off all dropout; else pass an rng "dropout".

        Returns:
            The final carry of the decoder, and logits `[*batch, time, vocab]`.
        """
        sources, targets = xs
        source_lengths, target_lengths = (None, None) if lengths is None else lengths
        keys = (None, None)
        if not deterministic:
            keys = tuple(jax.random.split(self.make_rng("dropout")))
        start = self._encode(sources, source_lengths, keys[0])
        embedded = self.embedding(targets)
        carry, ys = unroll(
            self.cell,
            self.cell_params,
            self.dropout(embedded, deterministic=deterministic),
            start.carry,
            lengths=target_lengths,
            key=keys[1],
            window=self.window,
            method=self.method,
            probes=probes,
            product_dtype=self.product_dtype,
        )
        logits, _ = self._read_out(ys, start.memory, deterministic=deterministic)
        return carry, logits

    def start(self, source: Array, lengths: Array | None = None) -> DecoderState:
        """Reads sources; `model.apply(variables, source, method="start")`.

        Args:
            source: Tokens, `[*batch, source_time]`, integers.
            lengths: Real steps, `[*batch]`; all if None.

        Returns:
            The state before the first token.
        """
        return self._encode(source, lengths, None)

    def step(
        self, state: DecoderState, token: Array
    ) -> tuple[DecoderState, Array, Array | None]:
        """Reads one token of each target.

        Args:
            state: From `start`, or from the step before.
            token: `[*batch]`, integers; the start token first.

        Returns:
            The next state; logits of the token that follows, `[*batch, vocab]`; and the
            weights of attention, `[*batch, source_time]`, None without attention.
        """
        step = self.cell.step
        for _ in token.shape:
            step = jax.vmap(step, in_axes=(None, 0, 0))
        carry, y = step(self.cell_params, state.carry, self.embedding(token))
        logits, weights = self._read_out(
            y[..., None, :], state.memory, deterministic=True
        )
        weights = None if weights is None else weights[..., 0, :]
        return state._replace(carry=carry), logits[..., 0, :], weights

    def _encode(
        self, sources: Array, lengths: Array | None, key: Key | None
    ) -> DecoderState:
        embedded = self.source_embedding(sources)
        carry, values = unroll(
            self.encoder,
            self.encoder_params,
            self.dropout(embedded, deterministic=key is None),
            lengths=lengths,
            key=key,
            window=self.window,
            method=self.method,
            product_dtype=self.product_dtype,
        )
        carry = self._bridged(carry, sources.shape[:-1])
        if self.attention == "none":
            return DecoderState(carry, None)
        real = jnp.ones(sources.shape, values.dtype)
        if lengths is not None:
            real = length_mask(lengths, sources.shape[-1]).astype(values.dtype)
        return DecoderState(carry, Memory(values, self.keys(values), real))

    def _carry_leaves(self) -> list[jax.ShapeDtypeStruct]:
        carry = jax.eval_shape(self.cell.initial_carry, self.cell_params)
        return jax.tree.leaves(carry)

    def _bridged(self, carry: PyTree, batch_shape: tuple[int, ...]) -> PyTree:
        """Makes a carry of the decoder of the encoder's."""
        expected = jax.eval_shape(self.cell.initial_carry, self.cell_params)
        wanted, treedef = jax.tree.flatten(expected)
        leaves = jax.tree.leaves(carry)
        shapes = [leaf.shape[len(batch_shape) :] for leaf in leaves]
        same = shapes == [leaf.shape for leaf in wanted]
        if same and jax.tree.structure(carry) == treedef:
            return carry
        flat = [leaf.reshape(*batch_shape, -1) for leaf in leaves]
        joined = self.bridge(jnp.concatenate(flat, axis=-1))
        sizes = [math.prod(leaf.shape) for leaf in wanted]
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
        parts = [
            part.reshape(*batch_shape, *leaf.shape).astype(leaf.dtype)
            for part, leaf in zip(jnp.split(joined, ends, axis=-1), wanted, strict=True)
        ]
        return jax.tree.unflatten(treedef, parts)

    def _read_out(
        self, ys: Array, memory: Memory | None, *, deterministic: bool
    ) -> tuple[Array, Array | None]:
        """Logits `[*batch, time, vocab]`, weights `[*batch, time, source_time]`."""
        weights = None
        if memory is not None:
            weights = _masked_softmax(self._scores(ys, memory.keys), memory.real)
            context = weights @ memory.values
            ys = jnp.tanh(self.mixture(jnp.concatenate([context, ys], axis=-1)))
        return self.readout(self.dropout(ys, deterministic=deterministic)), weights

    def _scores(self, ys: Array, keys: Array) -> Array:
        """`[*batch, time, source_time]`."""
        if self.attention == "dot":
            return ys @ jnp.swapaxes(keys, -1, -2)
        pairs = self.queries(ys)[..., :, None, :] + keys[..., None, :, :]
        return self.score(jnp.tanh(pairs))[..., 0]


def _masked_softmax(scores: Array, real: Array) -> Array:
    """Softmax over the real steps; zeros where a source has none."""
    real = jnp.broadcast_to(real[..., None, :], scores.shape)
    # The least finite number, not -inf: of -inf alone a softmax is NaN.
    scores = jnp.where(real > 0, scores, jnp.finfo(scores.dtype).min)
    return real * jax.nn.softmax(scores)


def _output_size(cell: Cell, input_size: int) -> int:
    """Width of a decoder's output; refuses a cell without a single step."""

    def first_output(key: Key) -> Array:
        params = cell.init(key)
        x = jnp.zeros(input_size, cell_dtype(cell))
        return cell.step(params, cell.initial_carry(params), x)[1]

    try:
        return jax.eval_shape(first_output, jax.random.key(0)).shape[-1]
    except NoStepError as error:
        raise ValueError(
            f"cell: expected a decoder with a single step, got {cell}, which needs the "
            "whole target at once; only the encoder may be bidirectional"
        ) from error
