"""Training runs that a study starts, each in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from experiments.common.launch import LOCKED_OR_DONE, Exit, format_value
from experiments.reports import plots
from experiments.reports.plots import RunData
from experiments.runs import run_dir

_ROOT = Path(__file__).parents[3]
_AT_ONCE = 2
# Where there is a GPU, neither may take all of its memory.
_ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
_SHARED = {"report": False, "progress": "none", "lag_sequences": 0}


def train(
    folder: Path,
    runs: Mapping[str, Mapping[str, Any]],
    *,
    full: bool,
    num_threads: int | None = 1,
) -> dict[str, RunData]:
    """Trains all runs with `experiments.train`, two at a time.

    A run that was interrupted goes on, and one that is done is read only. Where one
    fails, or a signal ends the study, the other saves its state and stops.

    Args:
      folder: of the study; the runs go to `short/NAME` or `full/NAME`.
      runs: flags by the run's name, values by the flag's name.
      full: whether these are the runs of the larger version.
      num_threads: of one run; all there are if None. The products of a small network
        are too small to be shared by threads.

    Returns:
      What each run logged.

    Raises:
      Exit: a run ended in an error; its last words are quoted.
    """
    folder = folder.absolute() / ("full" if full else "short")
    children: list[subprocess.Popen[str]] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        waiting = [
            pool.submit(
                _train, folder / name, _SHARED | dict(flags), num_threads, children
            )
            for name, flags in runs.items()
        ]
        try:
            for future in as_completed(waiting):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in children:
                child.terminate()
            raise
    return {name: plots.read_run(folder / name) for name in runs}


def _train(
    path: Path,
    flags: Mapping[str, Any],
    num_threads: int | None,
    children: list[subprocess.Popen[str]],
) -> None:
    """Trains one run and prints its result."""
    threads = {} if num_threads is None else {"NPROC": str(num_threads)}
    command = [sys.executable, "-m", "experiments.train", f"--run_dir={path}"]
    command += [f"--{name}={format_value(value)}" for name, value in flags.items()]
    child = subprocess.Popen(
        command,
        cwd=_ROOT,
        env=_ENVIRONMENT | threads | os.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Ctrl-C reaches the parent alone, which ends the child with one signal: a
        # second one would end it without saving.
        start_new_session=True,
    )
    children.append(child)
    output, _ = child.communicate()
    words = (output.strip().splitlines() or ["no word"])[-1]
    if child.returncode == LOCKED_OR_DONE and _done(path):
        words = "was done before"
    elif child.returncode:
        remedy = f"; or remove {path}" if path.exists() else ""
        words = f"{path.name} ended with code {child.returncode}: {words}{remedy}"
        raise Exit(child.returncode, words)
    print(f"  {path.name}: {words}", flush=True)


def _done(path: Path) -> bool:
    return run_dir.read_record(path).get("status") == "done"
