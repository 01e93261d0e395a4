"""The training loop: steps, evaluations, checkpoints, and an orderly end.

State s is the state after s updates. At each s the loop evaluates if due, saves if due,
and then makes update s + 1, or one call makes all up to the next s with something due,
so that a checkpoint of s knows the evaluation at s. What is logged is fetched from the
device behind the newest dispatched call.
"""

import collections
import functools
import math
import signal
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.training.train_state import TrainState

from experiments.common import environment
from experiments.common.launch import BAD_FLAG, NO_CHECKPOINT, NON_FINITE, Exit
from experiments.runs import run_dir, task_file, training_state
from experiments.runs.answers import leave_answers
from experiments.runs.checkpoints import Checkpoints, NonFiniteError
from experiments.runs.factories import build_source
from experiments.runs.flow import GradientFlow, LagShares, fetch, summary
from experiments.runs.logs import GradientLog, MetricsLog
from experiments.runs.options import Options
from experiments.runs.programs import Programs
from experiments.runs.progress import Display, Pace
from experiments.runs.run_dir import RunDir
from experiments.runs.stopping import StopRequest
from seqjax.array_types import Array


def build(options: Options) -> Programs:
    """Returns the programs of a run.

    Args:
      options: the flags of the run.

    Raises:
      Exit: the flags do not make a task, a model or an optimiser, or their devices
        are not there.
    """
    try:
        return Programs(options, build_source(options, options.seed))
    except ValueError as error:
        raise Exit(BAD_FLAG, str(error)) from error


def train(options: Options) -> None:
    """Trains until the end, a signal, or a number that is not finite.

    Args:
      options: the flags of the run.

    Raises:
      Exit: the run directory cannot be used, all its checkpoints are damaged, a number
        was not finite, or a signal came.
    """
    programs = build(options)
    with (
        StopRequest() as stop,
        run_dir.open_run(options, environment.describe()) as run,
    ):
        run.update(task=training_state.describe_task(programs.source))
        task_file.write(run.path, programs.source)
        with Display(options.progress, options.num_steps) as display:
            loop = Loop(options, programs, run, display, stop)
            result = _train(options, loop, run)
        if result is None:
            run.finish("stopped", step=loop.step)
            name = signal.Signals(stop.exit_code - 128).name
            raise Exit(stop.exit_code, f"stopped by {name} at step {loop.step}, saved")
        run.finish("done", result=result)
    print(training_state.result_text(programs.source, result))


def _train(options: Options, loop: "Loop", run: RunDir) -> dict[str, Any] | None:
    """Returns the result, or None if a signal came."""
    try:
        return loop.test() if loop.train() else None
    except NonFiniteError as error:
        run.finish("diverged", reason=str(error))
        raise Exit(
            NON_FINITE,
            f"{error}; lower --learning_rate or --clip_norm. No later state was saved",
        ) from error


class Call(NamedTuple):
    """Updates that one call of a compiled program makes, perhaps still under way.

    Attributes:
      step: number of updates done before.
      num_updates: how many it makes.
      metrics: their metrics, `[num_updates or more]`, or scalars for one update.
      flow: from the probed update.
      shares: measured before it.
    """

    step: int
    num_updates: int
    metrics: dict[str, Array]
    flow: GradientFlow | None = None
    shares: LagShares | None = None


