"""Several updates in one call: another speed, and the same bits."""

import dataclasses
import signal
from pathlib import Path

import jax.numpy as jnp
import pytest

from experiments import train
from experiments.common.launch import Exit
from experiments.runs import loop
from experiments.runs.programs import Programs
from seqjax.tasks import Example
from tests.experiments.small_runs import (
    leaf_hashes,
    options_of,
    record,
    rows,
    saved_steps,
)

pytestmark = pytest.mark.usefixtures("kept_programs", "optimised")

# Evaluations at 0, 6, 12 and checkpoints at 5, 10, 12 cut calls of five steps short.
EVERY = ("--eval_every=6", "--save_every=5", "--gradient_every=0", "--log_every=2")


@pytest.mark.parametrize(
    "arguments",
    [
        EVERY,
        (*EVERY, "--gradient_every=3", "--method=two_level"),
        (
            *(*EVERY, "--task=copy_memory", "--cell=gru", "--num_layers=2"),
            *("--dropout=0.2", "--zoneout=0.1", "--accumulate_steps=2"),
        ),
    ],
    ids=["plain", "probed", "noise"],
)
def test_five_steps_a_call_give_the_bits_of_one(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    one, five = tmp_path / "one", tmp_path / "five"
    train.main(options_of(one, *arguments))
    train.main(options_of(five, *arguments, "--steps_per_call=5"))
    assert rows(five) == rows(one)
    assert saved_steps(five) == saved_steps(one)
    for step in saved_steps(one):
        assert leaf_hashes(five, step) == leaf_hashes(one, step)
    assert record(five)["result"] == record(one)["result"]
    curves = "gradient_norms.npz"
    assert (five / curves).exists() == (one / curves).exists()
    if (one / curves).exists():
        assert (five / curves).read_bytes() == (one / curves).read_bytes()


def test_calls_end_where_something_is_due_and_a_signal_is_heard_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, advance, calls = tmp_path / "run", Programs.advance, []

    def recorded(programs: Programs, state, step: int, count: int):
        calls.append((step, count))
        if len(calls) == 3:
            signal.raise_signal(signal.SIGTERM)
        return advance(programs, state, step, count)

    monkeypatch.setattr(Programs, "advance", recorded)
    arguments = (*EVERY, "--steps_per_call=5")
    with pytest.raises(Exit, match="stopped by SIGTERM at step 10, saved") as caught:
        train.main(options_of(path, *arguments))
    assert caught.value.code == 128 + signal.SIGTERM
    assert calls == [(0, 5), (5, 1), (6, 4)]
    # Another number of steps a call goes on with the same run.
    train.main(options_of(path, *EVERY, "--steps_per_call=2"))
    assert calls[3:] == [(10, 2)]
    train.main(options_of(tmp_path / "whole", *EVERY))
    assert rows(path) == rows(tmp_path / "whole")
    assert leaf_hashes(path, 12) == leaf_hashes(tmp_path / "whole", 12)


@pytest.mark.parametrize("steps_per_call", [1, 5])
def test_a_loss_that_is_not_finite_inside_a_call_is_the_last_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps_per_call: int
) -> None:
    path = tmp_path / "run"
    arguments = (*EVERY, "--log_every=1", f"--steps_per_call={steps_per_call}")
    options = options_of(path, *arguments)
    source = loop.build_source(options, options.seed)

    def expand(raw: tuple) -> Example:
        example, (split, step) = source.expand(raw), raw
        # Split 1 is train.
        factor = jnp.where((split == 1) & (step == 7), jnp.nan, 1)
        return example._replace(targets=example.targets * factor)

    poisoned = Programs(options, dataclasses.replace(source, expand=expand))
    monkeypatch.setattr(loop, "build", lambda options: poisoned)
    with pytest.raises(Exit, match="step 7: gradient_norm and loss") as caught:
        train.main(options)
    assert caught.value.code == 3
    found = [row["step"] for row in rows(path) if row["split"] == "train"]
    assert found == list(range(8))
    assert rows(path)[-1]["loss"] is None
    assert max(saved_steps(path)) == 6
