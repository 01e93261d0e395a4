"""The one compiled step that reads a token and draws the next one."""

import functools
import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments.runs.served import Served
from seqjax.array_types import Array, Key, PyTree
from seqjax.decoding import language_step, restrict


class Sampler:
    """A model that goes on with what it has read."""

    def __init__(
        self,
        served: Served,
        start: np.ndarray,
        allowed: np.ndarray | None,
        sample_fn: Callable[[Array, Key], Array],
    ) -> None:
        """Compiles the step.

        Args:
          served: the model.
          start: what it reads first.
          allowed: as in `seqjax.decoding.restrict`; None allows everything.
          sample_fn: `(logits, key) -> token`, of the shape and dtype of `start`.
        """
        self._start = start
        self._params = jax.device_put(served.params)

        def split(params: PyTree) -> tuple[PyTree, Callable]:
            carry, step = language_step(served.model, params)
            if allowed is None:
                return carry, step
            carry = carry, jnp.asarray(0, jnp.int32)
            return carry, restrict(step, jnp.asarray(allowed))

        def advance(
            params: PyTree, carry: PyTree, token: Array, key: Key, index: Array
        ) -> tuple[PyTree, Array]:
            carry, logits = split(params)[1](carry, token)
            return carry, sample_fn(logits, jax.random.fold_in(key, index))

        # A copy: a learned carry is itself a parameter, and must outlive its use.
        self._first = lambda: jax.tree.map(jnp.copy, split(self._params)[0])
        self._advance = (
            jax.jit(advance, donate_argnums=1)
            .lower(self._params, self._first(), start, jax.random.key(0), np.int32(0))
            .compile()
        )

    def draw(self, prompt: np.ndarray, key: Key) -> Iterator[np.ndarray]:
        """Reads a prompt, and then draws tokens without end.

        They are those of `seqjax.decoding.generate` from the last token that is read.

        Args:
          prompt: what it reads after `start`, `[time, ...]`.
          key: feeds all draws.

        Yields:
          Tokens, on the host, each as soon as it is drawn.
        """
        advance = functools.partial(self._advance, self._params)
        carry, drawn = advance(self._first(), self._start, key, np.int32(0))
        for token in prompt:
            carry, drawn = advance(carry, token, key, np.int32(0))
        for index in itertools.count(1):
            yield np.asarray(drawn)
            carry, drawn = advance(carry, drawn, key, np.int32(index))
