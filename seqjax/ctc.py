"""Connectionist temporal classification: labels of a sequence, their places unknown.

Every frame has a class, and class `BLANK` says nothing. An alignment, a class for each
frame, stands for the labels that are left when repeats are merged and then blanks are
dropped: `_ 3 3 _ 3 1` for 3 3 1. P(labels) is the sum of the probabilities of all
alignments that stand for them.

Labels are integers from 1 on; zeros fill up what is behind the end of a shorter
sequence, so that labels know their number themselves. That is why the blank is class 0
and not the last one.

References:
    Graves, Fernández, Gomez, Schmidhuber (2006), Connectionist temporal
    classification: labelling unsegmented sequence data with recurrent neural networks.
"""

import jax
import jax.numpy as jnp
import optax

from seqjax.array_types import Array
from seqjax.mesh import vary_alike

BLANK = 0
"""The class that says nothing, and what fills up labels."""

# ln 0 for sums in float32. That of optax, -1e5, is beaten by logits in the thousands.
_LOG_ZERO = -1e30


def log_probability(logits: Array, labels: Array, real: Array) -> Array:
    """Measures ln P(labels), in nats, where P is a sum over all alignments.

    Args:
        logits: `[*batch, time, classes]`, floating and finite.
        labels: `[*batch, labels]`, integers; zeros behind the end.
        real: Which frames are there, bool `[*batch, time]`; the first ones. Logits of
            others reach neither value nor gradient.

    Returns:
        `[*batch]`, float32 or wider. −∞ where there are fewer frames than the labels
        need; NaN where a label is no class, or stands behind the end.

    Example:
        >>> import jax.numpy as jnp
        >>> real = jnp.ones(2, bool)  # 1 of 1 1, 1 _ and _ 1: three of four alignments
        >>> print(jnp.exp(log_probability(jnp.zeros((2, 2)), jnp.array([1, 0]), real)))
        0.75
    """
    *batch, num_steps, num_classes = logits.shape
    logits = jnp.where(real[..., None], logits, 0)
    dtype = logits.dtype if jnp.finfo(logits.dtype).bits > 32 else jnp.float32
    # Of this optax makes the carry of its loop.
    logits, log_zero = vary_alike((logits, jnp.asarray(_LOG_ZERO, dtype)))
    # On accelerators the products by which optax picks log probabilities would round
    # them; float64 it mixes with float32.
    with jax.default_matmul_precision("highest"), jax.numpy_dtype_promotion("standard"):
        losses = optax.ctc_loss(
            logits.astype(dtype).reshape(-1, num_steps, num_classes),
            (~real).astype(dtype).reshape(-1, num_steps),
            labels.reshape(-1, labels.shape[-1]),
            (labels == BLANK).astype(dtype).reshape(-1, labels.shape[-1]),
            blank_id=BLANK,
            log_epsilon=log_zero,
        ).reshape(batch)
    losses = jnp.where(losses < -_LOG_ZERO / 10, losses, jnp.inf)
    there = labels != BLANK
    wrong = (labels < 0) | (labels >= num_classes)
    wrong |= there & ~jnp.cumprod(there, axis=-1).astype(bool)
    return jnp.where(jnp.any(wrong, axis=-1), jnp.nan, -losses)


def emitted(path: Array, real: Array) -> Array:
    """Marks the frames of an alignment that begin a label.

    Args:
        path: Classes, `[*batch, time]`, integers.
        real: Which frames are there, bool `[*batch, time]`; the first ones.

    Returns:
        bool `[*batch, time]`: the classes of these frames are the labels.

    Example:
        >>> import jax.numpy as jnp
        >>> path = jnp.array([0, 3, 3, 0, 3, 1, 1])
        >>> print(path[emitted(path, jnp.arange(7) < 6)])
        [3 3 1]
    """
    before = jnp.roll(path, 1, axis=-1).at[..., 0].set(BLANK)
    return real & (path != BLANK) & (path != before)


def edit_distance(path: Array, emits: Array, labels: Array) -> Array:
    """Counts the labels to insert, delete or replace until an answer is right.

    With D(t, j) for the first t frames and the first j labels, and E(t) labels in
    those frames:

    D(t, j) = min over s ≤ t of E(t) − E(s) + min(D(s, j−1) + 1,
                                                  D(s−1, j−1) + [pathₛ ≠ labelⱼ])

    where the last term is for frames s that begin a label.

    Args:
        path: Classes, `[*batch, time]`, integers.
        emits: Which of them are the answer, bool `[*batch, time]`.
        labels: The right ones, `[*batch, labels]`, integers; zeros behind the end.

    Returns:
        `[*batch]`, int32.

    References:
        Wagner, Fischer (1974), The string-to-string correction problem.

    Example:
        >>> import jax.numpy as jnp
        >>> answer, emits = jnp.array([3, 1, 4]), jnp.ones(3, bool)
        >>> print(edit_distance(answer, emits, jnp.array([3, 4, 4, 2])))
        2
    """
    start = ((0, 0),) * (path.ndim - 1) + ((1, 0),)
    count = jnp.pad(jnp.cumsum(emits, axis=-1, dtype=jnp.int32), start)
    far = path.shape[-1] + labels.shape[-1]

    def add_label(row: Array, label: Array) -> tuple[Array, None]:
        label = label[..., None]
        replaced = row[..., :-1] + (path != label).astype(jnp.int32)
        replaced = jnp.where(emits, replaced, far)
        best = jnp.minimum(row + 1, jnp.pad(replaced, start, constant_values=far))
        best = count + jax.lax.cummin(best - count, axis=path.ndim - 1)
        return jnp.where(label == BLANK, row, best), None

    row, _ = jax.lax.scan(add_label, count, jnp.moveaxis(labels, -1, 0))
    return row[..., -1]
