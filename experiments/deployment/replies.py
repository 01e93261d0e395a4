"""What a model's outputs mean, as an object that becomes a line of JSON."""

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.datasets.description import TaskDescription

Reply = dict[str, Any]


def make_reply(
    task: TaskDescription, *, all_scores: bool
) -> Callable[[np.ndarray, int], Reply]:
    """Returns `(outputs, length) -> reply` for one sequence.

    Args:
      task: what the model answers.
      all_scores: whether the probabilities of all classes are given.

    Raises:
      ValueError: the model continues texts or music, which is no reply.
    """
    names = task.classes or range(task.output_size)

    def forecast(outputs: np.ndarray, length: int) -> Reply:
        if not task.quantiles:
            return {"forecast": _shortest(outputs)}
        ends = {"forecast": outputs.shape[-1] // 2, "low": 0, "high": -1}
        return {name: _shortest(outputs[..., end]) for name, end in ends.items()}

    def classify(outputs: np.ndarray, length: int) -> Reply:
        scores = softmax(outputs)
        best = int(scores.argmax())
        reply = {"label": names[best], "score": _rounded(scores[best])}
        return reply | ({"scores": by_name(scores)} if all_scores else {})

    def label(outputs: np.ndarray, length: int) -> Reply:
        scores = softmax(outputs[:length])
        best = scores.argmax(axis=-1)
        reply: Reply = {
            "labels": [names[i] for i in best],
            "scores": [_rounded(row[i]) for row, i in zip(scores, best, strict=True)],
        }
        every = {"all_scores": [by_name(row) for row in scores]}
        return reply | (every if all_scores else {})

    def transcribe(outputs: np.ndarray, length: int) -> Reply:
        # Needs jax, for which whoever asks with a wrong flag need not wait.
        from experiments.runs.transcript import read_off

        labels, score = read_off(outputs, length)
        reply: Reply = {"labels": [names[i] for i in labels], "score": _rounded(score)}
        every = {"all_scores": [by_name(row) for row in softmax(outputs[:length])]}
        return reply | (every if all_scores else {})

    def by_name(scores: np.ndarray) -> dict[str, float]:
        return {str(n): _rounded(score) for n, score in zip(names, scores, strict=True)}

    replies = {
        "forecast": forecast,
        "classify": classify,
        "label": label,
        "transcribe": transcribe,
    }
    if task.kind not in replies or (task.kind == "label" and task.vocabulary):
        raise ValueError(
            f"a model of {task.name} goes on with what it reads; expected one that "
            "answers; try experiments.generate or experiments.translate"
        )
    return replies[task.kind]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns probabilities, float64, over the last axis of `[..., classes]`."""
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _rounded(score: float) -> float:
    return float(f"{score:.6g}")


def _shortest(values: np.ndarray) -> Any:
    """Nested lists of the shortest numbers that are the same float32."""
    if values.ndim == 0:
        return float(str(values))
    return [_shortest(entry) for entry in values]
