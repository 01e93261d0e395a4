"""Whether an exported model answers as the model of its run does."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.datasets.description import TaskDescription

_SHAPES = ((1, 1), (2, 7), (5, 40))  # of batch and time


class Verdict(NamedTuple):
    """How answers compare.

    Attributes:
      passed: whether they are the same up to rounding.
      text: the same in words, with the largest difference.
    """

    passed: bool
    text: str


def verify(
    folder: Path,
    task: TaskDescription,
    infer: Callable[[np.ndarray, np.ndarray], Any],
) -> Verdict:
    """Asks an exported model in a fresh process, and compares.

    Args:
      folder: of the exported model.
      task: what it reads.
      infer: `(inputs, lengths) -> outputs` of the model in its run.
    """
    batches = [random_batch(task, *shape) for shape in _SHAPES]
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch) / "inputs.npz", Path(scratch) / "outputs.npz"
        arrays = {}
        for i, (xs, lengths) in enumerate(batches):
            arrays |= {f"inputs_{i}": xs, f"lengths_{i}": lengths}
        np.savez(inputs, **arrays)  # pyright: ignore[reportArgumentType]
        module = "experiments.deployment.reload"
        done = subprocess.run(
            [sys.executable, "-m", module, str(folder.absolute()), inputs, outputs],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            words = done.stderr.strip().rpartition("\n")[2]
            return Verdict(False, f"a fresh process could not answer: {words}")
        with np.load(outputs) as answers:
            found = [answers[f"outputs_{i}"] for i in range(len(batches))]
    return compare(found, [np.asarray(infer(*batch)) for batch in batches])


def random_batch(
    task: TaskDescription, batch_size: int, num_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns random inputs and lengths, the same at every call."""
    generator = np.random.default_rng([batch_size, num_steps])
    lengths = generator.integers(1, num_steps + 1, batch_size).astype(np.int32)
    shape = (batch_size, num_steps)
    if task.vocabulary:
        inputs = generator.integers(0, len(task.vocabulary), shape).astype(np.int32)
    else:
        inputs = generator.normal(size=(*shape, task.input_size)).astype(np.float32)
    return inputs, lengths


def compare(found: list[np.ndarray], expected: list[np.ndarray]) -> Verdict:
    """Compares the answers to several batches.

    Rounding may move them by a hundred units in the last place of the largest answer.
    """
    if all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True)):
        return Verdict(True, "the same bits")
    pairs = list(zip(found, expected, strict=True))
    # Of NumPy, whose maximum keeps NaN.
    difference = np.max([np.max(np.abs(a - b)) for a, b in pairs])
    largest = np.max([np.max(np.abs(b)) for _, b in pairs])
    limit = 100 * np.finfo(np.float32).eps * largest
    text = f"a largest difference of {difference:.3g} in answers up to {largest:.3g}"
    return Verdict(bool(difference <= limit), text)
