import jax
import numpy as np
import pytest

from seqjax.tasks import sample_batch, temporal_order

NUM = 3000
E, B, X, Y = 0, 1, 6, 7


def _batch(length, variant):
    task = temporal_order(length, variant)
    batch = jax.jit(lambda key: sample_batch(task, key, NUM))(jax.random.key(0))
    return jax.tree.map(np.asarray, batch)


def _signals(batch, count):
    """Steps and symbols of X and Y, `[NUM, count]` each."""
    tokens = np.where(batch.inputs.any(-1), batch.inputs.argmax(-1), -1)
    rows, steps = np.nonzero(tokens >= X)
    assert np.array_equal(rows, np.repeat(np.arange(NUM), count))
    steps = steps.reshape(NUM, count)
    return tokens, steps, np.take_along_axis(tokens, steps, axis=1)


@pytest.mark.parametrize(
    ("length", "variant", "windows"),
    [
        (100, "6a", [(10, 20), (50, 60)]),
        (100, "6b", [(10, 20), (33, 43), (66, 76)]),
        (30, "6b", [(3, 6), (9, 12), (19, 22)]),
    ],
)
def test_signals_fill_their_windows_and_spell_the_class(length, variant, windows):
    batch = _batch(length, variant)
    _, steps, symbols = _signals(batch, len(windows))
    for column, (least, most) in zip(steps.T, windows, strict=True):
        assert set(column) == set(range(least, most + 1))
    spelled = ["".join("XY"[s - X] for s in row) for row in symbols]
    order = sorted(set(spelled))
    assert len(order) == 2 ** len(windows)
    np.testing.assert_array_equal(batch.targets, [order.index(s) for s in spelled])


def test_everything_else_is_the_frame_and_distractors():
    batch = _batch(20, "6a")
    tokens, steps, _ = _signals(batch, 2)
    rows = np.arange(NUM)
    assert set(batch.length) == {20, 21, 22}
    np.testing.assert_array_equal(tokens[:, 0], E)
    np.testing.assert_array_equal(tokens[rows, batch.length - 1], B)
    inner = tokens.copy()
    inner[:, 0] = inner[rows, batch.length - 1] = -1
    np.put_along_axis(inner, steps, -1, axis=1)
    counts = np.bincount(inner[inner >= 0])
    assert counts.size == 6
    assert not counts[:2].any()
    # Four standard deviations of a count with probability 1/4.
    allowed = 4 * (counts.sum() * 3 / 16) ** 0.5
    assert np.abs(counts[2:] - counts.sum() / 4).max() < allowed


@pytest.mark.parametrize(("variant", "classes"), [("6a", 4), ("6b", 8)])
def test_baseline_is_the_uniform_guess(variant, classes):
    task = temporal_order(100, variant)
    assert task.output_size == classes
    assert task.baseline_metric == 1 / classes
    assert task.baseline_loss == pytest.approx(np.log(classes), rel=1e-15)
    assert task.length == 110


@pytest.mark.parametrize("variant", ["6a", "6b"])
def test_the_shortest_length_still_has_room(variant):
    batch = _batch(10, variant)
    tokens, _, _ = _signals(batch, 2 if variant == "6a" else 3)
    np.testing.assert_array_equal((tokens == B).sum(1), 1)
