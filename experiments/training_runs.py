"""Training runs that a study starts, each in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from experiments import plots, run_dir
from experiments.launch import LOCKED_OR_DONE, format_value
from experiments.plots import RunData

_ROOT = Path(__file__).parents[1]
_AT_ONCE = 2
# On one thread a small network costs no more processor time than on two, whose products
# are too small to share, so that two runs side by side take half the time.
# Where there is a GPU, neither may take all of its memory.
_ENVIRONMENT = {"NPROC": "1", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
_SHARED = {"report": False, "progress": "none", "lag_sequences": 0}


def train(
    folder: Path, runs: Mapping[str, Mapping[str, Any]], *, full: bool
) -> dict[str, RunData]:
    """Trains all runs with `experiments.train`, two at a time.

    A run that was interrupted goes on, and one that is done is read only.

    Args:
      folder: of the study; the runs go to `short/NAME` or `full/NAME`.
      runs: flags by the run's name, values by the flag's name.
      full: whether these are the runs of the larger version.

    Returns:
      What each run logged.

    Raises:
      RuntimeError: a run ended in an error; its last words are quoted.
    """
    folder = folder.absolute() / ("full" if full else "short")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        waiting = [
            pool.submit(_train, folder / name, _SHARED | dict(flags))
            for name, flags in runs.items()
        ]
        try:
            for future in waiting:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return {name: plots.read_run(folder / name) for name in runs}


def _train(path: Path, flags: Mapping[str, Any]) -> None:
    """Trains one run and prints its result."""
    command = [sys.executable, "-m", "experiments.train", f"--run_dir={path}"]
    command += [f"--{name}={format_value(value)}" for name, value in flags.items()]
    ended = subprocess.run(
        command,
        cwd=_ROOT,
        env=_ENVIRONMENT | os.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    words = (ended.stdout.strip().splitlines() or ["no word"])[-1]
    if ended.returncode == LOCKED_OR_DONE and _done(path):
        words = "was done before"
    elif ended.returncode:
        raise RuntimeError(f"{path.name} ended with code {ended.returncode}: {words}")
    print(f"  {path.name}: {words}", flush=True)


def _done(path: Path) -> bool:
    return run_dir.read_record(path).get("status") == "done"
