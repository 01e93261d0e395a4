import math

import jax
import numpy as np
import pytest

from seqjax.tasks import long_sentence, sample_batch

NUM, LENGTH, CUES = 2000, 5, 3


def _words(variant):
    task = long_sentence(LENGTH, variant, num_cues=CUES)
    batch = jax.jit(lambda key: sample_batch(task, key, NUM))(jax.random.key(0))
    batch = jax.tree.map(np.asarray, batch)
    np.testing.assert_array_equal(batch.inputs.sum(-1), 1)
    return batch.inputs.argmax(-1), batch.targets


@pytest.mark.parametrize(("variant", "num"), [("random_fillers", 8), ("one_filler", 1)])
def test_a_cue_fillers_and_a_question_mark(variant, num):
    words, targets = _words(variant)
    np.testing.assert_array_equal(words[:, 0], targets)
    assert set(words[:, 1:-1].ravel()) == set(range(CUES, CUES + num))
    np.testing.assert_array_equal(words[:, -1], CUES + num)
    assert long_sentence(LENGTH, variant, CUES).input_size == CUES + num + 1


def test_cues_are_uniform_and_fillers_do_not_tell_them():
    words, targets = _words("random_fillers")
    counts = np.bincount(targets, minlength=CUES)
    # Four standard deviations of a count with probability 1/3.
    assert np.abs(counts - NUM / CUES).max() < 4 * (NUM * 2 / 9) ** 0.5
    for step in range(1, LENGTH - 1):
        table = np.zeros((CUES, 8))
        np.add.at(table, (targets, words[:, step] - CUES), 1)
        # Each of the 24 pairs with probability 1/24; four standard deviations.
        assert np.abs(table - NUM / 24).max() < 4 * (NUM * 23 / 24**2) ** 0.5


def test_baseline_is_the_logarithm_of_the_number_of_cues():
    task = long_sentence(9, num_cues=5)
    assert task.baseline_loss == math.log(5)
    assert task.baseline_metric == 1 / 5
    assert task.output_size == 5


def test_two_words_are_the_shortest_sentence():
    example = long_sentence(2).sample(jax.random.key(0))
    assert example.inputs.argmax(-1).tolist() == [int(example.targets), 10]


def test_one_cue_is_refused():
    with pytest.raises(ValueError, match=r"^num_cues: expected at least 2, got 1; "):
        long_sentence(9, num_cues=1)
