"""Sequences that go on from a token, one step at a time."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, Key, PyTree
from seqjax.checks import check_positive
from seqjax.decoding.sampling import sample_logits

Step: TypeAlias = Callable[[PyTree, PyTree], tuple[PyTree, Array]]
"""`(carry, token) -> (carry, logits)`: reads a token and scores what may follow."""


class Generated(NamedTuple):
    """What a step generated.

    Attributes:
        tokens: `[num_tokens, ...]`; after the first end token, end tokens alone.
        length: Tokens before the first end token, a scalar, int32.
    """

    tokens: Array
    length: Array


def generate(
    step: Step,
    carry: PyTree,
    token: Array,
    key: Key,
    num_tokens: int,
    *,
    sample_fn: Callable[[Array, Key], Array] = sample_logits,
    end: int | None = None,
) -> Generated:
    """Samples a sequence, each token being the next step's input.

    (carryₜ₊₁, logitsₜ) = step(carryₜ, tokenₜ),  tokenₜ₊₁ = sample_fn(logitsₜ, keyₜ),
    keyₜ = fold_in(key, t)

    Args:
        step: Any pure `(carry, token) -> (carry, logits)` of one sequence.
        carry: Enters the first step.
        token: Read by the first step and not part of the result: a scalar int32, or
            whatever `sample_fn` returns.
        key: Feeds all draws. A longer sequence of one key begins with the shorter one.
        num_tokens: Most tokens.
        sample_fn: `(logits, key) -> token`, of the shape and dtype of `token`.
        end: The token after which nothing follows; None for none.

    Returns:
        The tokens and their number.

    Raises:
        ValueError: If `num_tokens` is not positive.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def step(carry, token):  # counts up to 3
        ...     return carry, jax.nn.one_hot((token + 1) % 4, 4) * 99
        >>> start = jnp.asarray(0, jnp.int32)
        >>> generate(step, (), start, jax.random.key(0), 5, end=3).tokens.tolist()
        [1, 2, 3, 3, 3]
    """
    check_positive(num_tokens=num_tokens)

    def one(state: tuple, index: Array) -> tuple[tuple, Array]:
        carry, token, ended = state
        carry, logits = step(carry, token)
        new = sample_fn(logits, jax.random.fold_in(key, index))
        if end is not None:
            new = jnp.where(ended, jnp.asarray(end, new.dtype), new)
            ended = new == end
        return (carry, new, ended), new

    indices = jnp.arange(num_tokens, dtype=jnp.int32)
    _, tokens = jax.lax.scan(one, (carry, token, jnp.asarray(False)), indices)
    if end is None:
        return Generated(tokens, jnp.asarray(num_tokens, jnp.int32))
    return Generated(tokens, jnp.sum(tokens != end, dtype=jnp.int32))


def greedy_search(
    step: Step, carry: PyTree, start: Array, max_length: int, end: int | None = None
) -> Generated:
    """Takes the likeliest token at every step, the first one of several.

    Args:
        step: As in `generate`.
        carry: Enters the first step.
        start: Token that the first step reads, a scalar, int32.
        max_length: Most tokens.
        end: The token after which nothing follows; None for none.

    Returns:
        The tokens and their number.

    Example:
        >>> import jax.numpy as jnp
        >>> following = jnp.array([[0.0, 2.0, 1.0], [0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
        >>> step = lambda carry, token: (carry, following[token])
        >>> greedy_search(step, (), jnp.asarray(0, jnp.int32), 4).tokens.tolist()
        [1, 2, 0, 1]
    """

    def likeliest(logits: Array, key: Key) -> Array:
        del key
        return jnp.argmax(logits, axis=-1).astype(start.dtype)

    key = jax.random.key(0)  # feeds no draw
    return generate(step, carry, start, key, max_length, sample_fn=likeliest, end=end)


def restrict(step: Step, allowed: Array) -> Step:
    """Lets a step score some tokens alone, depending on how many it has read.

    Args:
        step: Any `(carry, token) -> (carry, logits)`.
        allowed: `[positions, vocab]`, bool: which tokens may follow the first one that
            is read, the second one, and so on; the last row holds for all later ones,
            too. At least one of a row.

    Returns:
        A step whose carry is the pair of the carry of `step` and the number of tokens
        read so far, 0 at first; its logits are -inf where a token is not allowed.

    Example:
        >>> import jax.numpy as jnp
        >>> step = restrict(lambda carry, token: (carry, jnp.zeros(2)), jnp.eye(2) > 0)
        >>> carry = ((), jnp.asarray(0, jnp.int32))
        >>> for token in jnp.array([0, 0, 0]):
        ...     carry, logits = step(carry, token)
        ...     print(logits)
        [  0. -inf]
        [-inf   0.]
        [-inf   0.]
    """
    last = allowed.shape[0] - 1

    def restricted(carry: tuple, token: PyTree) -> tuple[tuple, Array]:
        inner, position = carry
        inner, logits = step(inner, token)
        row = allowed[jnp.minimum(position, last)]
        return (inner, position + 1), jnp.where(row, logits, -jnp.inf)

    return restricted
