"""Synthetic tasks of long memory, as pure functions of a key.

Training on them needs no data set: a batch is `sample_batch(task, key, batch_size)`,
inside or outside jit. Every task knows what an answer without memory scores.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from seqjax.made import factory
from seqjax.tasks.adding import adding, multiplication
from seqjax.tasks.copy_memory import copy_memory
from seqjax.tasks.delayed_xor import delayed_xor
from seqjax.tasks.long_sentence import long_sentence
from seqjax.tasks.parity import parity
from seqjax.tasks.task import Example, Task, sample_batch
from seqjax.tasks.temporal_order import temporal_order

TASKS: Mapping[str, Callable[..., Task]] = MappingProxyType(
    {
        "adding": adding,
        "copy_memory": copy_memory,
        "delayed_xor": delayed_xor,
        "long_sentence": long_sentence,
        "multiplication": multiplication,
        "parity": parity,
        "temporal_order": temporal_order,
    }
)
"""Name -> factory(length, **options)."""

__all__ = [
    "TASKS",
    "Example",
    "Task",
    "adding",
    "copy_memory",
    "delayed_xor",
    "factory",
    "long_sentence",
    "multiplication",
    "parity",
    "sample_batch",
    "temporal_order",
]
