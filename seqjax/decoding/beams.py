"""Beam search: the likeliest sequences that a few hypotheses at a time can find."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, PyTree
from seqjax.checks import check_positive
from seqjax.decoding.generation import Step
from seqjax.decoding.sampling import at_least_float32


class Beams(NamedTuple):
    """Hypotheses, the best one first.

    Attributes:
        tokens: `[beams, max_length]`, int32; end tokens after the end.
        lengths: Tokens of each, the end token included, `[beams]`, int32.
        log_probs: Σ ln P(token | those before), `[beams]`; -inf where there are fewer
            sequences than beams.
        scores: What they are ranked by: log_probs / penalty(lengths), `[beams]`.
    """

    tokens: Array
    lengths: Array
    log_probs: Array
    scores: Array


class _Search(NamedTuple):
    """The search after some tokens; leaves of all but the first have a beam axis.

    Attributes:
        length: Tokens of each open hypothesis.
        carry: Carries of the open hypotheses.
        last: Their last tokens.
        tokens: Their tokens, `[beams, max_length]`.
        log_probs: Their log probabilities; -inf for those that do not exist.
        done: The best hypotheses that have ended.
    """

    length: Array
    carry: PyTree
    last: Array
    tokens: Array
    log_probs: Array
    done: Beams


def beam_search(
    step: Step,
    carry: PyTree,
    start: Array,
    num_beams: int,
    max_length: int,
    end: int,
    length_penalty: float = 0.0,
) -> Beams:
    """Searches sequences of high probability that end in `end` or are cut.

    score = Σ ln P(token | those before) / ((5 + length) / 6)^length_penalty

    The `num_beams` likeliest open hypotheses are followed; every one that ends is
    compared with the best `num_beams` ended ones. At `max_length` tokens those that are
    still open are cut and count as ended. The search stops where no open hypothesis can
    reach a better score any more, so that the result is that of going on.

    Args:
        step: As in `generate`.
        carry: Enters the first step.
        start: Token that the first step reads, a scalar, int32.
        num_beams: Hypotheses that are followed, and returned.
        max_length: Most tokens of a hypothesis, the end token included.
        end: The token after which nothing follows.
        length_penalty: 0 ranks by probability, which favours short sequences; 1 about
            by the mean over the tokens.

    Returns:
        The best hypotheses; the best of all sequences where `num_beams` is at least
        (vocab − 1)^max_length.

    Raises:
        ValueError: If a size is not positive or `length_penalty` is negative.

    References:
        Wu and others (2016), Google's neural machine translation system: bridging the
        gap between human and machine translation (the penalty, equation 14).

    Example:
        >>> import jax.numpy as jnp
        >>> P = jnp.array([[0.0, 0.6, 0.4], [0.5, 0.3, 0.2], [0.9, 0.1, 0.0]])
        >>> step = lambda carry, token: (carry, jnp.log(P[token]))
        >>> start = jnp.asarray(0, jnp.int32)
        >>> beams = beam_search(step, (), start, num_beams=2, max_length=3, end=0)
        >>> print(beams.tokens)  # the greedy one is second
        [[2 0 0]
         [1 0 0]]
        >>> [round(float(p), 2) for p in jnp.exp(beams.log_probs)]
        [0.36, 0.3]
    """
    check_positive(num_beams=num_beams, max_length=max_length)
    if not (length_penalty >= 0 and math.isfinite(length_penalty)):
        raise ValueError(
            f"length_penalty: expected a number of at least 0, got {length_penalty!r}"
        )

    def scored(log_probs: Array, length: Array) -> Array:
        return log_probs / ((5 + length.astype(log_probs.dtype)) / 6) ** length_penalty

    def hypotheses(tokens: Array, length: Array, log_probs: Array) -> Beams:
        lengths = jnp.full(num_beams, length)
        return Beams(tokens, lengths, log_probs, scored(log_probs, lengths))

    def follow(state: _Search) -> _Search:
        carries, logits = jax.vmap(step)(state.carry, state.last)
        log_probs = jax.nn.log_softmax(at_least_float32(logits))
        log_probs = state.log_probs[:, None] + log_probs
        length = state.length + 1
        ends = hypotheses(state.tokens, length, log_probs[:, end])
        log_probs = log_probs.at[:, end].set(-jnp.inf)
        best, flat = jax.lax.top_k(log_probs.ravel(), num_beams)
        parents, last = jnp.divmod(flat.astype(jnp.int32), logits.shape[-1])
        tokens = state.tokens[parents].at[:, state.length].set(last)
        carries = jax.tree.map(lambda leaf: leaf[parents], carries)
        return _Search(length, carries, last, tokens, best, _best(state.done, ends))

    def unfinished(state: _Search) -> Array:
        # Log probabilities fall and the penalty grows: no open one ends above this.
        bound = scored(jnp.max(state.log_probs), jnp.asarray(max_length))
        return (state.length < max_length) & (bound > jnp.min(state.done.scores))

    _, logits = jax.eval_shape(step, carry, start)
    dtype = jax.eval_shape(at_least_float32, logits).dtype
    tokens = jnp.full((num_beams, max_length), end, jnp.int32)
    none = jnp.full(num_beams, -jnp.inf, dtype)
    zero = jnp.asarray(0, jnp.int32)
    first = _Search(
        length=zero,
        carry=_repeat(carry, num_beams),
        last=_repeat(start, num_beams),
        tokens=tokens,
        log_probs=none.at[0].set(0),
        done=hypotheses(tokens, zero, none),
    )
    state = jax.lax.while_loop(unfinished, follow, first)
    # Where the search stopped before, what is open is below the bound and stays out.
    cut = hypotheses(state.tokens, state.length, state.log_probs)
    return _best(state.done, cut)


def _repeat(tree: PyTree, num_beams: int) -> PyTree:
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (num_beams, *jnp.shape(leaf))), tree
    )


def _best(done: Beams, new: Beams) -> Beams:
    """The best half of two sets of hypotheses; of equal ones those of `done` first."""
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), done, new)
    _, chosen = jax.lax.top_k(both.scores, done.scores.shape[0])
    return jax.tree.map(lambda leaf: leaf[chosen], both)
