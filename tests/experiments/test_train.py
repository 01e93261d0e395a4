"""Training: what it leaves, that it repeats and resumes to the bit, and how it ends."""

import dataclasses
import errno
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import jax.numpy as jnp
import numpy as np
import pytest
from flax.training.train_state import TrainState

from experiments import evaluate, train
from experiments.common import files
from experiments.common.launch import Exit, launch, parse, read_flagfile
from experiments.runs import loop, run_dir, training_state
from experiments.runs.logs import read_gradient_norms
from experiments.runs.options import Options
from experiments.runs.programs import Programs
from seqjax.tasks import Example
from tests.experiments.small_runs import (
    SMALL,
    leaf_hashes,
    options_of,
    record,
    rows,
    saved_steps,
)

pytestmark = pytest.mark.usefixtures("optimised")

LAST = 12  # --num_steps of a small run


@pytest.fixture(scope="module", autouse=True)
def compile_once() -> Iterator[None]:
    """Shares compiled programs, since most runs here are the same."""
    build, known = loop.build, {}

    def shared(options: Options) -> Programs:
        key = (*options.identity().items(), options.steps_per_call)
        if key not in known:
            known[key] = build(options)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "build", shared)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that went through without a break."""
    path = tmp_path_factory.mktemp("train") / "run"
    train.main(options_of(path))
    return path


def crash(path: Path, step: int, *arguments: str) -> None:
    """Makes a run that ends in an exception instead of update `step` + 1."""
    dispatch = loop.Loop._dispatch

    def dispatch_or_raise(self: loop.Loop) -> None:
        if self.step == step:
            raise RuntimeError("crash")
        dispatch(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Loop, "_dispatch", dispatch_or_raise)
        with pytest.raises(RuntimeError, match="crash"):
            train.main(options_of(path, *arguments))
    assert record(path)["status"] == "failed"


def test_a_run_leaves_rows_checkpoints_curves_and_a_result(finished: Path) -> None:
    found = [(row["step"], row["split"]) for row in rows(finished)]
    assert sorted(found) == sorted(
        [(step, "train") for step in range(LAST)]
        + [(step, "valid") for step in (0, 4, 8, 12)]
        + [(record(finished)["result"]["best_step"], "test")]
    )
    train_rows = [row for row in rows(finished) if row["split"] == "train"]
    assert {"loss", "mean_squared_error", "learning_rate", "gradient_norm"} <= set(
        train_rows[1]
    )
    assert [row["step"] for row in train_rows if "decay_rate" in row] == [0, 3, 6, 9]
    assert {5, 10, 12} <= set(saved_steps(finished))
    arrays = read_gradient_norms(finished / "gradient_norms.npz")
    assert arrays["steps"].tolist() == [0, 3, 6, 9]
    assert arrays["parts"].tolist() == ["hidden", "cell", "joint"]
    assert arrays["log_norms"].shape == (4, 3, 3, 9)
    assert arrays["decay_rates"].shape == (4, 3, 3)
    assert arrays["lag_edges"].tolist() == [0, 1]
    np.testing.assert_allclose(arrays["lag_shares"].sum(axis=1), np.ones(4), rtol=1e-6)
    lines = (finished / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    (cost,) = (event for event in events if event["event"] == "gradient_cost")
    assert cost["measurements"] == 4
    for name in ("update", "probed_update", "lag_shares"):
        assert cost[f"{name}_seconds"] > 0
    kept = record(finished)
    assert kept["status"] == "done"
    assert kept["task"]["baseline_metric"] == pytest.approx(1 / 6)
    best = min(
        (row["mean_squared_error"], row["step"])
        for row in rows(finished)
        if row["split"] == "valid"
    )
    result = kept["result"]
    assert (result["valid_mean_squared_error"], result["best_step"]) == best


def test_repeating_from_its_flags_gives_the_same_bits(
    finished: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    arguments = [*read_flagfile(finished / "flags.txt"), f"--run_dir={again}"]
    train.main(parse(arguments, Options))
    assert rows(again) == rows(finished)
    assert leaf_hashes(again, LAST) == leaf_hashes(finished, LAST)
    curves = "gradient_norms.npz"
    assert (again / curves).read_bytes() == (finished / curves).read_bytes()


# Checkpoints are those of steps 0, 5, 10, 12 and of each better evaluation.
@pytest.mark.parametrize("step", [0, 3, 5, 7, 11])
def test_resuming_after_a_crash_gives_the_same_bits(
    finished: Path, tmp_path: Path, step: int
) -> None:
    path = tmp_path / "run"
    crash(path, step)
    train.main(options_of(path, "--resume=must"))
    assert rows(path) == rows(finished)
    assert leaf_hashes(path, LAST) == leaf_hashes(finished, LAST)
    assert record(path)["result"] == record(finished)["result"]
    curves = "gradient_norms.npz"
    assert (path / curves).read_bytes() == (finished / curves).read_bytes()


def test_a_full_disk_is_one_line_and_the_run_goes_on_from_what_was_saved(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, write, refused = tmp_path / "run", files.write_atomic, []

    def write_until_full(target: Path, data: bytes) -> None:
        if refused or target.name == "10.json":
            refused.append(target.name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(target, data)

    monkeypatch.setattr(sys, "argv", ["train", *SMALL, f"--run_dir={path}"])
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomic", write_until_full)
        with pytest.raises(SystemExit) as stopped:
            launch(train.main, Options)
    assert stopped.value.code == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"{path}: No space left on device; what was saved stays: free some" in err
    # Not even that the run has failed.
    assert refused == ["10.json", "run.json"]
    assert max(saved_steps(path)) < 10
    train.main(options_of(path, "--resume=must"))
    assert rows(path) == rows(finished)
    assert leaf_hashes(path, LAST) == leaf_hashes(finished, LAST)


def test_the_clip_rate_counts_across_a_resume(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, build = tmp_path / "run", loop.build
    norms = [row["gradient_norm"] for row in rows(finished) if row["split"] == "train"]
    limit = np.median(norms)
    # The same programs: they clip at another norm than the one that is counted.
    monkeypatch.setattr(
        loop, "build", lambda options: build(dataclasses.replace(options, clip_norm=1))
    )
    arguments = (f"--clip_norm={limit}", "--gradient_every=0", "--log_every=4")
    crash(path, 7, *arguments)
    train.main(options_of(path, *arguments))
    found = [row["clip_rate"] for row in rows(path) if row["split"] == "train"]
    longer = np.asarray(norms) > limit
    assert found == [np.mean(longer[:1]), np.mean(longer[1:5]), np.mean(longer[5:9])]
    assert 0 < longer[1:9].sum() < 8


def test_measuring_gradients_or_waiting_less_often_changes_no_bit(
    finished: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    train.main(options_of(path, "--gradient_every=0", "--max_in_flight=8"))
    assert leaf_hashes(path, LAST) == leaf_hashes(finished, LAST)
    assert not (path / "gradient_norms.npz").exists()


def test_a_longer_run_goes_on_from_a_done_one(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    train.main(options_of(path, "--num_steps=4"))
    with pytest.raises(Exit, match="is done") as caught:
        train.main(options_of(path, "--num_steps=4"))
    assert caught.value.code == 5
    train.main(options_of(path))
    assert leaf_hashes(path, LAST) == leaf_hashes(finished, LAST)
    assert rows(path) == rows(finished)


def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(
    finished: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    crash(path, 11)
    newest = saved_steps(path)[-1]
    manifest = path / "checkpoints" / f"{newest}.json"
    manifest.write_text(manifest.read_text().replace("a", "b", 1))
    train.main(options_of(path))
    assert rows(path) == rows(finished)
    assert leaf_hashes(path, LAST) == leaf_hashes(finished, LAST)
    curves = "gradient_norms.npz"
    assert (path / curves).read_bytes() == (finished / curves).read_bytes()
    events = [json.loads(x) for x in (path / "events.jsonl").read_text().splitlines()]
    assert [e["step"] for e in events if e["event"] == "damaged"] == [newest]


def test_without_an_intact_checkpoint_the_exit_code_is_4(tmp_path: Path) -> None:
    path = tmp_path / "run"
    train.main(options_of(path))
    for step in saved_steps(path):
        (path / "checkpoints" / f"{step}.json").write_text("{}")
    with pytest.raises(Exit, match="no intact checkpoint") as caught:
        train.main(options_of(path, f"--num_steps={LAST + 1}"))
    assert caught.value.code == 4


def test_a_loss_that_is_not_finite_ends_the_run_and_is_never_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, options = tmp_path / "run", options_of(tmp_path / "run")
    source = loop.build_source(options, options.seed)

    def expand(raw: tuple) -> Example:
        example, (split, step) = source.expand(raw), raw
        # Split 1 is train.
        factor = jnp.where((split == 1) & (step == 3), jnp.nan, 1)
        return example._replace(targets=example.targets * factor)

    poisoned = Programs(options, dataclasses.replace(source, expand=expand))
    monkeypatch.setattr(loop, "build", lambda options: poisoned)
    with pytest.raises(Exit, match="step 3: gradient_norm and loss") as caught:
        train.main(options)
    assert caught.value.code == 3
    kept = record(path)
    assert kept["status"] == "diverged"
    assert "step 3" in kept["reason"]
    assert rows(path)[-1] == {
        "step": 3,
        "split": "train",
        "loss": None,
        "mean_squared_error": None,
        "learning_rate": pytest.approx(1e-3),
        "gradient_norm": None,
        "clip_rate": 0,
        "decay_rate": None,
        "half_life": None,
        "decay_rate_p10": None,
        "decay_rate_p50": None,
        "decay_rate_p90": None,
        "gradient_horizon": None,
        "gradient_norm_clipped": None,
        "clip_cosine": None,
        "lag_shares": rows(path)[-1]["lag_shares"],
    }
    assert sum(rows(path)[-1]["lag_shares"]) == pytest.approx(1)
    assert max(saved_steps(path)) == 0


def test_a_good_enough_metric_ends_the_run(finished: Path, tmp_path: Path) -> None:
    path, first = tmp_path / "run", rows(finished)[0]["mean_squared_error"]
    train.main(options_of(path, f"--stop_at={first}"))
    assert record(path)["result"]["steps"] == 0


def test_running_out_of_patience_ends_the_run_and_survives_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        training_state, "is_better", lambda training, *_, **__: training.best_step < 0
    )
    path = tmp_path / "run"
    crash(path, 6, "--early_stop_patience=2")
    train.main(options_of(path, "--early_stop_patience=2"))
    assert record(path)["result"]["steps"] == 8
    assert record(path)["result"]["best_step"] == 0


@pytest.mark.parametrize("lower", [True, False])
def test_only_a_finite_metric_is_better(lower: bool) -> None:
    start = training_state.start(cast(TrainState, None))
    assert not training_state.is_better(start, np.nan, lower_is_better=lower)
    assert training_state.is_better(start, 0.5, lower_is_better=lower)
    once = start.evaluated(2, 0.5, better=True)
    assert not training_state.is_better(once, np.nan, lower_is_better=lower)
    assert not training_state.is_better(once, 0.5, lower_is_better=lower)
    assert training_state.is_better(once, 0.4, lower_is_better=lower) == lower
    assert training_state.is_better(once, 0.6, lower_is_better=lower) != lower
    later = once.evaluated(4, 0.9, better=False)
    assert (later.best_step, later.best_metric, later.evals_since_best) == (2, 0.5, 1)


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("checkpoint", ["best", "latest"])
def test_evaluate_gives_the_number_that_the_run_logged(
    finished: Path,
    capsys: pytest.CaptureFixture[str],
    split: str,
    checkpoint: str,
) -> None:
    arguments = [f"--run_dir={finished}", f"--split={split}"]
    evaluate.main(parse([*arguments, f"--checkpoint={checkpoint}"], evaluate.Options))
    row = json.loads(capsys.readouterr().out)
    best = record(finished)["result"]["best_step"]
    assert row["step"] == (best if checkpoint == "best" else LAST)
    if (split, checkpoint) != ("test", "latest") or best == LAST:
        assert row in rows(finished)


def test_dry_run_writes_nothing_and_compares_with_plain_autodiff(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--dry_run", "--length=200", "--product_dtype=bfloat16")
    train.main(options_of(tmp_path / "run", *arguments, "--method=two_level"))
    assert list(tmp_path.iterdir()) == []
    out = capsys.readouterr().out
    assert "lstm(input_size=2, hidden_size=4)" in out
    # 4 gates of (2 + 4) x 4 weights and 4 biases; then 4 weights and a bias.
    assert "total                          117\n" in out
    sizes = dict(re.findall(r"^  (\S.*?) +([0-9,.]+)$", out, re.MULTILINE))
    chosen, plain = sizes["temporaries"], sizes["temporaries, --method=scan"]
    # Some 35 carries in place of 200 steps with their gates.
    assert float(chosen) < float(plain) / 2
    train.main(options_of(tmp_path / "run", "--dry_run", "--method=scan"))
    assert "--method=scan" not in capsys.readouterr().out


def test_impossible_tasks_are_bad_flags(tmp_path: Path) -> None:
    for arguments, words in [
        (("--length=1",), "length: expected a whole number >= 2"),
        (("--cell=jordan", "--leak=0.5", "--zoneout=0.5"), "zoneout"),
        (("--task=mnist_rows", "--data_dir=/nonexistent"), "mnist"),
    ]:
        with pytest.raises(Exit, match=words) as caught:
            train.main(options_of(tmp_path / "run", *_without_length(arguments)))
        assert caught.value.code == 2
        assert list(tmp_path.iterdir()) == []


def _without_length(arguments: tuple[str, ...]) -> tuple[str, ...]:
    # Data sets have a length of their own.
    mnist = any("mnist" in argument for argument in arguments)
    return (*arguments, "--length=100") if mnist else arguments


def test_output_elsewhere_than_on_a_terminal_is_plain_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.main(options_of(tmp_path / "run", "--progress=auto"))
    out = capsys.readouterr().out
    assert "\r" not in out
    assert "\x1b" not in out
    assert [line.split("  ")[0] for line in out.splitlines()[1:5]] == [
        f"step {step}/{LAST}" for step in (0, 4, 8, 12)
    ]
    last = out.splitlines()[-1]
    assert last.startswith("adding, length 8: test mean_squared_error ")
    assert last.endswith("; a guess without memory has 0.166667")


def test_a_locked_run_is_left_alone(tmp_path: Path) -> None:
    options = options_of(tmp_path / "run")
    with run_dir.open_run(options, {}), pytest.raises(Exit, match="locked") as caught:
        loop.train(options)
    assert caught.value.code == 5
