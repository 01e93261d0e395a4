import jax
import numpy as np
import pytest

from seqjax.tasks import delayed_xor, sample_batch

NUM, LENGTH, DELAY = 400, 7, 2


def _batch(variant):
    task = delayed_xor(LENGTH, variant, DELAY)
    batch = jax.jit(lambda key: sample_batch(task, key, NUM))(jax.random.key(0))
    return jax.tree.map(np.asarray, batch)


@pytest.mark.parametrize(("variant", "reach"), [("xor", 2), ("copy", 1)])
def test_targets_are_the_bits_of_before(variant, reach):
    batch = _batch(variant)
    bits, first = batch.inputs[..., 0].astype(int), reach * DELAY
    expected = np.zeros((NUM, LENGTH), int)
    for t in range(first, LENGTH):
        expected[:, t] = bits[:, t - DELAY]
        if variant == "xor":
            expected[:, t] ^= bits[:, t - 2 * DELAY]
    np.testing.assert_array_equal(batch.targets, expected)
    counted = np.arange(LENGTH)[None] >= first
    np.testing.assert_array_equal(batch.mask, np.broadcast_to(counted, (NUM, LENGTH)))
    np.testing.assert_array_equal(batch.scored, batch.mask)
    # 400 draws miss one of the 2⁷ rows of bits with probability 0.04 each, not most.
    assert len(np.unique(bits, axis=0)) > 100


def test_an_answer_owes_nothing_to_the_last_delay():
    batch = _batch("xor")
    bits, last = batch.inputs[..., 0], batch.targets[:, -1]
    for t in range(LENGTH - DELAY, LENGTH):
        agree = np.mean(bits[:, t] == last)
        # Four standard deviations of a fraction of fair coins.
        assert abs(agree - 0.5) < 4 * 0.5 / NUM**0.5


def test_the_delay_is_a_quarter_of_the_length():
    def first_answer(length):
        example = delayed_xor(length).sample(jax.random.key(0))
        return int(np.argmax(example.mask))

    assert [first_answer(length) for length in (3, 7, 8, 12)] == [2, 2, 4, 6]


@pytest.mark.parametrize(
    ("length", "variant", "delay", "message"),
    [
        (4, "xor", 2, r"^length: expected .* >= 5 \(answers begin after 2 times .* 2"),
        (2, "copy", 2, r"^length: expected .* >= 3 \(answers begin after 1 times"),
        (2, "xor", None, r"^length: expected .* >= 3 \(a bit is asked for"),
        (9, "xor", 0, r"^delay: expected .* >= 1, got 0"),
    ],
)
def test_a_delay_without_answers_is_refused(length, variant, delay, message):
    with pytest.raises(ValueError, match=message):
        delayed_xor(length, variant, delay)
