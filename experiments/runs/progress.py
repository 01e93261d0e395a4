"""Shows how far a run is: a bar on a terminal, plain lines elsewhere, or nothing."""

import contextlib
import datetime
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn


class Pace:
    """Measures time per step, without the time spent on anything else."""

    def __init__(self, step: int) -> None:
        """Starts the clock.

        Args:
          step: number of updates done before.
        """
        self._start = self._mark = (time.perf_counter(), step)
        self._paused = 0.0
        self._timed: dict[str, list[float]] = {}

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the clock of the steps per second inside a `with` block."""
        paused_at = time.perf_counter()
        yield
        pause = time.perf_counter() - paused_at
        self._mark = (self._mark[0] + pause, self._mark[1])
        self._paused += pause

    @contextlib.contextmanager
    def timed(self, name: str, count: int = 1) -> Iterator[None]:
        """Notes the time that each of `count` equal pieces of a `with` block takes."""
        began = time.perf_counter()
        yield
        seconds = (time.perf_counter() - began) / count
        self._timed.setdefault(name, []).append(seconds)

    def cost(self) -> dict[str, float]:
        """Returns what measurements of the gradient cost; {} before there are any.

        Returns:
          `measurements`, their number; the median seconds of everything timed, among
          which are `update` and `probed_update`; and `share`, how much of the time
          without evaluations and checkpoints they took beyond plain updates; below 0
          where that is less than the noise of the clock.
        """
        times = {name: statistics.median(x) for name, x in self._timed.items()}
        if not {"update", "probed_update"} <= times.keys():
            return {}
        count = len(self._timed["probed_update"])
        whole = time.perf_counter() - self._start[0] - self._paused
        extra = sum(times.values()) - 2 * times["update"]
        seconds = {f"{name}_seconds": value for name, value in times.items()}
        return {"measurements": count, **seconds, "share": count * extra / whole}

    def remaining(self, step: int, num_steps: int) -> datetime.timedelta | None:
        """Returns the expected time until `num_steps`, pauses included."""
        began, first = self._start
        if step <= first:
            return None
        per_step = (time.perf_counter() - began) / (step - first)
        return datetime.timedelta(seconds=round(per_step * (num_steps - step)))

    def steps_per_second(self, step: int) -> float | None:
        """Returns the mean speed since the last call, None without a step since."""
        began, first = self._mark
        if step <= first:
            return None
        now = time.perf_counter()
        self._mark = (now, step)
        return (step - first) / max(now - began, 1e-9)


class Display:
    """One run's progress on standard output."""

    def __init__(self, mode: str, num_steps: int) -> None:
        """Opens the display.

        Args:
          mode: bar, line, none, or auto for a bar on a terminal and lines elsewhere.
          num_steps: steps of the whole run.
        """
        if mode == "auto":
            mode = "bar" if sys.stdout.isatty() else "line"
        self._mode, self._num_steps = mode, num_steps
        self._figures: dict[str, float | None] = {}
        self._bar = Progress(
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            disable=mode != "bar",
        )
        self._task = self._bar.add_task("compiling", total=num_steps)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def show(
        self,
        step: int,
        figures: Mapping[str, float | None],
        remaining: datetime.timedelta | None,
        *,
        milestone: bool,
    ) -> None:
        """Shows the newest figures.

        Args:
          step: number of updates done.
          figures: names and values; those not given keep their last value.
          remaining: expected time until the end.
          milestone: whether the figures are worth a line of their own.
        """
        self._figures.update(figures)
        text = "  ".join(
            f"{name} {value:.4g}"
            for name, value in self._figures.items()
            if value is not None
        )
        text = f"ETA {remaining}  {text}" if remaining is not None else text
        if self._mode == "bar":
            self._bar.update(self._task, completed=step, description=text)
        elif self._mode == "line" and milestone:
            print(f"step {step}/{self._num_steps}  {text}", flush=True)

    def say(self, text: str) -> None:
        """Prints a line that stays, unless nothing is to be shown."""
        if self._mode == "bar":
            self._bar.console.print(text, highlight=False, markup=False)
        elif self._mode == "line":
            print(text, flush=True)
