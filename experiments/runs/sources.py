"""Where batches come from: one interface for synthetic tasks and stored data.

A batch is a pure function of (seed, split, step), so that nothing about it needs to be
saved and a resumed run sees what an uninterrupted one would have seen. It is made in
two halves: `fetch` on the host gives something small, `expand` inside the compiled step
turns it into an `Example`.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.datasets.mnist import SequenceData
from seqjax.array_types import Array, Key
from seqjax.tasks import Example, Task, sample_batch

_PURPOSES = ("params", "train", "valid", "test", "noise")


def purpose_key(seed: int, purpose: str) -> Key:
    """Returns the one key that a run uses for a purpose.

    Args:
      seed: seed of the run.
      purpose: params, train, valid, test or noise.
    """
    return jax.random.fold_in(jax.random.key(seed), _PURPOSES.index(purpose))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A task and its batches.

    Attributes:
      name: name of the task.
      kind: forecast, classify or label; see `seqjax.tasks.Example`.
      metric: name of a function of `seqjax.losses`.
      length: number of steps.
      input_size: features of a step.
      output_size: classes, or values of a forecast.
      baseline_loss: loss of a guess without memory.
      baseline_metric: metric of a guess without memory.
      batch_size: sequences in a batch.
      num_examples: sequences of each split; None for a split without end.
      fetch: `(split, step) -> raw`, on the host: what identifies or holds a batch.
      expand: `(raw) -> Example`, traceable; leaves with a leading batch axis.
      advance: `(raw, steps) -> raw`, traceable: the training batch that many steps
        later; None where the host must fetch each batch.
    """

    name: str
    kind: str
    metric: str
    length: int
    input_size: int
    output_size: int
    baseline_loss: float
    baseline_metric: float
    batch_size: int
    num_examples: dict[str, int | None]
    fetch: Callable[[str, int], Any]
    expand: Callable[[Any], Example]
    advance: Callable[[Any, Array], Any] | None = None

    @property
    def lower_is_better(self) -> bool:
        """Whether a small value of the metric is a good one."""
        return self.metric == "mean_squared_error"

    def eval_batches(self, split: str, size: int) -> Iterator[tuple[Any, int]]:
        """Yields the raw batches of a fixed evaluation set.

        Args:
          split: train, valid or test.
          size: sequences of the set; 0 takes all of a split that has an end.

        Yields:
          A raw batch, and how many of its first sequences count.
        """
        available = self.num_examples[split]
        total = min(size or math.inf, available or math.inf)
        for step in range(math.ceil(total / self.batch_size)):
            count = min(self.batch_size, int(total) - step * self.batch_size)
            yield self.fetch(split, step), count


def first_examples(example: Example, count: Array) -> Example:
    """Returns a batch in which only the first `count` sequences weigh anything."""
    batch_size = example.mask.shape[0]
    real = (jnp.arange(batch_size, dtype=jnp.int32) < count).astype(example.mask.dtype)
    real = real.reshape((batch_size,) + (1,) * (example.mask.ndim - 1))
    real = jnp.broadcast_to(real, example.mask.shape)
    return example._replace(mask=example.mask * real, scored=example.scored * real)


def synthetic_source(task: Task, *, batch_size: int, seed: int) -> Source:
    """Returns the batches of a synthetic task.

    Args:
      task: what to draw from.
      batch_size: sequences in a batch.
      seed: seed of the run.
    """

    def fetch(split: str, step: int) -> tuple[np.int32, np.int32]:
        return np.int32(_PURPOSES.index(split)), np.int32(step)

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
        num_examples=dict.fromkeys(("train", "valid", "test")),
        fetch=fetch,
        expand=expand,
        advance=advance,
    )


def stored_source(data: SequenceData, *, batch_size: int, seed: int) -> Source:
    """Returns the batches of stored data; training goes through it in random order.

    Every epoch has its own order, and leaves out what does not fill a batch.

    Args:
      data: the data set.
      batch_size: sequences in a batch.
      seed: seed of the run.

    Raises:
      ValueError: the training split does not fill a batch.
    """
    sizes = {split: len(targets) for split, (_, targets) in data.splits.items()}
    batches_per_epoch = sizes["train"] // batch_size
    if not batches_per_epoch:
        raise ValueError(
            f"--batch_size={batch_size}: expected at most {sizes['train']}, the "
            f"training sequences of {data.name}"
        )

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        generator = np.random.Generator(np.random.Philox([seed, epoch]))
        return generator.permutation(sizes["train"])

    def fetch(split: str, step: int) -> tuple[np.ndarray, np.ndarray]:
        inputs, targets = data.splits[split]
        if split == "train":
            epoch, place = divmod(step, batches_per_epoch)
            chosen = order(epoch)[place * batch_size :][:batch_size]
        else:
            # A last batch that is not full is filled up; what is added never counts.
            chosen = np.arange(step * batch_size, (step + 1) * batch_size)
            chosen = np.minimum(chosen, sizes[split] - 1)
        return inputs[chosen], targets[chosen]

    return Source(
        name=data.name,
        kind=data.kind,
        metric=data.metric,
        length=data.length,
        input_size=data.input_size,
        output_size=data.output_size,
        baseline_loss=data.baseline_loss,
        baseline_metric=data.baseline_metric,
        batch_size=batch_size,
        num_examples=dict(sizes),
        fetch=fetch,
        expand=_expand_pixels,
    )


def _expand_pixels(raw: tuple[Array, Array]) -> Example:
    inputs, targets = raw
    ones = jnp.ones(targets.shape, jnp.float32)
    return Example(
        inputs=inputs.astype(jnp.float32) / 255,
        targets=targets,
        mask=ones,
        scored=ones,
        length=jnp.full(targets.shape, inputs.shape[1], jnp.int32),
    )
