"""What a checkpoint of a run holds, and what is told about its task."""

from typing import Any, NamedTuple

import jax
import numpy as np
from flax.training.train_state import TrainState

from experiments.common.launch import NO_CHECKPOINT, Exit
from experiments.runs.checkpoints import Checkpoints, DamagedError
from experiments.runs.sources import Source


class Training(NamedTuple):
    """The whole state of a run.

    Attributes:
      state: parameters, optimiser and number of updates.
      best_step: step of the best validation metric so far, -1 before the first.
      best_metric: that metric.
      evals_since_best: evaluations since then.
      evaluated_step: step of the last evaluation, -1 before the first.
      clip_counts: since the last training row, updates whose gradient was longer than
        --clip_norm, and all updates.
    """

    state: TrainState
    best_step: np.ndarray
    best_metric: np.ndarray
    evals_since_best: np.ndarray
    evaluated_step: np.ndarray
    clip_counts: np.ndarray

    def evaluated(self, step: int, metric: float, *, better: bool) -> "Training":
        """Returns the state after an evaluation at `step`."""
        changed = self._replace(evaluated_step=np.asarray(step))
        if not better:
            return changed._replace(evals_since_best=self.evals_since_best + 1)
        return changed._replace(
            best_step=np.asarray(step),
            best_metric=np.asarray(metric),
            evals_since_best=np.asarray(0),
        )

    def counted(self, *, exceeds: bool) -> "Training":
        """Returns the state after an update whose gradient was, or was not, longer."""
        return self._replace(clip_counts=self.clip_counts + np.array([exceeds, 1]))

    def since_row(self) -> tuple["Training", float]:
        """Returns the state after a training row, and the share that was longer."""
        longer, updates = self.clip_counts.tolist()
        return self._replace(clip_counts=np.array([0, 0])), longer / updates


def start(state: TrainState) -> Training:
    """Returns the whole state of a run that begins at `state`, unevaluated."""
    return Training(
        state,
        best_step=np.asarray(-1),
        best_metric=np.asarray(0.0),
        evals_since_best=np.asarray(0),
        evaluated_step=np.asarray(-1),
        clip_counts=np.array([0, 0]),
    )


def is_better(training: Training, metric: float, *, lower_is_better: bool) -> bool:
    """Whether a validation metric beats the best so far; NaN never does."""
    if training.best_step < 0 or not np.isfinite(metric):
        return bool(np.isfinite(metric))
    best = float(training.best_metric)
    return metric < best if lower_is_better else metric > best


def restore_newest(
    checkpoints: Checkpoints, state_shape: TrainState
) -> tuple[int, Training] | None:
    """Returns the newest intact step and its state, or None before the first save.

    Raises:
      Exit: there are checkpoints, but none that is intact and fits.
    """
    try:
        found = checkpoints.restore_newest(start(state_shape))
    except ValueError as error:
        raise Exit(NO_CHECKPOINT, str(error)) from error
    if found is None and checkpoints.steps():
        raise Exit(
            NO_CHECKPOINT,
            f"no intact checkpoint in {checkpoints.folder}; damaged are those of "
            f"steps {', '.join(map(str, checkpoints.steps()))}",
        )
    return found


def restore_step(
    checkpoints: Checkpoints, state_shape: TrainState, step: int
) -> Training:
    """Returns the state of one step.

    Raises:
      Exit: there is no such checkpoint, or it is damaged or does not fit.
    """
    if step not in checkpoints.steps():
        raise Exit(
            NO_CHECKPOINT,
            f"no checkpoint of step {step} in {checkpoints.folder}; there are those of "
            f"steps {', '.join(map(str, checkpoints.steps())) or 'none'}",
        )
    try:
        return checkpoints.restore(step, start(state_shape))
    except (DamagedError, ValueError) as error:
        raise Exit(NO_CHECKPOINT, str(error)) from error


def choose(
    checkpoints: Checkpoints, state_shape: TrainState, name: str
) -> tuple[int, Training]:
    """Returns a step and its state.

    Args:
      checkpoints: those of the run.
      state_shape: structure, shapes and dtypes of its state.
      name: `latest`, `best` as the latest one knows it, or a step.

    Raises:
      Exit: there is no such checkpoint, or it is damaged or does not fit.
    """
    if name.isdecimal():
        return int(name), restore_step(checkpoints, state_shape, int(name))
    found = restore_newest(checkpoints, state_shape)
    if found is None:
        raise Exit(NO_CHECKPOINT, f"no checkpoint in {checkpoints.folder}")
    best_step = int(found[1].best_step)
    if name == "latest" or best_step == found[0]:
        return found
    return best_step, restore_step(checkpoints, state_shape, best_step)


def describe_task(source: Source) -> dict[str, Any]:
    """Returns what run.json says about the task."""
    names = ("name", "kind", "metric", "length", "baseline_loss", "baseline_metric")
    described = {name: getattr(source, name) for name in names}
    return described | ({"quantiles": source.quantiles} if source.quantiles else {})


def describe_result(
    source: Source, training: Training, test: dict[str, float]
) -> dict[str, Any]:
    """Returns what run.json says about the outcome of a run that is done."""
    return {
        "steps": int(jax.device_get(training.state.step)),
        "best_step": int(training.best_step),
        f"valid_{source.metric}": float(training.best_metric),
        "test_loss": test["loss"],
        f"test_{source.metric}": test[source.metric],
        "baseline_loss": source.baseline_loss,
        f"baseline_{source.metric}": source.baseline_metric,
    }


def result_text(source: Source, result: dict[str, Any]) -> str:
    """Returns the outcome in one line, beside a guess without memory."""
    metric = source.metric
    return (
        f"{source.name}, length {source.length}: test {metric} "
        f"{result[f'test_{metric}']:.6g} at step {result['best_step']}; a guess "
        f"without memory has {source.baseline_metric:.6g}"
    )
