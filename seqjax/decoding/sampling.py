"""Draws from logits: the temperature, and what is cut off before a draw."""

import math

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, Key
from seqjax.checks import check_positive


def sample_logits(
    logits: Array,
    key: Key,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Array:
    """Draws a token.

    P(i) ∝ exp(logitsᵢ / temperature) over the tokens that `keep_likely` keeps of
    logits / temperature.

    Args:
        logits: `[*batch, vocab]`, finite or -inf, at least one of a row finite.
        key: Feeds the draw.
        temperature: Below 1 likely tokens become likelier; 0 takes the likeliest
            token, the first one of several.
        top_k: As in `keep_likely`.
        top_p: As in `keep_likely`.

    Returns:
        Tokens, `[*batch]`, int32.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> logits = jnp.log(jnp.array([0.1, 0.6, 0.3]))
        >>> int(sample_logits(logits, jax.random.key(0), temperature=0))
        1
        >>> keys = jax.random.split(jax.random.key(0), 1000)
        >>> tokens = jax.vmap(lambda k: sample_logits(logits, k, top_k=2))(keys)
        >>> print(jnp.unique(tokens))
        [1 2]
    """
    _check_temperature(temperature)
    likely = keep_likely(_cooled(logits, temperature), top_k=top_k, top_p=top_p)
    if temperature == 0:
        return jnp.argmax(likely, axis=-1).astype(jnp.int32)
    return jax.random.categorical(key, likely).astype(jnp.int32)


def keep_likely(
    logits: Array, *, top_k: int | None = None, top_p: float | None = None
) -> Array:
    """Cuts off what is unlikely, by rank, by probability, or by both in this order.

    Of equally likely tokens the first ones count as the likelier.

    Args:
        logits: `[*batch, vocab]`, as in `sample_logits`.
        top_k: Keeps this many of the likeliest tokens; None keeps all.
        top_p: Keeps the likeliest tokens, as few as have at least this probability
            together, and one at least; None keeps all, and so does 1.

    Returns:
        The logits, -inf where a token is cut off; float32 or wider.

    Raises:
        ValueError: If `top_k` is below 1, or `top_p` not above 0 and at most 1.

    References:
        Fan, Lewis, Dauphin (2018), Hierarchical neural story generation (top-k).
        Holtzman, Buys, Du, Forbes, Choi (2020), The curious case of neural text
        degeneration (top-p, nucleus sampling).

    Example:
        >>> import jax.numpy as jnp
        >>> logits = jnp.log(jnp.array([0.125, 0.5, 0.25, 0.125]))
        >>> print(jnp.exp(keep_likely(logits, top_p=0.75)))
        [0.   0.5  0.25 0.  ]
        >>> print(jnp.exp(keep_likely(logits, top_k=3)))
        [0.125 0.5   0.25  0.   ]
    """
    if top_k is not None:
        check_positive(top_k=top_k)
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p: expected a probability in (0, 1], got {top_p!r}")
    logits = at_least_float32(logits)
    vocab_size = logits.shape[-1]
    top_k = vocab_size if top_k is None else min(top_k, vocab_size)
    top_p = 1.0 if top_p is None else float(top_p)
    if top_k == vocab_size and top_p == 1:
        return logits
    order = jnp.argsort(-logits, axis=-1, stable=True)
    kept = _kept(jnp.take_along_axis(logits, order, axis=-1), top_k, top_p)
    rank = jnp.argsort(order, axis=-1)
    return jnp.where(jnp.take_along_axis(kept, rank, axis=-1), logits, -jnp.inf)


def sample_bernoulli(logits: Array, key: Key, *, temperature: float = 1.0) -> Array:
    """Draws features that are on or off, each on its own.

    P(xᵢ = 1) = σ(logitsᵢ / temperature)

    Args:
        logits: `[*batch, output]`.
        key: Feeds the draw.
        temperature: Below 1 features become surer; at 0 those are on that are on with
            a probability above one half.

    Returns:
        Zeros and ones, same shape and dtype.

    Raises:
        ValueError: If `temperature` is negative or not finite.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> logits = jnp.array([3.0, -3.0, 0.1])
        >>> print(sample_bernoulli(logits, jax.random.key(0), temperature=0))
        [1. 0. 1.]
    """
    _check_temperature(temperature)
    if temperature == 0:
        return (logits > 0).astype(logits.dtype)
    probability = jax.nn.sigmoid(logits / _at_least_tiny(temperature, logits))
    return jax.random.bernoulli(key, probability).astype(logits.dtype)


def at_least_float32(logits: Array) -> Array:
    """Returns logits as float32, or as they are if wider."""
    return logits.astype(jnp.float32) if logits.dtype.itemsize < 4 else logits


def _check_temperature(temperature: float) -> None:
    if not (temperature >= 0 and math.isfinite(temperature)):
        raise ValueError(
            f"temperature: expected a number of at least 0, got {temperature!r}"
        )


def _cooled(logits: Array, temperature: float) -> Array:
    """Logits / temperature up to a constant, the largest of which is 0."""
    logits = at_least_float32(logits)
    # The largest first, so that no quotient can overflow but to -inf.
    logits = logits - jnp.max(logits, axis=-1, keepdims=True)
    return logits if temperature == 0 else logits / _at_least_tiny(temperature, logits)


def _at_least_tiny(temperature: float, logits: Array) -> float:
    """Keeps a temperature from being rounded to 0, of which 0 / 0 would be NaN."""
    return max(temperature, float(jnp.finfo(logits.dtype).tiny))


def _kept(ordered: Array, top_k: int, top_p: float) -> Array:
    """Which of logits `[*batch, vocab]`, the largest first, stay."""
    rank = jnp.arange(ordered.shape[-1]).reshape((1,) * (ordered.ndim - 1) + (-1,))
    kept = jnp.broadcast_to(rank < top_k, ordered.shape)
    if top_p == 1:
        return kept
    probabilities = jax.nn.softmax(jnp.where(kept, ordered, -jnp.inf), axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    return kept & ((before < top_p) | (rank == 0))
