"""Pairs of sentences as tokens: what is left out, and what belongs together."""

import math
from typing import Any

import jax
import numpy as np
import pytest

from experiments.common import names
from experiments.datasets.dataset import PairSplit
from experiments.datasets.sequences import Ragged, SequenceData
from experiments.datasets.translation_tasks import PAIR_LOADERS, encode_pairs
from experiments.runs.sources import Source, of_cell, stored_source
from seqjax.models import ATTENTIONS

PAIRS = {
    "train": PairSplit(
        ["我", "我喝茶", "我喝茶喝茶喝茶", "茶"],
        ["I", "I drink tea.", "Tea I drink", "Tea and a lot of other words"],
    ),
    "valid": PairSplit(["茶我水", "茶我茶我茶我茶"], ["Tea, water", "No"]),
    "test": PairSplit(["我", "茶"], ["I I", "tea"]),
}


def encode(max_length: int = 6) -> SequenceData:
    return encode_pairs("pairs", PAIRS, vocab_size=99, max_length=max_length)


def rows(ragged: Any) -> list[list[int]]:
    return [part.tolist() for part in np.split(ragged.values, ragged.starts[1:-1])]


def test_the_flags_know_the_names() -> None:
    assert tuple(PAIR_LOADERS) == names.TRANSLATION
    assert names.ATTENTIONS == ATTENTIONS


def test_long_pairs_are_left_out() -> None:
    data = encode()
    assert data.dropped == 2
    # Of the pairs that stay: the commonest first, then by text.
    assert data.source_vocabulary[4:] == ("我", "喝", "茶")
    assert data.vocabulary[4:] == ("i", ".", "drink", "tea")
    assert (data.source_tokens, data.tokens) == ("characters", "words")
    assert data.output_size == 8
    assert len(data.splits["valid"].inputs.lengths) == 1
    assert len(data.splits["test"].inputs.lengths) == 2
    # Just as long as is allowed, the end token included.
    assert encode(5).dropped == 2
    assert encode(4).dropped == 3
    assert encode(0).dropped == 0


def test_targets_are_shifted_by_the_start_token() -> None:
    train, valid = (encode().splits[name] for name in ("train", "valid"))
    assert rows(train.sources) == [[4], [4, 5, 6]]
    assert rows(train.inputs) == [[2, 4], [2, 4, 6, 7, 5]]
    assert rows(train.targets) == [[4, 3], [4, 6, 7, 5, 3]]
    # What train does not have is unknown.
    assert rows(valid.sources) == [[6, 4, 1]]
    assert rows(valid.targets) == [[7, 1, 1, 3]]


def test_the_baseline_knows_how_often_words_occur() -> None:
    data = encode()
    # Of 7 tokens and 8 more: end and i twice, tea once. Test: i i end, tea end.
    expected = -(4 * math.log(3 / 15) + math.log(2 / 15)) / 5
    assert data.baseline_loss == pytest.approx(expected)
    assert data.baseline_metric == pytest.approx(expected / math.log(2))


# --- batches ---------------------------------------------------------------------


def numbered_pairs(max_length: int, num_buckets: int) -> Source:
    """Pair n has its number in every step of both sides, which differ in length."""
    generator = np.random.default_rng(0)
    splits = {}
    for split, count in (("train", 90), ("valid", 20), ("test", 20)):
        lengths = generator.integers(1, 30, (count, 2))
        sources, targets = (
            [np.full(n, place + 1, np.int32) for place, n in enumerate(side)]
            for side in lengths.T
        )
        target = Ragged.from_list(targets)
        splits[split] = (
            encode()
            .splits["train"]
            ._replace(inputs=target, targets=target, sources=Ragged.from_list(sources))
        )
    fields = encode().description()
    data = SequenceData(**fields, splits=splits)  # type: ignore[arg-type]
    return stored_source(
        data,
        batch_size=8,
        seed=0,
        max_length=max_length,
        num_buckets=num_buckets,
    )


@pytest.mark.parametrize("num_buckets", [1, 3])
def test_both_sides_of_a_pair_stay_together(num_buckets: int) -> None:
    source = numbered_pairs(0, num_buckets)
    shapes = [raw.inputs[0].shape for raw in source.shapes]
    assert len(set(shapes)) > num_buckets // 2
    for step in range(30):
        (sources, inputs), _, (source_lengths, lengths), _ = source.train_batch(step)
        assert sources.shape in shapes
        numbers = inputs[:, 0]
        for side, real in ((sources, source_lengths), (inputs, lengths)):
            steps = np.arange(side.shape[1]) < real[:, None]
            np.testing.assert_array_equal(side, np.where(steps, numbers[:, None], 0))


@pytest.mark.parametrize("max_length", [0, 12])
def test_both_sides_are_cut_and_the_targets_count(max_length: int) -> None:
    source = numbered_pairs(max_length, 3)
    weight, source_steps = 0, 0
    for raw, count in source.eval_batches("valid", 0):
        example = source.expand(raw)
        example = jax.tree.map(np.asarray, example)
        for side, lengths in zip(example.inputs, example.length, strict=True):
            assert not max_length or side.shape[1] <= max_length
            assert side.shape[1] >= lengths.max()
        steps = np.arange(example.mask.shape[1]) < example.length[1][:, None]
        np.testing.assert_array_equal(example.mask, steps)
        assert of_cell(example.inputs) is example.inputs[1]
        weight += int(example.mask[:count].sum())
        source_steps += int(example.length[0][:count].sum())
    generator = np.random.default_rng(0)
    generator.integers(1, 30, (90, 2))
    lengths = np.minimum(generator.integers(1, 30, (20, 2)), max_length or 99)
    assert [source_steps, weight] == lengths.sum(axis=0).tolist()
