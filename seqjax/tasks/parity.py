"""The parity problem."""

import math

import jax
import jax.numpy as jnp

from seqjax.array_types import Key
from seqjax.checks import check_choice
from seqjax.made import factory
from seqjax.tasks.task import Example, Task, check_length


@factory
def parity(length: int, variant: str = "final") -> Task:
    """Asks whether the number of ones among random bits is odd.

    yₜ = x₁ ⊕ … ⊕ xₜ, wanted at the last step ("final") or at every step ("running").
    Each xₜ is a fair bit and flips the answer, so that without all earlier bits both
    answers are equally likely: ln 2 nats, 1/2 right.

    Args:
        length: Number of steps.
        variant: "final" or "running".

    Returns:
        A task with 1 input, the bit as 0.0 or 1.0, and 2 classes: classify for
        "final", label for "running".

    Raises:
        ValueError: If `variant` is unknown or `length` is below 1.

    References:
        Bengio, Simard, Frasconi (1994), Learning long-term dependencies with gradient
        descent is difficult.

    Example:
        >>> import jax
        >>> example = parity(length=8, variant="running").sample(jax.random.key(0))
        >>> print(example.inputs[:, 0].astype("int32"))
        [0 0 1 1 0 1 1 0]
        >>> print(example.targets)
        [0 0 1 0 0 1 0 0]
    """
    check_choice("variant", variant, ("final", "running"))
    check_length(length, least=1, reason="there is at least one bit")

    def sample(key: Key) -> Example:
        bits = jax.random.bernoulli(key, shape=(length,)).astype(jnp.int32)
        running = jnp.cumsum(bits, dtype=jnp.int32) % 2
        targets = running if variant == "running" else running[-1]
        ones = jnp.ones(targets.shape, jnp.float32)
        return Example(
            inputs=bits[:, None].astype(jnp.float32),
            targets=targets,
            mask=ones,
            scored=ones,
            length=jnp.asarray(length, jnp.int32),
        )

    return Task(
        sample=sample,
        length=length,
        input_size=1,
        output_size=2,
        kind="label" if variant == "running" else "classify",
        metric="accuracy",
        baseline_loss=math.log(2),
        baseline_metric=0.5,
    )
