import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.tasks import adding, multiplication, sample_batch

NUM = 4000


@functools.cache
def _batch(task):
    return jax.jit(lambda key: sample_batch(task, key, NUM))(jax.random.key(0))


def _positions(batch):
    """The two marked steps of every sequence, in order."""
    rows, steps = np.nonzero(np.asarray(batch.inputs[..., 1]) == 1)
    assert np.array_equal(rows, np.repeat(np.arange(NUM), 2))
    return steps.reshape(NUM, 2)


def test_baseline_is_the_variance_of_a_sum_of_two_uniforms():
    # Not the 0.1767 that is sometimes printed.
    assert adding(100).baseline_loss == adding(100, "anywhere").baseline_loss == 1 / 6
    assert multiplication(100).baseline_loss == 7 / 144


@pytest.mark.parametrize("variant", ["halves", "anywhere"])
@pytest.mark.parametrize("make", [adding, multiplication])
def test_target_combines_the_marked_values(make, variant):
    batch = _batch(make(9, variant))
    rows = np.arange(NUM)
    first, second = _positions(batch).T
    values = np.asarray(batch.inputs[..., 0])
    combine = np.add if make is adding else np.multiply
    expected = combine(values[rows, first], values[rows, second])
    np.testing.assert_array_equal(batch.targets[:, 0], expected)
    assert values.min() >= 0
    assert values.max() < 1


def test_halves_marks_every_step_of_its_own_half():
    first, second = _positions(_batch(adding(9))).T
    assert set(first) == {0, 1, 2, 3}
    assert set(second) == {4, 5, 6, 7, 8}


def test_anywhere_marks_every_pair_equally_often():
    pairs = _positions(_batch(adding(5, "anywhere")))
    _, counts = np.unique(pairs, axis=0, return_counts=True)
    assert counts.size == 10
    # Four standard deviations of a count with probability 1/10.
    assert np.abs(counts - NUM / 10).max() < 4 * (NUM * 0.09) ** 0.5


def test_hochreiter_layout():
    batch = _batch(adding(40, "hochreiter"))
    markers = np.asarray(batch.inputs[..., 1])
    length = np.asarray(batch.length)
    assert set(length) == {40, 41, 42, 43, 44}
    assert markers.shape == (NUM, 44)
    ends = np.zeros_like(markers, bool)
    ends[:, 0] = True
    ends[np.arange(NUM), length - 1] = True
    np.testing.assert_array_equal(markers == -1, ends)
    assert set(np.nonzero(markers == 1)[1]) == set(range(1, 20))
    values = np.asarray(batch.inputs[..., 0])
    expected = 0.5 + np.where(markers == 1, values, 0).sum(1) / 4
    # One float32 rounding of a sum in another order.
    np.testing.assert_allclose(batch.targets[:, 0], expected, atol=1e-7)
    assert values.min() < -0.99


def test_hochreiter_marks_the_first_step_as_often_as_its_baseline_says():
    batch = _batch(adding(40, "hochreiter"))
    marks = np.asarray(batch.inputs[..., 1] == 1).sum(1)
    covered = 1 / 10 + 9 / 10 / 19
    assert set(marks) == {1, 2}
    # Four standard deviations of a fraction of NUM draws.
    allowed = 4 * (covered * (1 - covered) / NUM) ** 0.5
    assert abs(np.mean(marks == 1) - covered) < allowed
    assert adding(40, "hochreiter").baseline_loss == (2 - covered) / 48


def test_hochreiter_baseline_tends_to_the_variance_over_all_lengths():
    # 1/24 but for the covered first mark, (2 − 1/10)/48 in the limit.
    assert adding(10**9, "hochreiter").baseline_loss == pytest.approx(1.9 / 48)


def test_hochreiter_first_mark_is_among_the_first_ten():
    markers = jnp.asarray(_batch(adding(40, "hochreiter")).inputs[..., 1])
    early = jnp.sum(markers[:, 1:10] == 1, axis=1)
    covered = jnp.sum(markers == 1, axis=1) == 1
    assert jnp.all((early >= 1) | covered)
