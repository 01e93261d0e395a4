"""What a model that writes down labels makes of a sequence of frames."""

import math
from pathlib import Path

import jax
import numpy as np
from flax.training.train_state import TrainState

from experiments.common import files
from experiments.runs.programs import Programs
from seqjax.decoding import best_path

NAME = "transcript.json"
_DIGITS = 4  # behind the point, of a probability

_best_path = jax.jit(best_path)


def read_off(logits: np.ndarray, length: int) -> tuple[list[int], float]:
    """Returns the labels of the likeliest classes, and the probability of these labels.

    Args:
      logits: `[time, classes]`; the padding of one shape is compiled once.
      length: real frames.
    """
    found = jax.device_get(_best_path(logits, np.int32(length)))
    # Sums of float32 logarithms may end a rounding above 0.
    score = math.exp(min(found.log_prob, 0))
    return found.labels[: found.length].tolist(), score


def write(folder: Path, programs: Programs, state: TrainState) -> None:
    """Writes what the report of a run shows: one validation sequence, frame by frame.

    Args:
      folder: directory of the run.
      programs: of a task of kind transcribe.
      state: holds the parameters.
    """
    source = programs.source
    raw = source.probe_batch
    counts = np.count_nonzero(raw.targets, axis=1)
    row = int(counts.argmax())
    logits, length = (
        np.asarray(programs.outputs_of_batch(state, raw))[row],
        int(raw.lengths[row]),
    )
    answer, score = read_off(logits, length)
    scores = np.asarray(jax.nn.softmax(logits[:length]), float).round(_DIGITS)
    page = {
        "step": int(jax.device_get(state.step)),
        "classes": source.classes,
        "labels": raw.targets[row, : counts[row]].tolist(),
        "answer": answer,
        "score": score,
        "probabilities": scores.tolist(),
    }
    files.write_atomic(folder / NAME, files.json_line(page))
