"""The delayed copy of a stream of bits, and its exclusive or."""

import math

import jax
import jax.numpy as jnp

from seqjax.array_types import Key
from seqjax.checks import check_choice, check_positive
from seqjax.made import factory
from seqjax.tasks.task import Example, Task, check_length

# How many delays back the oldest bit lies that an answer needs.
_REACH = {"xor": 2, "copy": 1}


@factory
def delayed_xor(length: int, variant: str = "xor", delay: int | None = None) -> Task:
    """Asks at every step for bits seen a fixed number of steps ago.

    "xor": yₜ = xₜ₋d ⊕ xₜ₋₂d;  "copy": yₜ = xₜ₋d,  with fair bits xₜ and the delay d

    The first 2 d steps of "xor" and the first d of "copy" have no answer: their target
    is 0 and neither loss nor metric counts them. Each counted answer is a fair bit
    whatever came in the last d steps, the present one included: without memory ln 2
    nats, 1/2 right. Unlike in the problems that ask once, there is something to learn
    at every step, and all of it is d steps away.

    Args:
        length: Number of steps.
        variant: "xor" or "copy".
        delay: d, steps; a quarter of `length`, at least 1, if None.

    Returns:
        A label task with 1 input, the bit as 0.0 or 1.0, and 2 classes.

    Raises:
        ValueError: If `variant` is unknown, `delay` is below 1, or `length` leaves no
            step to answer at.

    References:
        Engelken (2023), Gradient flossing: improving gradient descent through dynamic
        control of Jacobians.

    Example:
        >>> import jax
        >>> example = delayed_xor(length=8, delay=2).sample(jax.random.key(0))
        >>> print(example.inputs[:, 0].astype("int32"))
        [0 0 1 1 0 1 1 0]
        >>> print(example.targets, example.mask.astype("int32"))
        [0 0 0 0 1 1 1 0] [0 0 0 0 1 1 1 1]
    """
    check_choice("variant", variant, _REACH)
    reach = _REACH[variant]
    check_length(length, least=reach + 1, reason="a bit is asked for after it was seen")
    delay = max(1, length // 4) if delay is None else delay
    check_positive(delay=delay)
    reason = f"answers begin after {reach} times the delay {delay}"
    check_length(length, least=reach * delay + 1, reason=reason)

    def sample(key: Key) -> Example:
        bits = jax.random.bernoulli(key, shape=(length,)).astype(jnp.int32)
        answered = jnp.arange(length, dtype=jnp.int32) >= reach * delay
        targets = jnp.roll(bits, delay)
        if variant == "xor":
            targets = targets ^ jnp.roll(bits, 2 * delay)
        counted = answered.astype(jnp.float32)
        return Example(
            inputs=bits[:, None].astype(jnp.float32),
            targets=jnp.where(answered, targets, 0),
            mask=counted,
            scored=counted,
            length=jnp.asarray(length, jnp.int32),
        )

    return Task(
        sample=sample,
        length=length,
        input_size=1,
        output_size=2,
        kind="label",
        metric="accuracy",
        baseline_loss=math.log(2),
        baseline_metric=0.5,
    )
