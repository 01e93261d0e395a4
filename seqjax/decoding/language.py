"""From a model of `seqjax.models` to a step over its tokens."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from seqjax.array_types import Array, PyTree
from seqjax.cell import Cell
from seqjax.decoding.generation import Step


def language_step(model: nn.Module, params: PyTree) -> tuple[PyTree, Step]:
    """Takes a model apart into its first carry and a step.

    Args:
        model: A `LanguageModel` or a `SequenceLabeller`, whose answer at a step is
            about what comes next.
        params: Its parameters, `variables["params"]`.

    Returns:
        The carry of one sequence, and `step(carry, token) -> (carry, logits)` with a
        token int32, or features `[input]` for a model without an embedding, and logits
        `[classes]`: those of the model, without dropout, to rounding.

    Raises:
        ValueError: In a step, if the cell has none: a bidirectional one reads ahead.

    Example:
        >>> from seqjax import cells, models
        >>> model = models.LanguageModel(cells.gru(6, 8), 27, embedding_size=6)
        >>> tokens = jnp.array([3, 1, 2])
        >>> variables = model.init(jax.random.key(0), tokens)
        >>> carry, step = language_step(model, variables["params"])
        >>> for token in tokens:
        ...     carry, logits = step(carry, token)
        >>> bool(jnp.allclose(logits, model.apply(variables, tokens)[1][-1], atol=1e-5))
        True
    """
    cell: Cell = model.cell

    def step(carry: PyTree, token: Array) -> tuple[PyTree, Array]:
        # The model would run a cell that reads ahead over one step without a word.
        jax.eval_shape(cell.step, params["cell"], carry, _input(model, token))
        # A sequence of one step, so that a model says only once what it computes.
        outputs: Any = model.apply({"params": params}, token[None], carry=carry)
        return outputs[0], outputs[1][0]

    return cell.initial_carry(params["cell"]), step


def _input(model: nn.Module, token: Array) -> jax.ShapeDtypeStruct:
    """Shape and dtype of what the cell reads."""
    if model.embedding_size is None:
        return jax.ShapeDtypeStruct(token.shape, token.dtype)
    return jax.ShapeDtypeStruct((model.embedding_size,), jnp.float32)
