"""The adding problem, and its sibling with a product."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, Key
from seqjax.checks import check_choice
from seqjax.made import factory
from seqjax.tasks.task import Example, Task, check_length

# The first mark of the original task lies among this many first steps.
_FIRST_WINDOW = 10


@factory
def adding(length: int, variant: str = "halves") -> Task:
    """Asks for the sum of two marked values in a long row of values.

    The inputs are pairs (value, marker); the target is one number, wanted after the
    last step.

    - "halves": values U(0, 1), one mark in each half of the sequence; target the sum.
      A constant answer does best with 1, the mean, and leaves the variance of a sum
      of two U(0, 1): 2 × 1/12 = 1/6.
    - "anywhere": the same with two distinct marks anywhere; also 1/6.
    - "hochreiter": the original. Values U(−1, 1); between T and T + T/10 steps, the
      number uniform; the first mark among the first ten steps, the second among the
      first T/2 − 1 that are still unmarked; marker −1 on the first and the last step.
      A mark drawn for the first step is covered by that −1 and its value counts as 0,
      which happens with p = 1/10 + 9/10 · 1/(T/2 − 1). Target 0.5 + (X₁ + X₂)/4,
      correct within 0.04. The constant 0.5 leaves (1/16) · (2 − p)/3, about 1/24, and
      is correct with probability (1 − p) · 0.1536 + p · 0.16, since a triangular
      |X₁ + X₂| < 0.16 has probability 0.16 − 0.16²/4, a uniform |X| < 0.16 has 0.16.

    Args:
        length: T, steps. `Task.length` is T, for "hochreiter" T + T/10 (padded).
        variant: "halves", "anywhere" or "hochreiter".

    Returns:
        A forecast task with 2 inputs and 1 output.

    Raises:
        ValueError: If `variant` is unknown or `length` is too short for it.

    References:
        Hochreiter, Schmidhuber (1997), Long short-term memory (experiment 4).
        Arjovsky, Shah, Bengio (2016), Unitary evolution recurrent neural networks
        ("halves"). Bai, Kolter, Koltun (2018), An empirical evaluation of generic
        convolutional and recurrent networks for sequence modeling ("anywhere").

    Example:
        >>> import jax
        >>> task = adding(length=100)
        >>> example = task.sample(jax.random.key(0))
        >>> values, markers = example.inputs.T
        >>> bool(abs(values @ markers - example.targets[0]) < 1e-6)
        True
        >>> task, round(task.baseline_loss, 4)
        (adding(length=100), 0.1667)
    """
    check_choice("variant", variant, [*_MARKS, "hochreiter"])
    if variant == "hochreiter":
        return _original(length)
    return _two_marks(length, variant, jnp.add, baseline=1 / 6)


@factory
def multiplication(length: int, variant: str = "halves") -> Task:
    """Asks for the product of two marked values in a long row of values.

    As `adding` with U(0, 1) values and the target X₁ X₂. A constant answer does best
    with the mean 1/4 and leaves E[X²]² − 1/16 = 1/9 − 1/16 = 7/144.

    Args:
        length: Number of steps.
        variant: "halves" (one mark in each half) or "anywhere".

    Returns:
        A forecast task with 2 inputs and 1 output.

    Raises:
        ValueError: If `variant` is unknown or `length` is below 2.

    References:
        Hochreiter, Schmidhuber (1997), Long short-term memory (experiment 5, with
        the placement of marks of experiment 4 instead of one of these).

    Example:
        >>> multiplication(length=100).baseline_loss == 7 / 144
        True
    """
    check_choice("variant", variant, _MARKS)
    return _two_marks(length, variant, jnp.multiply, baseline=7 / 144)


def _mark_halves(key: Key, length: int) -> tuple[Array, Array]:
    first_key, second_key = jax.random.split(key)
    first = jax.random.randint(first_key, (), 0, length // 2, jnp.int32)
    second = jax.random.randint(second_key, (), length // 2, length, jnp.int32)
    return first, second


def _mark_anywhere(key: Key, length: int) -> tuple[Array, Array]:
    first_key, second_key = jax.random.split(key)
    first = jax.random.randint(first_key, (), 0, length, jnp.int32)
    return first, _unmarked(second_key, first, length - 1)


def _unmarked(key: Key, marked: Array, count: int) -> Array:
    """A uniform one of the first `count` steps other than `marked`."""
    rank = jax.random.randint(key, (), 0, count, jnp.int32)
    return rank + (rank >= marked).astype(jnp.int32)


_MARKS: Mapping[str, Callable[[Key, int], tuple[Array, Array]]] = {
    "halves": _mark_halves,
    "anywhere": _mark_anywhere,
}


def _two_marks(
    length: int, variant: str, combine: Callable[..., Array], baseline: float
) -> Task:
    check_length(length, least=2, reason="two steps are marked")

    def sample(key: Key) -> Example:
        value_key, mark_key = jax.random.split(key)
        values = jax.random.uniform(value_key, (length,), jnp.float32)
        first, second = _MARKS[variant](mark_key, length)
        markers = jnp.zeros(length, jnp.float32).at[jnp.stack([first, second])].set(1)
        inputs = jnp.stack([values, markers], axis=-1)
        return _forecast(inputs, combine(values[first], values[second]), length)

    return Task(
        sample=sample,
        length=length,
        input_size=2,
        output_size=1,
        kind="forecast",
        metric="mean_squared_error",
        baseline_loss=baseline,
        baseline_metric=baseline,
    )


def _original(length: int) -> Task:
    check_length(
        length, least=2 * _FIRST_WINDOW, reason="the first half holds the first ten"
    )
    covered = 1 / _FIRST_WINDOW
    covered += (1 - covered) / (length // 2 - 1)
    return Task(
        sample=functools.partial(_sample_original, length),
        length=length + length // 10,
        input_size=2,
        output_size=1,
        kind="forecast",
        metric="fraction_within",
        baseline_loss=(2 - covered) / 48,
        baseline_metric=(1 - covered) * (0.16 - 0.16**2 / 4) + covered * 0.16,
    )


def _sample_original(length: int, key: Key) -> Example:
    value_key, length_key, first_key, second_key = jax.random.split(key, 4)
    time = jnp.arange(length + length // 10, dtype=jnp.int32)
    num_steps = jax.random.randint(length_key, (), length, time.size + 1, jnp.int32)
    values = jax.random.uniform(value_key, time.shape, jnp.float32, minval=-1, maxval=1)
    first = jax.random.randint(first_key, (), 0, _FIRST_WINDOW, jnp.int32)
    second = _unmarked(second_key, first, length // 2 - 1)
    ends = (time == 0) | (time == num_steps - 1)
    marks = ((time == first) | (time == second)) & ~ends
    target = 0.5 + jnp.sum(jnp.where(marks, values, 0)) / 4
    markers = jnp.where(ends, -1, marks.astype(jnp.float32))
    real = (time < num_steps)[:, None]
    inputs = jnp.where(real, jnp.stack([values, markers], axis=-1), 0)
    return _forecast(inputs, target, num_steps)


def _forecast(inputs: Array, target: Array, num_steps: int | Array) -> Example:
    one = jnp.ones((), jnp.float32)
    length = jnp.asarray(num_steps, jnp.int32)
    return Example(inputs, target[None], mask=one, scored=one, length=length)
