"""Where batches come from: one interface for synthetic tasks and stored data.

A batch is a pure function of (seed, split, step), so that nothing about it needs to be
saved and a resumed run sees what an uninterrupted one would have seen. It is made in
two halves: on the host something small, a raw batch, which `expand` turns into an
`Example` inside the compiled step.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.datasets.batching import bucket_lengths
from experiments.datasets.description import TaskDescription
from experiments.datasets.sequences import Ragged, SequenceData, Sequences
from seqjax.array_types import Array, Key
from seqjax.losses import length_mask
from seqjax.tasks import Example, Task, sample_batch

_LOWER_IS_BETTER = (
    "binary_cross_entropy",
    "bits_per_token",
    "label_error_rate",
    "mean_squared_error",
)
_PURPOSES = ("params", "train", "valid", "test", "noise")


def purpose_key(seed: int, purpose: str) -> Key:
    """Returns the one key that a run uses for a purpose.

    Args:
      seed: seed of the run.
      purpose: params, train, valid, test or noise.
    """
    return jax.random.fold_in(jax.random.key(seed), _PURPOSES.index(purpose))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(TaskDescription):
    """A task and its batches.

    Attributes:
      length: largest number of steps.
      batch_size: sequences in a batch.
      shapes: a raw batch of every shape that occurs, the longest first.
      train_batch: `(step) -> raw`, on the host: what identifies or holds a batch.
      eval_batches: `(split, size) -> (raw, count) ...`, on the host: a fixed set of
        `size` sequences, 0 for all of a split that has an end; the first `count` of a
        batch count.
      probe_batch: a raw batch of validation sequences, of the longest shape.
      expand: `(raw) -> Example`, traceable; leaves with a leading batch axis.
      advance: `(raw, steps) -> raw`, traceable: the training batch that many steps
        later; None where the host must make each batch.
    """

    length: int
    batch_size: int
    shapes: tuple[Any, ...]
    train_batch: Callable[[int], Any]
    eval_batches: Callable[[str, int], Iterator[tuple[Any, int]]]
    probe_batch: Any
    expand: Callable[[Any], Example]
    advance: Callable[[Any, Array], Any] | None = None

    @property
    def lower_is_better(self) -> bool:
        """Whether a small value of the metric is a good one."""
        return self.metric in _LOWER_IS_BETTER


def first_examples(example: Example, count: Array) -> Example:
    """Returns a batch in which only the first `count` sequences weigh anything."""
    batch_size = example.mask.shape[0]
    real = (jnp.arange(batch_size, dtype=jnp.int32) < count).astype(example.mask.dtype)
    real = real.reshape((batch_size,) + (1,) * (example.mask.ndim - 1))
    real = jnp.broadcast_to(real, example.mask.shape)
    return example._replace(mask=example.mask * real, scored=example.scored * real)


def of_cell(pair: Any) -> Any:
    """Returns the inputs or lengths of a model's cell: of a pair, the second ones.

    Args:
      pair: `Example.inputs` or `Example.length`.
    """
    return pair[1] if isinstance(pair, tuple) else pair


def synthetic_source(task: Task, *, batch_size: int, seed: int) -> Source:
    """Returns the batches of a synthetic task.

    Args:
      task: what to draw from.
      batch_size: sequences in a batch.
      seed: seed of the run.
    """

    def raw(split: str, step: int) -> tuple[np.int32, np.int32]:
        return np.int32(_PURPOSES.index(split)), np.int32(step)

    def eval_batches(split: str, size: int) -> Iterator[tuple[Any, int]]:
        if not size:
            raise ValueError(f"--eval_size=0: {task.name} has sequences without end")
        for step, count in enumerate(_counts(size, batch_size)):
            yield raw(split, step), count

    def expand(raw: tuple[Array, Array]) -> Example:
        split, step = raw
        split_key = jax.random.fold_in(jax.random.key(seed), split)
        batch_key = jax.random.fold_in(split_key, step)
        return sample_batch(task, batch_key, batch_size)

    def advance(raw: tuple[Array, Array], steps: Array) -> tuple[Array, Array]:
        split, step = raw
        return split, step + steps

    return Source(
        name=task.name,
        kind=task.kind,
        metric=task.metric,
        length=task.length,
        input_size=task.input_size,
        output_size=task.output_size,
        baseline_loss=task.baseline_loss,
        baseline_metric=task.baseline_metric,
        batch_size=batch_size,
        shapes=(raw("train", 0),),
        train_batch=functools.partial(raw, "train"),
        eval_batches=eval_batches,
        probe_batch=raw("valid", 0),
        expand=expand,
        advance=advance,
    )


def _counts(size: int, batch_size: int) -> list[int]:
    """How many sequences of each batch count, for `size` sequences in all."""
    return [min(batch_size, size - i) for i in range(0, size, batch_size)]


class Raw(NamedTuple):
    """A batch of stored sequences.

    Attributes:
      inputs: `[batch, time]` tokens or `[batch, time, input]`; of translations the pair
        of the sources and these.
      targets: as in `Example`.
      lengths: real steps, `[batch]`; a pair for a pair.
      unscored: first steps that do not count, `[batch]`.
    """

    inputs: np.ndarray | tuple[np.ndarray, np.ndarray]
    targets: np.ndarray
    lengths: np.ndarray | tuple[np.ndarray, np.ndarray]
    unscored: np.ndarray


def stored_source(
    data: SequenceData, *, batch_size: int, seed: int, max_length: int, num_buckets: int
) -> Source:
    """Returns the batches of stored data; training goes through it in random order.

    A batch holds sequences of one bucket of lengths, padded to the longest of the
    bucket. Every epoch has its own order, and leaves out what does not fill a batch.
    Translations go by the lengths of the targets.

    Args:
      data: the data set.
      batch_size: sequences in a batch.
      seed: seed of the run.
      max_length: steps that are read of a sequence, and of a source, the first ones; 0
        reads all.
      num_buckets: buckets of about as many sequences each.

    Raises:
      ValueError: the training split does not fill a batch.
    """
    longest = max(int(split.inputs.lengths.max()) for split in data.splits.values())
    longest = min(longest, max_length) if max_length else longest
    lengths = np.minimum(data.splits["train"].inputs.lengths, longest)
    edges = [*bucket_lengths(lengths.tolist(), num_buckets)[:-1], longest]
    buckets = np.searchsorted(edges, lengths)
    source_edges = _source_edges(data, edges, max_length)
    per_epoch = int(np.sum(np.bincount(buckets) // batch_size))
    if not per_epoch:
        raise ValueError(
            f"--batch_size={batch_size}: expected at most "
            f"{np.bincount(buckets).max()}, the training sequences of {data.name} in "
            f"the largest of --num_buckets={num_buckets}"
        )

    @functools.lru_cache(maxsize=2)
    def epoch_batches(epoch: int) -> list[tuple[np.ndarray, int]]:
        return _epoch_batches(buckets, batch_size, seed, epoch)

    def raw(split: str, chosen: np.ndarray, bucket: int) -> Raw:
        num_steps, source_steps = int(edges[bucket]), int(source_edges[bucket])
        return _take(data.splits[split], chosen, num_steps, source_steps)

    def train_batch(step: int) -> Raw:
        epoch, place = divmod(step, per_epoch)
        return raw("train", *epoch_batches(epoch)[place])

    def eval_batches(split: str, size: int) -> Iterator[tuple[Raw, int]]:
        lengths = data.splits[split].inputs.lengths
        size = min(size or len(lengths), len(lengths))
        # Evenly from all of the split, which may be sorted by class.
        spread = np.arange(size) * len(lengths) // size
        buckets = np.searchsorted(edges, np.minimum(lengths[spread], longest))
        for bucket in np.unique(buckets):
            members = spread[buckets == bucket]
            for start, count in enumerate(_counts(len(members), batch_size)):
                # What fills up a last batch is masked and never counts.
                places = np.arange(start * batch_size, (start + 1) * batch_size)
                chosen = members[np.minimum(places, len(members) - 1)]
                yield raw(split, chosen, bucket), count

    first = np.zeros(batch_size, int)
    valid = np.arange(batch_size) % len(data.splits["valid"].inputs.lengths)
    return Source(
        **data.description(),
        length=longest,
        batch_size=batch_size,
        shapes=tuple(raw("train", first, b) for b in reversed(range(len(edges)))),
        train_batch=train_batch,
        eval_batches=eval_batches,
        probe_batch=raw("valid", valid, len(edges) - 1),
        expand=functools.partial(_expand_stored, data.kind),
    )


def _epoch_batches(
    buckets: np.ndarray, batch_size: int, seed: int, epoch: int
) -> list[tuple[np.ndarray, int]]:
    """All full batches of an epoch in random order: their sequences, their bucket."""
    generator = np.random.Generator(np.random.Philox([seed, epoch]))
    order = generator.permutation(len(buckets))
    batches = []
    for bucket in np.unique(buckets):
        members = order[buckets[order] == bucket]
        full = len(members) // batch_size
        parts = members[: full * batch_size].reshape(full, batch_size)
        batches += [(chosen, int(bucket)) for chosen in parts]
    if buckets.max() == buckets.min():
        return batches
    return [batches[i] for i in generator.permutation(len(batches))]


def _source_edges(
    data: SequenceData, edges: Sequence[int], max_length: int
) -> np.ndarray:
    """Steps of the longest source of every bucket; zeros where there are no sources."""
    longest = np.zeros(len(edges), int)
    for split in data.splits.values():
        if split.sources is not None:
            lengths = np.minimum(split.inputs.lengths, edges[-1])
            buckets = np.searchsorted(edges, lengths)
            np.maximum.at(longest, buckets, split.sources.lengths)
    return np.minimum(longest, max_length) if max_length else longest


def _take(
    split: Sequences, chosen: np.ndarray, num_steps: int, source_steps: int
) -> Raw:
    targets = split.targets
    if isinstance(targets, Ragged):
        targets = targets.take(chosen, num_steps)
    else:
        targets = targets[chosen]
    inputs, lengths = _take_steps(split.inputs, chosen, num_steps)
    unscored = np.zeros_like(lengths)
    if split.unscored is not None:
        unscored = split.unscored[chosen].astype(np.int32)
    if split.sources is None:
        return Raw(inputs, targets, lengths, unscored)
    sources, source_lengths = _take_steps(split.sources, chosen, source_steps)
    return Raw((sources, inputs), targets, (source_lengths, lengths), unscored)


def _take_steps(
    sequences: Ragged, chosen: np.ndarray, num_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Some sequences as one array, and their lengths."""
    lengths = np.minimum(sequences.lengths[chosen], num_steps)
    return sequences.take(chosen, num_steps), lengths.astype(np.int32)


def _expand_stored(kind: str, raw: Raw) -> Example:
    inputs, targets, lengths, unscored = jax.tree.map(jnp.asarray, raw)
    inputs = jax.tree.map(_as_features, inputs)
    if kind in ("label", "multilabel", "transcribe"):
        num_steps, scored = of_cell(inputs).shape[1], of_cell(lengths)
        mask = length_mask(scored, num_steps) - length_mask(unscored, num_steps)
    else:
        # One answer, or one for every step of a forecast.
        shape = targets.shape[:-1] if kind == "forecast" else targets.shape
        mask = jnp.ones(shape, jnp.float32)
    return Example(inputs, targets, mask, scored=mask, length=lengths)


def _as_features(inputs: Array) -> Array:
    """Turns bytes and bits into numbers from 0 to 1; leaves tokens and features."""
    if inputs.dtype == jnp.uint8:
        return inputs.astype(jnp.float32) / 255
    return inputs.astype(jnp.float32) if inputs.dtype == jnp.bool_ else inputs
