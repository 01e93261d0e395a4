"""The temporal order problems."""

import math

import jax
import jax.numpy as jnp

from seqjax.array_types import Key
from seqjax.checks import check_choice
from seqjax.made import factory
from seqjax.tasks.task import Example, Task, check_length

# Tokens, in this order: E, B, a, b, c, d, X, Y.
_START, _TRIGGER, _FIRST_DISTRACTOR, _FIRST_SIGNAL = 0, 1, 2, 6
_NUM_DISTRACTORS = 4
_NUM_TOKENS = 8

# Where the signals lie, in hundredths of the length, both ends included.
_WINDOWS = {
    "6a": ((10, 20), (50, 60)),
    "6b": ((10, 20), (33, 43), (66, 76)),
}


@factory
def temporal_order(length: int, variant: str = "6a") -> Task:
    """Asks in which order a few symbols X and Y came among many distractors.

    A sequence begins with E, ends with B, and holds uniform distractors a, b, c, d but
    for two ("6a") or three ("6b") signals that are X or Y, each with probability 1/2.
    It has between T and T + T/10 steps, the number uniform. For T = 100 the signals lie
    as in the paper: steps 10 to 20 and 50 to 60, or 10 to 20, 33 to 43 and 66 to 76,
    counted from 0; for another T these bounds are taken as hundredths of T, rounded
    down.

    Classes count in binary with X = 0, Y = 1 and the first signal in front: XX, XY, YX,
    YY. They are equally likely, so a blind answer costs ln 4 or ln 8 nats and is right
    in 1/4 or 1/8 of the cases.

    Args:
        length: T, steps. `Task.length` is T + T/10 (padded).
        variant: "6a", two signals, or "6b", three.

    Returns:
        A classify task with 8 one-hot inputs and 4 or 8 classes.

    Raises:
        ValueError: If `variant` is unknown or `length` is below 10.

    References:
        Hochreiter, Schmidhuber (1997), Long short-term memory (experiment 6).

    Example:
        >>> import jax
        >>> example = temporal_order(length=10).sample(jax.random.key(4))
        >>> tokens = example.inputs[: example.length].argmax(-1)
        >>> "".join("EBabcdXY"[token] for token in tokens), int(example.targets)
        ('EXacaYdbdB', 1)
    """
    check_choice("variant", variant, _WINDOWS)
    check_length(length, least=10, reason="the signals need windows of their own")
    bounds = [(length * a // 100, length * b // 100) for a, b in _WINDOWS[variant]]
    least = jnp.asarray([a for a, _ in bounds], jnp.int32)
    most = jnp.asarray([b for _, b in bounds], jnp.int32)
    num_signals = len(bounds)
    weights = jnp.asarray([2**i for i in reversed(range(num_signals))], jnp.int32)
    padded = length + length // 10

    def sample(key: Key) -> Example:
        length_key, distractor_key, place_key, signal_key = jax.random.split(key, 4)
        time = jnp.arange(padded, dtype=jnp.int32)
        num_steps = jax.random.randint(length_key, (), length, padded + 1, jnp.int32)
        distractors = jax.random.randint(
            distractor_key, (padded,), 0, _NUM_DISTRACTORS, jnp.int32
        )
        places = jax.random.randint(
            place_key, (num_signals,), least, most + 1, jnp.int32
        )
        signals = jax.random.randint(signal_key, (num_signals,), 0, 2, jnp.int32)
        tokens = (distractors + _FIRST_DISTRACTOR).at[0].set(_START)
        tokens = tokens.at[places].set(signals + _FIRST_SIGNAL)
        tokens = jnp.where(time == num_steps - 1, _TRIGGER, tokens)
        inputs = jax.nn.one_hot(tokens, _NUM_TOKENS, dtype=jnp.float32)
        one = jnp.ones((), jnp.float32)
        return Example(
            inputs=jnp.where((time < num_steps)[:, None], inputs, 0),
            targets=jnp.sum(signals * weights, dtype=jnp.int32),
            mask=one,
            scored=one,
            length=num_steps,
        )

    return Task(
        sample=sample,
        length=padded,
        input_size=_NUM_TOKENS,
        output_size=2**num_signals,
        kind="classify",
        metric="accuracy",
        baseline_loss=num_signals * math.log(2),
        baseline_metric=0.5**num_signals,
    )
