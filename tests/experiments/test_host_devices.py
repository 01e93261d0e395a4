"""A batch that several devices share trains as on one, up to the order of sums."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from experiments import train
from experiments.common.launch import Exit
from tests.experiments.small_runs import ROOT, leaf_hashes, options_of, record, rows

# The number of devices is fixed when a process begins. So one process trains on two and
# on one of them, and measures a state again; each run is a line of arguments.
# Of six sequences each weighs its index, so that the devices' shares differ in weight.
DRIVER = """
import dataclasses, json, sys
from pathlib import Path
import jax
import numpy as np
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
from experiments import evaluate, train
from experiments.runs import loop
from experiments.common.launch import parse
from experiments.runs.options import Options
build_source = loop.build_source
def weighted_source(options, seed):
    source = build_source(options, seed)
    if options.batch_size != 6:
        return source
    def expand(raw):
        example = source.expand(raw)
        weights = np.arange(6, dtype=np.float32)
        weights = weights.reshape(6, *[1] * (example.mask.ndim - 1))
        return example._replace(mask=example.mask * weights)
    return dataclasses.replace(source, expand=expand)
loop.build_source = weighted_source
runs = [parse(json.loads(line), Options) for line in sys.stdin]
quick = jax.config.read("jax_disable_most_optimizations")
for options in runs:
    claimed = Path(options.run_dir).name.startswith("calls")  # about their bits
    jax.config.update("jax_disable_most_optimizations", quick and not claimed)
    train.main(options)
evaluate.main(parse([f"--run_dir={runs[0].run_dir}"], evaluate.Options))
"""
FLAGS = (
    *("--batch_size=6", "--num_steps=20", "--eval_every=10", "--gradient_every=4"),
    *("--length=8", "--hidden_size=4", "--eval_size=10", "--log_every=1"),
    *("--learning_rate=0.01", "--progress=none", "--noreport", "--lag_sequences=0"),
)
TASKS = {
    "adding": ("--variant=hochreiter", "--length=20"),
    "copy_memory": ("--task=copy_memory", "--cell=gru", "--num_layers=2"),
    "parity": (
        *("--task=parity", "--cell=elman", "--method=scan"),
        *("--orthogonal_penalty=0.01", "--spectral_limit=0.9"),
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on one and two devices, named TASK-DEVICES, and others beside them."""
    folder = tmp_path_factory.mktemp("devices")
    wanted = {
        f"{task}-{count}": (*more, f"--host_devices={count}")
        for count in (2, 1)
        for task, more in TASKS.items()
    } | {
        "calls-1": ("--batch_size=4", "--host_devices=2"),
        "calls-3": ("--batch_size=4", "--host_devices=2", "--steps_per_call=3"),
        "copy_memory-2-dropout": (
            *TASKS["copy_memory"],
            *("--host_devices=2", "--dropout=0.5"),
        ),
    }
    lines = [
        json.dumps([*FLAGS, *more, f"--run_dir={folder / name}"])
        for name, more in wanted.items()
    ]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (folder / "evaluated.json").write_text(done.stdout.splitlines()[-1])
    return folder


@pytest.mark.parametrize("task", TASKS)
def test_two_devices_train_as_one(folder: Path, task: str) -> None:
    one, two = rows(folder / f"{task}-1"), rows(folder / f"{task}-2")
    assert record(folder / f"{task}-2")["devices"] == ["cpu", "cpu"]
    assert len(one) == len(two) > 20
    for row, other in zip(one, two, strict=True):
        # Rounding to 6e-8 in every sum, through 20 updates. A rate is a difference of
        # logarithms near 10; a half-life is 1 over it. The penalty adds the squares of
        # differences near 1e-2 of numbers near 1.
        assert other.keys() == row.keys()
        for name in row.keys() - {"split", "half_life"}:
            rate = name.startswith("decay_rate")
            rel = 1e-4 if name == "penalty" else 1e-5
            near = pytest.approx(row[name], rel=rel, abs=1e-6 * rate)
            assert other[name] == near, name
    # Otherwise both may have run on one device.
    last = leaf_hashes(folder / f"{task}-1", 20)
    assert leaf_hashes(folder / f"{task}-2", 20) != last


def test_several_steps_a_call_keep_every_bit(folder: Path) -> None:
    plain, calls = folder / "calls-1", folder / "calls-3"
    assert rows(calls) == rows(plain)
    assert leaf_hashes(calls, 20) == leaf_hashes(plain, 20)


def test_dropout_reaches_training_alone(folder: Path) -> None:
    plain, dropped = (
        {row["split"]: row["loss"] for row in rows(folder / name) if row["step"] == 0}
        for name in ("copy_memory-2", "copy_memory-2-dropout")
    )
    assert dropped["valid"] == plain["valid"]
    assert dropped["train"] != plain["train"]


def test_evaluate_gives_the_number_of_the_run(folder: Path) -> None:
    row = json.loads((folder / "evaluated.json").read_text())
    assert row["split"] == "test"
    assert row in rows(folder / "adding-2")


def test_devices_that_come_too_late_are_refused(tmp_path: Path) -> None:
    assert len(jax.devices()) < 64
    arguments = ("--batch_size=64", "--host_devices=64")
    with pytest.raises(Exit, match="--host_devices=64: this process has") as caught:
        train.main(options_of(tmp_path / "run", *arguments))
    assert caught.value.code == 2
    assert not (tmp_path / "run").exists()
