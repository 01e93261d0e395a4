"""The copy memory problem."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, Key
from seqjax.checks import check_choice
from seqjax.made import factory
from seqjax.tasks.task import Example, Task, check_length

_BLANK = 0
_NUM_LETTERS = 8  # tokens 1 to 8
_CUE = 9
_NUM_TOKENS = 10
_NUM_RECALLED = 10


class _Cue(NamedTuple):
    """Where the cue begins, counted from the first recalled symbol, and its width."""

    offset: int
    width: int


_CUES = {
    "urnn": _Cue(offset=-1, width=1),
    "exprnn": _Cue(offset=0, width=1),
    "tcn": _Cue(offset=-1, width=_NUM_RECALLED + 1),
}


@factory
def copy_memory(length: int, variant: str = "urnn", encoding: str = "one_hot") -> Task:
    """Asks for ten symbols back after a long wait.

    Ten symbols, uniform on 1 to 8, then blanks (0) with a cue (9) somewhere near the
    end. The answer is a blank at each of the first T + 10 steps, then the ten symbols.

    - "urnn": one cue, one step before the recall begins.
    - "exprnn": one cue, on the step where the recall begins, one step later.
    - "tcn": eleven cues, from one step before the recall to the end.

    The loss counts every step, the metric only the ten recalled symbols: over all steps
    the blank answer alone is right in (T + 10)/(T + 20) of them. The best answer
    without memory knows when to recall, not what: ten times ln 8 nats over T + 20
    steps, 10 ln 8/(T + 20), and 1/8 of the symbols right.

    Args:
        length: The wait T, steps. `Task.length`, the number of steps, is T + 20.
        variant: "urnn", "exprnn" or "tcn".
        encoding: "one_hot" (10 inputs) or "scalar" (1 input: the token as a number,
            much harder).

    Returns:
        A label task with 9 classes.

    Raises:
        ValueError: If an option is unknown or `length` is below 1.

    References:
        Hochreiter, Schmidhuber (1997), Long short-term memory (the idea).
        Arjovsky, Shah, Bengio (2016), Unitary evolution recurrent neural networks
        ("urnn"). Lezcano-Casado, Martínez-Rubio (2019), Cheap orthogonal constraints
        in neural networks ("exprnn"). Bai, Kolter, Koltun (2018), An empirical
        evaluation of generic convolutional and recurrent networks for sequence
        modeling ("tcn").

    Example:
        >>> import jax
        >>> task = copy_memory(length=3)
        >>> example = task.sample(jax.random.key(0))
        >>> print(example.inputs.argmax(-1))
        [6 1 1 6 4 4 1 8 6 4 0 0 9 0 0 0 0 0 0 0 0 0 0]
        >>> print(example.targets)
        [0 0 0 0 0 0 0 0 0 0 0 0 0 6 1 1 6 4 4 1 8 6 4]
    """
    check_length(length, least=1, reason="the wait has at least one step")
    check_choice("variant", variant, _CUES)
    check_choice("encoding", encoding, ("one_hot", "scalar"))
    num_steps = length + 2 * _NUM_RECALLED
    recall_start = length + _NUM_RECALLED
    cue_start = recall_start + _CUES[variant].offset
    cue_end = cue_start + _CUES[variant].width

    def sample(key: Key) -> Example:
        letters = jax.random.randint(
            key, (_NUM_RECALLED,), 1, _NUM_LETTERS + 1, jnp.int32
        )
        blanks = jnp.full(num_steps, _BLANK, jnp.int32)
        tokens = blanks.at[:_NUM_RECALLED].set(letters).at[cue_start:cue_end].set(_CUE)
        ones = jnp.ones(num_steps, jnp.float32)
        return Example(
            inputs=_encode(tokens, encoding),
            targets=blanks.at[recall_start:].set(letters),
            mask=ones,
            scored=ones.at[:recall_start].set(0),
            length=jnp.asarray(num_steps, jnp.int32),
        )

    return Task(
        sample=sample,
        length=num_steps,
        input_size=_NUM_TOKENS if encoding == "one_hot" else 1,
        output_size=_NUM_LETTERS + 1,
        kind="label",
        metric="accuracy",
        baseline_loss=_NUM_RECALLED * math.log(_NUM_LETTERS) / num_steps,
        baseline_metric=1 / _NUM_LETTERS,
    )


def _encode(tokens: Array, encoding: str) -> Array:
    if encoding == "scalar":
        return tokens[:, None].astype(jnp.float32)
    return jax.nn.one_hot(tokens, _NUM_TOKENS, dtype=jnp.float32)
