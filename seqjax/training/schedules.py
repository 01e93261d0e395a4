"""Learning rates as functions of the number of updates made."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax.numpy as jnp

from seqjax.array_types import Array, ArrayLike
from seqjax.checks import check_choice, check_positive


def _constant(step: Array, num_steps: int, every: int, factor: float) -> Array:
    del num_steps, every, factor
    return jnp.ones_like(step, jnp.float32)


def _staircase(step: Array, num_steps: int, every: int, factor: float) -> Array:
    del num_steps
    return jnp.power(factor, (step // every).astype(jnp.float32))


def _cosine(step: Array, num_steps: int, every: int, factor: float) -> Array:
    del every, factor
    progress = jnp.minimum(step.astype(jnp.float32) / max(num_steps, 1), 1)
    return 0.5 * (1 + jnp.cos(jnp.pi * progress))


SCHEDULES: Mapping[str, Callable[[Array, int, int, float], Array]] = MappingProxyType(
    {"constant": _constant, "step": _staircase, "cosine": _cosine}
)
"""Name -> factor on the learning rate, `(step, num_steps, every, factor)`, after
warm-up."""


def make_schedule(
    name: str,
    learning_rate: float,
    *,
    num_steps: int,
    warmup_steps: int = 0,
    decay_every: int = 1000,
    decay_factor: float = 0.5,
) -> Callable[[ArrayLike], Array]:
    """Makes a learning rate that depends on the number of updates made.

    With w = `warmup_steps`, the rate at update s = 0, 1, … is `learning_rate` times
    (s + 1)/(w + 1) while s < w, so that no update is without effect; from s = w on:

    - "constant": 1.
    - "step": `decay_factor`^⌊(s − w)/`decay_every`⌋.
    - "cosine": ½ (1 + cos(π (s − w)/(`num_steps` − w))), and 0 from `num_steps` on.

    Args:
        name: "constant", "step" or "cosine".
        learning_rate: The highest rate.
        num_steps: Updates of the whole run.
        warmup_steps: Updates during which the rate rises.
        decay_every: Updates between two decays of "step".
        decay_factor: Factor of one decay of "step".

    Returns:
        `(update) -> rate`, a float32 scalar.

    Raises:
        ValueError: If `name` is unknown, or a count is out of range.

    References:
        Loshchilov, Hutter (2017), SGDR: stochastic gradient descent with warm restarts
        (cosine).

    Example:
        >>> schedule = make_schedule("cosine", 0.1, num_steps=12, warmup_steps=2)
        >>> [round(float(schedule(s)), 3) for s in (0, 1, 2, 7, 12)]
        [0.033, 0.067, 0.1, 0.05, 0.0]
    """
    check_choice("schedule", name, SCHEDULES)
    check_positive(num_steps=num_steps, decay_every=decay_every)
    if not 0 <= warmup_steps <= num_steps:
        raise ValueError(
            f"warmup_steps: expected 0 to num_steps={num_steps}, got {warmup_steps}"
        )
    decay_steps = num_steps - warmup_steps

    def schedule(count: ArrayLike) -> Array:
        step = jnp.asarray(count, jnp.int32)
        since = jnp.maximum(step - warmup_steps, 0)
        rise = jnp.minimum((step.astype(jnp.float32) + 1) / (warmup_steps + 1), 1)
        decay = SCHEDULES[name](since, decay_steps, decay_every, decay_factor)
        return learning_rate * rise * decay

    return schedule