class Loop:
    """One attempt at a run.

    Attributes:
      step: number of updates done.
    """

    def __init__(
        self,
        options: Options,
        programs: Programs,
        run: RunDir,
        display: Display,
        stop: StopRequest,
    ) -> None:
        """Restores the newest intact state, or makes the first one.

        Args:
          options: the flags of the run.
          programs: what to execute.
          run: where to write.
          display: where to show.
          stop: asks for an early end.

        Raises:
          Exit: there are checkpoints, and none is intact.
        """
        self._options, self._programs, self._source = options, programs, programs.source
        self._run, self._display, self._stop = run, display, stop
        self._checkpoints = Checkpoints(
            run.path / "checkpoints",
            keep_last=options.keep_last,
            on_damage=lambda step, reason: run.event(
                "damaged", step=step, reason=reason
            ),
        )
        self._saved: tuple[int, int] | None = None
        self.step, self._training = self._restore()
        evaluated_step = int(self._training.evaluated_step)
        self._metrics = MetricsLog(
            run.path / "metrics.jsonl", self.step, evaluated_step
        )
        self._gradients = GradientLog(
            run.path / "gradient_norms.npz",
            programs.parts,
            self.step,
            programs.lag_edges,
        )
        self._pending: collections.deque[Call] = collections.deque()

    def train(self) -> bool:
        """Trains; returns True at the end, False if a signal came, both after saving.

        Raises:
          NonFiniteError: a loss, a gradient or a parameter is not finite.
        """
        self._display.say(f"compiling for {jax.devices()[0].device_kind}")
        self._programs.compile(probed=bool(self._options.gradient_every))
        self._pace = Pace(self.step)
        while not self._stop.signal:
            if self._evaluation_due() and not self._evaluate():
                continue
            if self._finished():
                self._save()
                self._tell_cost()
                return True
            if self.step and self.step % self._options.save_every == 0:
                self._save()
            self._dispatch()
        self._save()
        self._tell_cost()
        return False

    def test(self) -> dict[str, Any] | None:
        """Measures the best state on the test set; None if a signal came."""
        best = self._training
        if best.best_step < 0:
            raise NonFiniteError("no validation metric was finite")
        if best.best_step != self.step:
            best = training_state.restore_step(
                self._checkpoints, self._programs.state_shape, int(best.best_step)
            )
        values = self._measure(best, "test")
        if values is None:
            return None
        self._write_row(int(best.best_step), "test", values)
        self._metrics.sync()
        result = training_state.describe_result(self._source, self._training, values)
        say = self._display.say
        return result | leave_answers(
            self._run.path, self._options, self._programs, best.state, say
        )

    def _restore(self) -> tuple[int, training_state.Training]:
        found = training_state.restore_newest(
            self._checkpoints, self._programs.state_shape
        )
        if found is None and self._options.resume == "must":
            raise Exit(
                NO_CHECKPOINT, f"--resume=must: no checkpoint in {self._run.path}"
            )
        first = training_state.start
        step, training = found or (0, first(self._programs.initial_state()))
        self._checkpoints.sweep(newest=step if found else -1)
        if found:
            self._saved = (step, int(training.evaluated_step))
            self._run.event("restored", step=step)
            self._display.say(f"resuming at step {step}")
        return step, training

    def _evaluation_due(self) -> bool:
        due = self.step % self._options.eval_every == 0
        last = self.step >= self._options.num_steps
        return (due or last) and self._training.evaluated_step != self.step

    def _finished(self) -> bool:
        patience, target = self._options.early_stop_patience, self._options.stop_at
        training = self._training
        if patience and training.evals_since_best >= patience:
            return True
        if target is not None and training.best_step >= 0:
            best, lower = float(training.best_metric), self._source.lower_is_better
            if best <= target if lower else best >= target:
                return True
        return self.step >= self._options.num_steps

    def _dispatch(self) -> None:
        """Starts the next updates, and logs the oldest of those under way."""
        every = self._options.gradient_every
        if every and self.step % every == 0:
            state, call = self._measure_gradient()
        else:
            state, call = self._advance(timed=bool(every and self.step % every == 1))
        self._training = self._training._replace(state=state)
        self._pending.append(call)
        self.step += call.num_updates
        while len(self._pending) >= self._options.max_in_flight:
            self._log(self._pending.popleft())

    def _advance(self, *, timed: bool) -> tuple[TrainState, Call]:
        """Starts updates; where they are timed, waits for them alone."""
        count = self._steps_to_call()
        start = self._training.state
        if not timed:
            state, metrics = self._programs.advance(start, self.step, count)
            return state, Call(self.step, count, metrics)
        self._drain()
        with self._pace.timed("update", count):
            state, metrics = self._programs.advance(start, self.step, count)
            jax.block_until_ready(metrics)
        return state, Call(self.step, count, metrics)

    def _measure_gradient(self) -> tuple[TrainState, Call]:
        """Makes one update that is measured, and timed like the one after it."""
        self._drain()
        state, programs, shares = self._training.state, self._programs, None
        if programs.lag_edges:
            with self._pace.timed("lag_shares"):
                shares = jax.block_until_ready(programs.measure_shares(state))
        with self._pace.timed("probed_update"):
            raw = self._source.train_batch(self.step)
            state, metrics, flow = programs.probed_update(state, raw)
            jax.block_until_ready((metrics, flow))
        return state, Call(self.step, 1, metrics, flow, shares)

    def _tell_cost(self) -> None:
        """Tells what the measurements of the gradient cost in this attempt."""
        if cost := self._pace.cost():
            self._run.event("gradient_cost", **cost)

    def _steps_to_call(self) -> int:
        """Returns how many updates may follow before something else is due."""
        options, step = self._options, self.step
        left = min(options.steps_per_call, options.num_steps - step)
        for every in (options.eval_every, options.save_every, options.gradient_every):
            left = min(left, every - step % every) if every else left
        return left

    def _drain(self) -> None:
        while self._pending:
            self._log(self._pending.popleft())

    def _log(self, call: Call) -> None:
        """Waits for a call, checks its updates, and logs those that are due."""
        metrics = jax.device_get(call.metrics)
        speed = functools.cache(
            lambda: self._pace.steps_per_second(call.step + call.num_updates)
        )
        for index in range(call.num_updates):
            step = call.step + index
            values = {k: float(np.ravel(v)[index]) for k, v in metrics.items()}
            bad = [name for name, value in values.items() if not math.isfinite(value)]
            exceeds = values["gradient_norm"] > self._options.clip_norm
            self._training = self._training.counted(exceeds=exceeds)
            if bad or call.flow is not None or step % self._options.log_every == 0:
                measured = None if call.flow is None else fetch(call.flow, call.shares)
                self._log_row(step, values, measured, speed())
            if bad:
                self._metrics.sync()
                raise NonFiniteError(f"step {step}: {' and '.join(bad)} not finite")

    def _log_row(
        self,
        step: int,
        values: dict[str, float],
        measured: dict[str, np.ndarray] | None,
        speed: float | None,
    ) -> None:
        updates = step // self._options.accumulate_steps
        row = {
            "loss": values["loss"],
            self._source.metric: values["metric"],
            "learning_rate": self._programs.learning_rate(updates),
            "gradient_norm": values["gradient_norm"],
            "steps_per_second": speed,
        }
        if "penalty" in values:
            row["penalty"] = values["penalty"]
        self._training, clip_rate = self._training.since_row()
        if self._options.clip_norm:
            row["clip_rate"] = clip_rate
        if measured is not None:
            self._gradients.add(step, measured)
            row |= summary(measured)
        self._write_row(step, "train", row)
        shown = ("loss", "decay_rate", "steps_per_second")
        self._show({name: row[name] for name in shown if name in row})

    def _evaluate(self) -> bool:
        """Measures the validation set; False if a signal came in between."""
        self._drain()
        values = self._measure(self._training, "valid")
        if values is None:
            return False
        metric = values[self._source.metric]
        better = training_state.is_better(
            self._training, metric, lower_is_better=self._source.lower_is_better
        )
        self._training = self._training.evaluated(self.step, metric, better=better)
        self._write_row(self.step, "valid", values)
        self._show({f"valid {self._source.metric}": metric}, milestone=True)
        if better:
            self._save()
        return True

    def _measure(
        self, training: training_state.Training, split: str
    ) -> dict[str, float] | None:
        with self._pace.paused():
            return self._programs.evaluate(
                training.state,
                split,
                self._options.eval_size,
                stopped=lambda: self._stop.signal is not None,
            )

    def _save(self) -> None:
        """Makes the state so far, and all rows before it, survive anything."""
        self._drain()
        version = (self.step, int(self._training.evaluated_step))
        if self._saved == version:
            return
        with self._pace.paused():
            self._gradients.save()
            self._metrics.sync()
            best = int(self._training.best_step)
            keep = (best,) if best >= 0 else ()
            self._checkpoints.save(self.step, self._training, keep=keep)
            self._run.event("checkpoint", step=self.step)
        self._saved = version

    def _write_row(self, step: int, split: str, values: dict[str, Any]) -> None:
        self._metrics.write({"step": step, "split": split, **values})

    def _show(
        self, figures: dict[str, float | None], *, milestone: bool = False
    ) -> None:
        remaining = self._pace.remaining(self.step, self._options.num_steps)
        self._display.show(self.step, figures, remaining, milestone=milestone)
