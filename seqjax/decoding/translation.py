"""From a translator and a source to a step over the words of the translation."""

from typing import Any

from flax import linen as nn

from seqjax.array_types import Array, PyTree
from seqjax.decoding.generation import Step


def translation_step(
    model: nn.Module, params: PyTree, source: Array, length: Array | None = None
) -> tuple[PyTree, Step]:
    """Reads a source, and returns what writes its translation.

    What attention looks at is no part of the carry, so that hypotheses share it.

    Args:
        model: A `Translator`.
        params: Its parameters, `variables["params"]`.
        source: Tokens, `[source_time]`, int32.
        length: Real steps, a scalar; all if None.

    Returns:
        The carry before the first token, and `step(carry, token) -> (carry, logits)`
        with a token int32 and logits `[vocab]`: those of the model, without dropout, to
        rounding.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells, decoding, models
        >>> model = models.Translator(cells.gru(3, 4), cells.gru(3, 4), 7, 9, 3)
        >>> source, start = jnp.array([5, 8, 2]), jnp.asarray(2, jnp.int32)
        >>> variables = model.init(jax.random.key(0), (source, start[None]))
        >>> carry, step = translation_step(model, variables["params"], source)
        >>> decoding.greedy_search(step, carry, start, max_length=6, end=3).tokens.shape
        (6,)
    """
    variables = {"params": params}
    started: Any = model.apply(variables, source, length, method="start")

    def step(carry: PyTree, token: Array) -> tuple[PyTree, Array]:
        state = started._replace(carry=carry)
        result: Any = model.apply(variables, state, token, method="step")
        return result[0].carry, result[1]

    return started.carry, step
