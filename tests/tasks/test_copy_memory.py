import functools

import jax
import numpy as np
import pytest

from seqjax.tasks import copy_memory, sample_batch

DELAY = 7


@functools.cache
def _batch(**options):
    task = copy_memory(DELAY, **options)
    batch = jax.jit(lambda key: sample_batch(task, key, 500))(jax.random.key(0))
    return jax.tree.map(np.asarray, batch)


@pytest.mark.parametrize(
    ("delay", "expected"),
    [
        (100, 0.173287),
        (200, 0.094520),
        (300, 0.064983),
        (500, 0.039989),
        (1000, 0.020387),
        (2000, 0.010294),
    ],
)
def test_baseline_at_the_delays_of_the_literature(delay, expected):
    task = copy_memory(delay)
    # The published digits.
    assert abs(task.baseline_loss - expected) < 5e-7
    assert task.baseline_metric == 1 / 8
    assert task.length == delay + 20


@pytest.mark.parametrize(
    ("variant", "cues"),
    [("urnn", [16]), ("exprnn", [17]), ("tcn", list(range(16, 27)))],
)
def test_layout(variant, cues):
    batch = _batch(variant=variant)
    tokens = batch.inputs.argmax(-1)
    np.testing.assert_array_equal(batch.inputs.sum(-1), 1)
    letters = tokens[:, :10]
    assert set(letters.ravel()) == set(range(1, 9))
    others = np.zeros(17, int)
    others[np.asarray(cues) - 10] = 9
    np.testing.assert_array_equal(tokens[:, 10:], np.tile(others, (500, 1)))
    np.testing.assert_array_equal(batch.targets[:, :17], 0)
    np.testing.assert_array_equal(batch.targets[:, 17:], letters)


def test_letters_are_uniform_and_independent():
    letters = _batch().targets[:, -10:]
    counts = np.bincount(letters.ravel(), minlength=9)[1:]
    # Four standard deviations of a count with probability 1/8.
    assert np.abs(counts - 625).max() < 4 * (5000 * 7 / 64) ** 0.5
    repeats = np.mean(letters[:, 1:] == letters[:, :-1])
    assert abs(repeats - 1 / 8) < 4 * (7 / 64 / 4500) ** 0.5


def test_loss_counts_all_steps_and_metric_the_recall():
    batch = _batch()
    np.testing.assert_array_equal(batch.mask, 1)
    np.testing.assert_array_equal(batch.scored.sum(1), 10)
    np.testing.assert_array_equal(batch.scored[:, -10:], 1)


def test_scalar_encoding_is_the_token_as_a_number():
    scalar, one_hot = _batch(encoding="scalar"), _batch()
    np.testing.assert_array_equal(scalar.inputs[..., 0], one_hot.inputs.argmax(-1))
    np.testing.assert_array_equal(scalar.targets, one_hot.targets)
    assert copy_memory(DELAY, encoding="scalar").input_size == 1


def test_an_unknown_encoding_is_refused():
    with pytest.raises(ValueError, match="encoding: expected one of one_hot, scalar"):
        copy_memory(DELAY, encoding="onehot")
