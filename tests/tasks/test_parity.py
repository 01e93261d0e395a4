import itertools

import jax
import numpy as np

from seqjax.tasks import parity, sample_batch


def test_running_labels_are_the_running_xor():
    batch = sample_batch(parity(5, "running"), jax.random.key(0), 400)
    bits = np.asarray(batch.inputs[..., 0]).astype(int)
    expected = [list(itertools.accumulate(row, lambda a, b: a ^ b)) for row in bits]
    np.testing.assert_array_equal(batch.targets, expected)
    assert len(np.unique(bits, axis=0)) == 32


def test_final_label_is_the_last_running_label():
    key = jax.random.key(1)
    final = sample_batch(parity(6), key, 50)
    running = sample_batch(parity(6, "running"), key, 50)
    np.testing.assert_array_equal(final.inputs, running.inputs)
    np.testing.assert_array_equal(final.targets, running.targets[:, -1])
    assert parity(6).kind == "classify"
    assert parity(6, "running").kind == "label"


def test_one_step_is_the_bit_itself():
    batch = sample_batch(parity(1), jax.random.key(2), 20)
    np.testing.assert_array_equal(batch.targets, batch.inputs[:, 0, 0])
