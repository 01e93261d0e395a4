"""Batches of stored sequences: nothing is lost, nothing counts twice."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.datasets.sequences import (
    Ragged,
    SequenceData,
    Sequences,
    constant_answer,
)
from experiments.runs.sources import Source, stored_source

RNG = np.random.default_rng(0)
LENGTHS = {"train": RNG.integers(1, 30, 103), "valid": RNG.integers(1, 40, 17)}
LENGTHS["test"] = RNG.integers(1, 30, 23)


def make_data(kind: str = "classify") -> SequenceData:
    """Sequence i of a split holds its number in every step, and asks for it."""
    splits = {}
    for split, lengths in LENGTHS.items():
        inputs = [np.full(n, i + 1, np.int32) for i, n in enumerate(lengths)]
        targets: Any = np.arange(1, len(lengths) + 1, dtype=np.int32)
        if kind == "label":
            targets = Ragged.from_list(inputs)
        splits[split] = Sequences(Ragged.from_list(inputs), targets)
    return SequenceData(
        name="numbers",
        kind=kind,
        metric="accuracy",
        input_size=0,
        output_size=200,
        baseline_loss=0.0,
        baseline_metric=0.0,
        splits=splits,
        vocabulary=tuple(map(str, range(200))),
    )


def make_source(num_buckets: int, max_length: int = 0, **changes: Any) -> Source:
    arguments: dict[str, Any] = {"batch_size": 8, "seed": 3} | changes
    return stored_source(
        make_data(), max_length=max_length, num_buckets=num_buckets, **arguments
    )


def test_take_pads_with_zeros_and_cuts() -> None:
    ragged = Ragged.from_list([np.array([1, 2, 3]), np.array([4]), np.array([5, 6])])
    taken = ragged.take(np.array([2, 0, 1]), 2)
    np.testing.assert_array_equal(taken, [[5, 6], [1, 2], [4, 0]])
    np.testing.assert_array_equal(ragged.lengths, [3, 1, 2])
    features = Ragged.from_array(np.arange(12).reshape(2, 3, 2))
    taken = features.take(np.array([1]), 4)
    np.testing.assert_array_equal(taken[0], [[6, 7], [8, 9], [10, 11], [0, 0]])


@pytest.mark.parametrize("num_buckets", [1, 4])
def test_an_epoch_shows_every_sequence_once(num_buckets: int) -> None:
    source = make_source(num_buckets)
    shown: list[int] = []
    step = 0
    while True:
        raw = source.train_batch(step)
        if set(raw.targets) & set(shown):
            break
        shown += raw.targets.tolist()
        assert raw.inputs.shape[1] >= raw.lengths.max()
        for row, target, length in zip(*raw[:3], strict=True):
            assert row.tolist() == [target] * length + [0] * (len(row) - length)
        step += 1
    # What does not fill a batch of its bucket is left out.
    assert len(shown) == 8 * step > 103 - 8 * num_buckets
    np.testing.assert_array_equal(
        source.train_batch(step).targets, make_source(num_buckets).train_batch(step)[1]
    )
    other = make_source(num_buckets, seed=4).train_batch(0)
    assert set(other.targets) != set(source.train_batch(0).targets)


def test_buckets_waste_less_and_mix_in_time() -> None:
    def wasted(num_buckets: int) -> float:
        source = make_source(num_buckets)
        raws = [source.train_batch(step) for step in range(8)]
        real = sum(raw.lengths.sum() for raw in raws)
        return 1 - real / sum(raw.inputs.size for raw in raws)

    assert wasted(6) < wasted(1) / 2
    source = make_source(6)
    widths = [source.train_batch(step).inputs.shape[1] for step in range(8)]
    assert widths != sorted(widths)
    assert len(set(widths)) > 2


@pytest.mark.parametrize("num_buckets", [1, 3])
@pytest.mark.parametrize("split", ["valid", "test"])
def test_evaluation_counts_every_sequence_once(num_buckets: int, split: str) -> None:
    source = make_source(num_buckets)
    counted: list[int] = []
    for raw, count in source.eval_batches(split, 0):
        assert len(raw.targets) == 8
        counted += raw.targets[:count].tolist()
    assert sorted(counted) == list(range(1, len(LENGTHS[split]) + 1))
    some = [
        target
        for raw, count in source.eval_batches(split, 5)
        for target in raw.targets[:count].tolist()
    ]
    # Five, evenly from the whole split.
    assert sorted(some) == [1 + i * len(LENGTHS[split]) // 5 for i in range(5)]


@pytest.mark.parametrize("num_buckets", [1, 4])
def test_every_batch_has_one_of_the_shapes(num_buckets: int) -> None:
    source = make_source(num_buckets)
    shapes = [raw.inputs.shape for raw in source.shapes]
    assert shapes == sorted(shapes, reverse=True)
    longest = max(int(lengths.max()) for lengths in LENGTHS.values())
    assert shapes[0][1] == source.length == longest
    raws = [source.train_batch(step) for step in range(20)]
    raws += [raw for split in LENGTHS for raw, _ in source.eval_batches(split, 0)]
    assert {raw.inputs.shape for raw in raws} <= set(shapes)
    assert source.probe_batch.inputs.shape == shapes[0]


def test_long_sequences_are_cut() -> None:
    source = make_source(2, max_length=10)
    raw = source.shapes[0]
    assert source.length == raw.inputs.shape[1] == 10
    raws = [source.train_batch(step) for step in range(8)]
    assert max(raw.lengths.max() for raw in raws) == 10


def test_too_large_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="--batch_size=500: expected at most 103"):
        make_source(1, batch_size=500)


def test_masks_count_real_steps_that_are_scored() -> None:
    data = make_data("label")
    unscored = np.minimum(LENGTHS["test"], 2)
    test = data.splits["test"]._replace(unscored=unscored)
    splits = {**data.splits, "test": test}
    data = SequenceData(**data.description(), splits=splits)
    source = stored_source(data, batch_size=8, seed=0, max_length=0, num_buckets=1)
    raw, _ = next(source.eval_batches("test", 0))
    example = jax.jit(source.expand)(raw)
    expected = [[2 <= t < n for t in range(source.length)] for n in raw.lengths]
    np.testing.assert_array_equal(example.mask, np.array(expected, np.float32))
    train = source.expand(source.train_batch(0))
    assert float(train.mask.sum()) == float(train.length.sum())


def test_bytes_are_pixels_and_flags_are_numbers() -> None:
    data = make_data()
    for dtype, expected in ((np.uint8, 1 / 255), (bool, 1.0), (np.float32, 1.0)):
        inputs = Ragged.from_array(np.ones((20, 3, 2), dtype))
        split = Sequences(inputs, np.zeros(20, np.int32))
        splits: dict[str, Sequences] = dict.fromkeys(("train", "valid", "test"), split)
        some = SequenceData(**data.description(), splits=splits)
        source = stored_source(some, batch_size=4, seed=0, max_length=0, num_buckets=1)
        inputs = source.expand(source.train_batch(0)).inputs
        assert inputs.dtype == jnp.float32
        np.testing.assert_allclose(inputs, expected, rtol=1e-6)


def test_constant_answer_knows_the_shares_of_train() -> None:
    train, test = np.array([0, 0, 0, 1]), np.array([0, 1, 1, 2])
    loss, accuracy = constant_answer(train, test, 3)
    # Counts 4, 2 and 1 of 7, each with one more than it has.
    expected = -np.mean(np.log(np.array([4, 2, 2, 1]) / 7))
    assert math.isclose(loss, expected, rel_tol=1e-12)
    assert accuracy == 0.25
