"""Signals and kills: whatever ends a run, the same command completes it to the bit."""

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.experiments.small_runs import (
    ROOT,
    SMALL,
    command,
    environment,
    leaf_hashes,
    record,
    rows,
    saved_steps,
    started,
)

NUM_STEPS = 200
LONGER = (f"--num_steps={NUM_STEPS}", "--eval_every=7", "--save_every=5")
NUM_KILLS = 4


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled programs, so that a process need not compile again."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A run that went through without a break."""
    path = tmp_path_factory.mktemp("kill") / "run"
    complete(path, cache)
    return path


def complete(path: Path, cache: Path) -> None:
    """Runs to the end, from wherever the run is."""
    subprocess.run(
        command(*SMALL, *LONGER, f"--run_dir={path}"),
        cwd=ROOT,
        env=environment(cache),
        check=True,
    )


def wait_for_rows(path: Path, count: int) -> None:
    """Waits until metrics.jsonl has at least `count` lines."""
    deadline, metrics = time.monotonic() + 120, path / "metrics.jsonl"
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def assert_same(path: Path, finished: Path) -> None:
    """Checks every row, every leaf of the last state, every curve and the result."""
    assert rows(path) == rows(finished)
    assert leaf_hashes(path, NUM_STEPS) == leaf_hashes(finished, NUM_STEPS)
    assert record(path)["result"] == record(finished)["result"]
    curves = "gradient_norms.npz"
    assert (path / curves).read_bytes() == (finished / curves).read_bytes()


def test_a_signal_saves_and_the_same_command_goes_on(
    finished: Path, cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    with started(path, cache, *LONGER) as process:
        wait_for_rows(path, 20)
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert err.count("\n") == 1
    assert "stopped by SIGTERM at step" in err
    kept = record(path)
    assert kept["status"] == "stopped"
    assert saved_steps(path)[-1] == kept["step"]
    logged = [row["step"] for row in rows(path) if row["split"] == "train"]
    assert logged == list(range(kept["step"]))
    complete(path, cache)
    assert_same(path, finished)


def test_ctrl_c_during_start_up_ends_in_a_run_that_goes_on(
    finished: Path, cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    with started(path, cache, *LONGER) as process:
        deadline = time.monotonic() + 60
        while not (path / "run.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert err.count("\n") == 1
    complete(path, cache)
    assert_same(path, finished)


def test_a_second_signal_ends_it_at_once(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    with started(path, cache, "--num_steps=1000000") as process:
        wait_for_rows(path, 3)
        process.send_signal(signal.SIGSTOP)
        # Both are pending when it goes on; Python handles the lower number first.
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert record(path)["status"] == "incomplete"


def test_a_study_that_is_stopped_stops_its_training_runs(
    cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "temporal_order_6a" / "short" / "seed_0"
    flags = ("--figure=temporal_order_6a", f"--out_dir={tmp_path}")
    with subprocess.Popen(
        command(*flags, module="experiments.reproduce"),
        cwd=ROOT,
        env=environment(cache),
        stdout=subprocess.DEVNULL,
    ) as process:
        wait_for_rows(path, 3)
        process.terminate()
        process.wait(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    kept = record(path)
    assert kept["status"] == "stopped"
    assert saved_steps(path)[-1] == kept["step"]


def test_kills_at_random_moments_change_nothing(
    finished: Path, cache: Path, tmp_path: Path
) -> None:
    path, moments = tmp_path / "run", random.Random(0)
    for _ in range(NUM_KILLS):
        known = len(rows(path)) if (path / "metrics.jsonl").exists() else 0
        with started(path, cache, *LONGER) as process:
            if moments.random() < 0.2:  # while it starts
                time.sleep(moments.uniform(0, 2))
            else:
                # Soon after the first rows that are new, and so at any kind of work.
                wait_for_new_row(path, known, process)
                time.sleep(moments.uniform(0, 0.05))
            process.kill()
    complete(path, cache)
    assert_same(path, finished)
    assert len(record(path)["attempts"]) > NUM_KILLS / 2


def wait_for_new_row(path: Path, known: int, process: subprocess.Popen) -> None:
    """Waits until metrics.jsonl holds more than it did, or the process has ended."""
    size = -1
    while process.poll() is None:
        metrics = path / "metrics.jsonl"
        now = metrics.stat().st_size if metrics.exists() else 0
        if 0 <= size < now:
            return
        size = now
        time.sleep(0.002)
