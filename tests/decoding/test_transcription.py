"""Best path and prefix beam search, against all alignments and a search by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.decoding import best_path, prefix_beam_search
from tests.test_ctc import all_labels, collapse, draw, log_softmax

path_fn = jax.jit(best_path)
search = jax.jit(prefix_beam_search, static_argnums=1)


def labels_of(found, beam=()) -> tuple[int, ...]:
    labels = np.asarray(found.labels)[beam]
    count = int(np.asarray(found.length)[beam])
    assert not labels[count:].any()
    return tuple(labels[:count].tolist())


@pytest.mark.parametrize("seed", range(3))
def test_best_path_is_the_collapsed_argmax_with_all_its_alignments(seed):
    logits = draw(seed, 6, 3)
    for length in (None, 6, 4, 1):
        real = logits[:length]
        found = path_fn(logits, None if length is None else jnp.asarray(length))
        expected = collapse(np.argmax(real, axis=-1))
        assert labels_of(found) == expected
        # Float32 sums of logarithms of order ten.
        table = all_labels(real)
        assert found.log_prob == pytest.approx(np.log(table[expected]), rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_with_enough_beams_the_search_is_exhaustive(seed):
    logits = draw(seed, 5, 3)
    table = sorted(all_labels(logits).items(), key=lambda item: -item[1])
    found = search(logits, 64)
    real = np.isfinite(found.log_prob)
    assert real.sum() == len(table)
    assert real[: len(table)].all()
    got = [labels_of(found, i) for i in range(len(table))]
    assert got == [labels for labels, _ in table]
    expected = np.log([p for _, p in table])
    np.testing.assert_allclose(found.log_prob[: len(table)], expected, rtol=1e-5)


def total(parts) -> float:
    return float(np.logaddexp(parts[0], parts[1]))


def search_by_hand(logits, num_beams):
    """The search in float64, with a dictionary of beginnings."""
    beams: dict[tuple[int, ...], list[float]] = {(): [0.0, -np.inf]}
    for row in log_softmax(logits):
        found: dict[tuple[int, ...], list[float]] = {}

        def add(prefix, place, value, found=found):
            entry = found.setdefault(prefix, [-np.inf, -np.inf])
            entry[place] = float(np.logaddexp(entry[place], value))

        for prefix, (blank, label) in beams.items():
            whole = total((blank, label))
            add(prefix, 0, whole + row[0])
            for c in range(1, len(row)):
                if prefix and prefix[-1] == c:
                    add(prefix, 1, label + row[c])
                    add((*prefix, c), 1, blank + row[c])
                else:
                    add((*prefix, c), 1, whole + row[c])
        order = sorted(found, key=lambda p: -total(found[p]))[:num_beams]
        beams = {prefix: found[prefix] for prefix in order}
    return [(prefix, total(parts)) for prefix, parts in beams.items()]


@pytest.mark.parametrize("num_beams", [1, 2, 3, 7])
def test_few_beams_are_those_of_the_search_by_hand(num_beams):
    batch = draw(11, 20, 12, 4)
    lengths = jnp.arange(20) % 12 + 1
    found = jax.jit(
        jax.vmap(functools.partial(prefix_beam_search, num_beams=num_beams))
    )(batch, length=lengths)
    for row, (logits, length) in enumerate(zip(batch, lengths, strict=True)):
        expected = search_by_hand(logits[: int(length)], num_beams)
        for beam, (labels, log_prob) in enumerate(expected):
            assert labels_of(found, (row, beam)) == labels
            assert found.log_prob[row, beam] == pytest.approx(log_prob, abs=1e-4)
        assert np.isneginf(found.log_prob[row, len(expected) :]).all()


def test_many_unlikely_alignments_beat_one_likely():
    logits = jnp.log(jnp.array([[0.6, 0.4], [0.6, 0.4]]))
    assert labels_of(path_fn(logits)) == ()
    assert labels_of(search(logits, 2), 0) == (1,)


def test_a_number_of_beams_is_wanted():
    with pytest.raises(ValueError, match="num_beams: expected a whole number >= 1"):
        prefix_beam_search(jnp.zeros((2, 2)), 0)
