"""Runs of a second or two, for the tests of the launchers."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.common.launch import parse
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.options import Options

ROOT = Path(__file__).parents[2]
SMALL = (
    "--length=8",
    "--hidden_size=4",
    "--batch_size=3",
    "--eval_size=7",
    "--num_steps=12",
    "--eval_every=4",
    "--save_every=5",
    "--gradient_every=3",
    "--lag_sequences=2",
    "--log_every=1",
    "--keep_last=4",
    "--progress=none",
    "--noreport",
)


def options_of(path: Path, *arguments: str) -> Options:
    """The options of a small run."""
    return parse([*SMALL, f"--run_dir={path}", *arguments], Options)


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl without what a clock decides."""
    lines = (path / "metrics.jsonl").read_text().splitlines()
    parsed = [json.loads(line) for line in lines]
    return [{k: v for k, v in row.items() if k != "steps_per_second"} for row in parsed]


def record(path: Path) -> dict[str, Any]:
    """What run.json says."""
    return json.loads((path / "run.json").read_text())


def leaf_hashes(path: Path, step: int) -> dict[str, str]:
    """SHA-256 of every leaf of a checkpoint, as its manifest states them."""
    manifest = json.loads((path / "checkpoints" / f"{step}.json").read_text())
    return {name: leaf["sha256"] for name, leaf in manifest["leaves"].items()}


def saved_steps(path: Path) -> list[int]:
    """The steps that have a checkpoint."""
    return Checkpoints(path / "checkpoints").steps()


def command(*arguments: str, module: str = "experiments.train") -> list[str]:
    """The command line of a launcher."""
    return [sys.executable, "-m", module, *arguments]


def environment(cache: Path) -> dict[str, str]:
    """The environment of a launcher that keeps its compiled programs in `cache`."""
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }


@contextmanager
def started(path: Path, cache: Path, *arguments: str) -> Iterator[subprocess.Popen]:
    """A small run in a process of its own, killed at the end if it still runs."""
    process = subprocess.Popen(
        command(*SMALL, f"--run_dir={path}", *arguments),
        cwd=ROOT,
        env=environment(cache),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()
