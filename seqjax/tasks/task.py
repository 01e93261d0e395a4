"""The `Task` record: a synthetic data set as a pure function of a key."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax

from seqjax.array_types import Array, Key, PyTree
from seqjax.made import Made


class Example(NamedTuple):
    """One sequence with what is asked of it, or a batch of them.

    `Task.kind` says how `targets` is read: "forecast" and "classify" ask one thing
    after the last real step, "label" asks one thing at every step, "transcribe" asks
    for a shorter sequence.

    Attributes:
        inputs: `[time, input]`, float32; zero from step `length` on. For a
            `Translator` the pair of what it reads, and `length` a pair, too.
        targets: forecast `[output]`, float32; classify a scalar, int32; label
            `[time]`, int32; transcribe `[labels]`, int32 from 1 on, zeros behind the
            end.
        mask: What the loss counts, float32: `[time]` for label and transcribe, else a
            scalar 1.
        scored: What the metric counts, shaped like `mask`.
        length: Number of real steps, a scalar, int32.
    """

    inputs: PyTree
    targets: Array
    mask: Array
    scored: Array
    length: PyTree


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Task(Made):
    """A synthetic task: how to draw an example, and what a blind guess scores.

    A task made by a factory of this package prints, compares and hashes by its call.

    Attributes:
        sample: `(key) -> Example`, pure and jittable; one sequence.
        length: Number of steps of `inputs`, padding included.
        input_size: Number of input features.
        output_size: Number of classes, or of forecast values.
        kind: "forecast", "classify" or "label".
        metric: "mean_squared_error", "fraction_within" or "accuracy"; the function
            of this name in `seqjax.losses`.
        baseline_loss: Expected loss of the best answer that ignores the inputs it
            would have to remember: mean squared error, or nats.
        baseline_metric: What the same answer scores on the metric.
    """

    sample: Callable[[Key], Example]
    length: int
    input_size: int
    output_size: int
    kind: str
    metric: str
    baseline_loss: float
    baseline_metric: float


def sample_batch(task: Task, key: Key, batch_size: int) -> Example:
    """Draws independent examples.

    Args:
        task: What to draw from.
        key: Consumed.
        batch_size: Number of examples.

    Returns:
        An `Example` whose leaves have a leading batch axis.

    Example:
        >>> import jax
        >>> from seqjax.tasks import adding
        >>> batch = sample_batch(adding(length=6), jax.random.key(0), batch_size=4)
        >>> batch.inputs.shape, batch.targets.shape, batch.length
        ((4, 6, 2), (4, 1), Array([6, 6, 6, 6], dtype=int32))
    """
    return jax.vmap(task.sample)(jax.random.split(key, batch_size))


def check_length(length: int, *, least: int, reason: str) -> None:
    """Requires a length that the definition of a task can be laid out in.

    Raises:
        ValueError: If `length` is not an int of at least `least`.

    Example:
        >>> check_length(3, least=10, reason="positions are tenths of the length")
        Traceback (most recent call last):
        ValueError: length: expected a whole number >= 10 (positions are tenths of \
the length), got 3
    """
    if isinstance(length, bool) or not isinstance(length, int) or length < least:
        raise ValueError(
            f"length: expected a whole number >= {least} ({reason}), got {length!r}"
        )
