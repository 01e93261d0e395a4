"""A sentence whose first word decides, asked about at its end."""

import math

import jax
import jax.numpy as jnp

from seqjax.array_types import Key
from seqjax.checks import check_choice
from seqjax.made import factory
from seqjax.tasks.task import Example, Task, check_length

_NUM_FILLERS = 8


@factory
def long_sentence(
    length: int, variant: str = "random_fillers", num_cues: int = 2
) -> Task:
    """Asks at the end of a sentence which word it began with.

    The tutorials' account of forgetting: a cue word, `length` − 2 filler words, and a
    question mark. The class is the number of the cue, each equally likely, so that an
    answer without memory costs ln `num_cues` nats and is right in 1 of `num_cues`
    cases. The plainest task of long memory: one thing to keep, and nothing to find.

    - "random_fillers": fillers uniform on eight words.
    - "one_filler": the same word all along, so that nothing disturbs the memory.

    Args:
        length: Number of words, at least 2.
        variant: "random_fillers" or "one_filler".
        num_cues: Number of cue words, at least 2.

    Returns:
        A classify task; inputs one-hot over the cues, the fillers and the question
        mark, in this order.

    Raises:
        ValueError: If `variant` is unknown or a number is too small.

    References:
        Bengio, Simard, Frasconi (1994), Learning long-term dependencies with gradient
        descent is difficult (its latch problem: the class stands at the beginning).

    Example:
        >>> import jax
        >>> example = long_sentence(length=6).sample(jax.random.key(0))
        >>> words = ("yes", "no", *"abcdefgh", "?")
        >>> " ".join(words[i] for i in example.inputs.argmax(-1))
        'no g a h d ?'
        >>> int(example.targets)
        1
    """
    fillers = {"random_fillers": _NUM_FILLERS, "one_filler": 1}
    check_choice("variant", variant, fillers)
    check_length(length, least=2, reason="a cue and a question mark")
    if num_cues < 2:
        raise ValueError(
            f"num_cues: expected at least 2, got {num_cues}; one leaves nothing to ask"
        )
    num_fillers = fillers[variant]
    question = num_cues + num_fillers

    def sample(key: Key) -> Example:
        cue_key, filler_key = jax.random.split(key)
        cue = jax.random.randint(cue_key, (), 0, num_cues, jnp.int32)
        words = jax.random.randint(filler_key, (length,), num_cues, question, jnp.int32)
        words = words.at[0].set(cue).at[-1].set(question)
        one = jnp.ones((), jnp.float32)
        return Example(
            inputs=jax.nn.one_hot(words, question + 1, dtype=jnp.float32),
            targets=cue,
            mask=one,
            scored=one,
            length=jnp.asarray(length, jnp.int32),
        )

    return Task(
        sample=sample,
        length=length,
        input_size=question + 1,
        output_size=num_cues,
        kind="classify",
        metric="accuracy",
        baseline_loss=math.log(num_cues),
        baseline_metric=1 / num_cues,
    )
