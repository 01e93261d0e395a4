"""From the logits of frames to labels, as `seqjax.ctc` reads them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array
from seqjax.checks import check_positive
from seqjax.ctc import BLANK, emitted, log_probability
from seqjax.decoding.sampling import at_least_float32


class Transcript(NamedTuple):
    """Labels of one sequence; of a search, leaves have a leading beam axis.

    Attributes:
        labels: `[time]`, int32, from 1 on; zeros behind the end.
        length: Number of labels, a scalar, int32.
        log_prob: ln P(labels), a sum over alignments.
    """

    labels: Array
    length: Array
    log_prob: Array


def best_path(logits: Array, length: Array | None = None) -> Transcript:
    """Returns the labels that the likeliest class of every frame stands for.

    They need not be the likeliest labels, whose many alignments may each be unlikely.

    Args:
        logits: `[time, classes]`, floating; class 0 is the blank.
        length: Real frames, a scalar; all if None.

    Returns:
        The labels, with their probability over all their alignments.

    Example:
        >>> import jax.numpy as jnp
        >>> logits = 9 * jnp.eye(4)[jnp.array([0, 3, 3, 0, 3, 1])]
        >>> found = best_path(logits)
        >>> print(found.labels, found.length, f"{jnp.exp(found.log_prob):.3f}")
        [3 3 1 0 0 0] 3 0.998
    """
    num_steps = logits.shape[0]
    steps = jnp.arange(num_steps, dtype=jnp.int32)
    real = jnp.full(num_steps, True) if length is None else steps < length
    path = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    begins = emitted(path, real)
    # What begins no label is sent past the end.
    places = jnp.where(begins, jnp.cumsum(begins, dtype=jnp.int32) - 1, num_steps)
    labels = jnp.full(num_steps, BLANK, jnp.int32).at[places].set(path, mode="drop")
    count = jnp.sum(begins, dtype=jnp.int32)
    return Transcript(labels, count, log_probability(logits, labels, real))


class _Prefixes(NamedTuple):
    """Beams after some frames; all leaves have a beam axis.

    Attributes:
        labels: `[beams, time]`.
        length: Labels of each.
        blank: ln P of the alignments of these labels that end in a blank.
        label: ln P of those that end in the last label.
    """

    labels: Array
    length: Array
    blank: Array
    label: Array


def prefix_beam_search(
    logits: Array, num_beams: int, length: Array | None = None
) -> Transcript:
    """Searches likely labels, adding up the alignments that stand for the same ones.

    After every frame the `num_beams` likeliest beginnings are kept, each with the sum
    of its alignments whose beginnings were all kept.

    Args:
        logits: `[time, classes]`, floating; class 0 is the blank.
        num_beams: Beginnings that are kept, and results.
        length: Real frames, a scalar; all if None.

    Returns:
        The likeliest labels first, leaves `[beams, ...]`. Their probability is exact
        where no beginning was dropped, else it may be too small; it is 0 where there
        are fewer labellings than beams.

    Raises:
        ValueError: If `num_beams` is not positive.

    References:
        Hannun, Maas, Jurafsky, Ng (2014), First-pass large vocabulary continuous speech
        recognition using bi-directional recurrent DNNs.

    Example:
        >>> import jax.numpy as jnp
        >>> logits = jnp.log(jnp.array([[0.6, 0.4], [0.6, 0.4]]))
        >>> found = prefix_beam_search(logits, num_beams=2)
        >>> print(found.length)  # the best path, of no label, is second
        [1 0]
        >>> [round(float(p), 2) for p in jnp.exp(found.log_prob)]
        [0.64, 0.36]
    """
    check_positive(num_beams=num_beams)
    num_steps, num_classes = logits.shape
    log_probs = jax.nn.log_softmax(at_least_float32(logits))
    steps = jnp.arange(num_steps, dtype=jnp.int32)
    never = jnp.full(num_beams, -jnp.inf, log_probs.dtype)
    first = _Prefixes(
        labels=jnp.full((num_beams, num_steps), BLANK, jnp.int32),
        length=jnp.zeros(num_beams, jnp.int32),
        blank=never.at[0].set(0),
        label=never,
    )

    def read(beams: _Prefixes, frame: tuple[Array, Array]) -> tuple[_Prefixes, None]:
        log_probs, step = frame
        whole = jnp.logaddexp(beams.blank, beams.label)
        last = jnp.take_along_axis(
            beams.labels, jnp.maximum(beams.length - 1, 0)[:, None], axis=1
        )[:, 0]
        # The last label again is a new one only behind a blank.
        repeats = last[:, None] == jnp.arange(num_classes, dtype=jnp.int32)[None]
        before = jnp.where(repeats, beams.blank[:, None], whole[:, None])
        longer = (before + log_probs[None]).at[:, BLANK].set(-jnp.inf)
        # Both ways to the labels of a child meet.
        same = _is_child(beams, whole)
        joined = jnp.where(same, longer[:, last], -jnp.inf)
        stays = _Prefixes(
            beams.labels,
            beams.length,
            whole + log_probs[BLANK],
            jnp.logaddexp(beams.label + log_probs[last], jnp.max(joined, axis=0)),
        )
        taken = jnp.any(same[:, :, None] & repeats[None], axis=1)
        longer = jnp.where(taken, -jnp.inf, longer)
        found = _likeliest(stays, longer)
        real = True if length is None else step < length
        return jax.tree.map(lambda a, b: jnp.where(real, a, b), found, beams), None

    beams, _ = jax.lax.scan(read, first, (log_probs, steps))
    whole = jnp.logaddexp(beams.blank, beams.label)
    whole, order = jax.lax.top_k(whole, num_beams)
    return Transcript(beams.labels[order], beams.length[order], whole)


def _is_child(beams: _Prefixes, whole: Array) -> Array:
    """Whether a beam is another one with one more label, `[parent, child]`.

    No labels are a child of themselves, which adds nothing: blanks make nothing longer.
    """
    places = jnp.arange(beams.labels.shape[1], dtype=jnp.int32)
    ends = places[None] == beams.length[:, None] - 1
    shorter = jnp.where(ends, BLANK, beams.labels)
    equal = jnp.all(beams.labels[:, None] == shorter[None], axis=-1)
    return equal & (whole > -jnp.inf)[None]


def _likeliest(stays: _Prefixes, longer: Array) -> _Prefixes:
    """The best of beams as they are, and with one more label, `[beams, classes]`."""
    num_beams, num_classes = longer.shape
    whole = jnp.logaddexp(stays.blank, stays.label)
    candidates = jnp.concatenate([whole[:, None], longer], axis=1)
    best, flat = jax.lax.top_k(candidates.ravel(), num_beams)
    parents, choice = jnp.divmod(flat.astype(jnp.int32), num_classes + 1)
    grows = choice > 0
    length = stays.length[parents]
    places = jnp.arange(stays.labels.shape[1], dtype=jnp.int32)
    ends = grows[:, None] & (places[None] == length[:, None])
    return _Prefixes(
        jnp.where(ends, choice[:, None] - 1, stays.labels[parents]),
        length + grows.astype(jnp.int32),
        jnp.where(grows, -jnp.inf, stays.blank[parents]),
        jnp.where(grows, best, stays.label[parents]),
    )
