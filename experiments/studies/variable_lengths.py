"""Texts of unequal length: padded to one length, in buckets, and several in a row."""

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import files
from experiments.datasets.batching import bucket_lengths, fill_rows, pack, wasted_share
from experiments.datasets.dataset import default_data_dir
from experiments.datasets.text_tasks import load_text_task
from experiments.studies.kit.study import Result
from seqjax import cells
from seqjax.array_types import Array, PyTree
from seqjax.losses import SUMS
from seqjax.models import Packing, SequenceClassifier
from seqjax.tree import norm

_BATCH, _BUCKETS = 32, 8
_VOCABULARY, _EMBEDDING, _HIDDEN = 10_000, 64, 128


class Batch(NamedTuple):
    """Texts for one update; those of length 0 fill it up and do not count.

    Attributes:
      tokens: `[rows, time]`.
      lengths: of the texts, `[texts]`.
      labels: `[texts]`.
      packing: where the texts stand; None for one in each row.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    packing: Packing | None = None


def measure(folder: Path, full: bool, data_dir: str) -> Result:
    """Takes the gradient over the same texts in three ways, and times each."""
    data = Path(data_dir).expanduser() if data_dir else default_data_dir()
    task = load_text_task("reuters_r8", data, tokens=None, vocab_size=_VOCABULARY)
    train = task.splits["train"]
    order = np.random.RandomState(0).permutation(len(train.inputs.lengths))
    chosen = order[: None if full else 1024]
    texts = [
        train.inputs.take(np.array([i]), int(train.inputs.lengths[i]))[0]
        for i in chosen
    ]
    labels = np.asarray(train.targets)[chosen]
    ways = {
        "padding": _padded(texts, labels, 1),
        "buckets": _padded(texts, labels, _BUCKETS),
        "packing": _packed(texts, labels),
    }
    model = SequenceClassifier(
        cells.lstm(_EMBEDDING, _HIDDEN),
        task.output_size,
        pooling="mean",
        vocab_size=_VOCABULARY,
        embedding_size=_EMBEDDING,
    )
    params = model.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    run = functools.partial(
        _epoch, jax.jit(jax.value_and_grad(_loss_of(model))), params
    )
    gradients = {way: run(batches) for way, batches in ways.items()}
    seconds = _seconds(run, ways, num_rounds=5 if full else 3)
    files.write_json(folder / "seconds.json", seconds)
    values = {f"{way}_wasted": _wasted(batches) for way, batches in ways.items()}
    expected = gradients["padding"]
    for way in ("buckets", "packing"):
        difference = jax.tree.map(jnp.subtract, gradients[way], expected)
        values[f"{way}_gradient_error"] = float(norm(difference) / norm(expected))
        values[f"{way}_time"] = seconds[way] / seconds["padding"]
    return Result(values)


def _padded(
    texts: Sequence[np.ndarray], labels: np.ndarray, num_buckets: int
) -> list[Batch]:
    """Batches of texts of one bucket, as long as its longest text."""
    lengths = np.array([len(text) for text in texts])
    edges = bucket_lengths(lengths.tolist(), num_buckets)
    places = np.searchsorted(edges, lengths)
    batches = []
    for bucket, edge in enumerate(edges):
        members = np.flatnonzero(places == bucket)
        for start in range(0, len(members), _BATCH):
            at = members[start : start + _BATCH]
            rows = [np.pad(texts[i], (0, edge - lengths[i])) for i in at]
            parts = (np.stack(rows), lengths[at], labels[at])
            tokens, size, label = (_fill(part, _BATCH) for part in parts)
            batches.append(Batch(tokens, size, label))
    return batches


def _packed(texts: Sequence[np.ndarray], labels: np.ndarray) -> list[Batch]:
    """Batches of so many rows that they hold as many texts as those of the others."""
    lengths = np.array([len(text) for text in texts])
    packing = pack(lengths.tolist(), int(lengths.max()))
    rows = fill_rows(texts, packing)
    # Rows with few long texts beside rows with many short ones.
    order = np.random.RandomState(0).permutation(packing.num_rows)
    groups = np.array_split(order, -(-len(texts) // _BATCH))
    members = [np.flatnonzero(np.isin(packing.rows, group)) for group in groups]
    num_rows, num_texts = max(map(len, groups)), max(map(len, members))
    batches = []
    for group, at in zip(groups, members, strict=True):
        place = {row: new for new, row in enumerate(group.tolist())}
        own = np.array([place[row] for row in packing.rows[at].tolist()], np.int32)
        parts = (lengths[at], labels[at], own, packing.starts[at])
        size, label, row, start = (_fill(part, num_texts) for part in parts)
        tokens, resets = (
            _fill(part[group], num_rows) for part in (rows.values, rows.resets)
        )
        where = Packing(jnp.asarray(resets), jnp.asarray(row), jnp.asarray(start))
        batches.append(Batch(tokens, size, label, where))
    return batches


def _fill(values: np.ndarray, size: int) -> np.ndarray:
    """Adds zeros behind the first axis."""
    return np.pad(values, [(0, size - len(values))] + [(0, 0)] * (values.ndim - 1))


def _loss_of(model: Any) -> Callable[[PyTree, Batch], Array]:
    def loss(params: PyTree, batch: Batch) -> Array:
        lengths, labels = jnp.asarray(batch.lengths), jnp.asarray(batch.labels)
        _, logits = model.apply(
            {"params": params}, batch.tokens, lengths, packing=batch.packing
        )
        mask = (lengths > 0).astype(logits.dtype)
        return SUMS["cross_entropy"](logits, labels, mask).total

    return loss


def _epoch(
    step: Callable[[PyTree, Batch], tuple[Array, PyTree]],
    params: PyTree,
    batches: Sequence[Batch],
) -> PyTree:
    """Returns the gradient of the summed loss of all batches."""
    total = jax.tree.map(jnp.zeros_like, params)
    for batch in batches:
        total = jax.tree.map(jnp.add, total, step(params, batch)[1])
    return jax.block_until_ready(total)


def _seconds(
    run: Callable[[Sequence[Batch]], PyTree],
    ways: dict[str, list[Batch]],
    num_rounds: int,
) -> dict[str, float]:
    """Returns the median time of each way over alternating rounds, in seconds."""
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(num_rounds):
        for way, batches in ways.items():
            start = time.perf_counter()
            run(batches)
            taken[way].append(time.perf_counter() - start)
    return {way: statistics.median(times) for way, times in taken.items()}


def _wasted(batches: Sequence[Batch]) -> float:
    used = [int(batch.lengths.sum()) for batch in batches]
    return wasted_share(used, [batch.tokens.size for batch in batches])
