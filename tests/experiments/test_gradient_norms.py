"""experiments.gradient_norms: its numbers are the library's, its files all there."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import gradient_norms
from experiments.common.launch import BAD_FLAG, Exit, parse
from experiments.common.out_dir import OutDir
from experiments.gradient_norms import Options
from experiments.laboratory.kernel_spectra import run_snapshots
from experiments.laboratory.norm_details import spread
from experiments.laboratory.subjects import split_keys
from experiments.runs import loop, training_state
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.options import Options as TrainOptions
from experiments.runs.options import format_flags
from seqjax import cells
from seqjax.gradients import decay_rate, log_gradient_norms
from seqjax.tasks import adding, sample_batch

SMALL = ("--hidden_size=3", "--num_sequences=2")


def run(folder: Path, *arguments: str) -> tuple[list[dict], dict[str, np.ndarray]]:
    """The rows and arrays of a small measurement."""
    gradient_norms.main(parse([f"--out_dir={folder}", *arguments], Options))
    lines = (folder / "gradient_norms.jsonl").read_text().splitlines()
    with np.load(folder / "gradient_norms.npz") as archive:
        return [json.loads(line) for line in lines], dict(archive)


def test_numbers_are_those_of_the_library(tmp_path: Path, capsys: Any) -> None:
    rows, arrays = run(
        tmp_path,
        *SMALL,
        "--cells=lstm",
        "--inits=torch",
        "--lengths=12",
        "--inputs=adding",
        "--forget_bias=2",
        "--amplitude=0.5",
        "--gain=0.9",
    )
    assert [(row["cell"], row["init"], row["part"]) for row in rows] == [
        ("lstm", "torch", "hidden"),
        ("lstm", "torch", "cell"),
        ("lstm", "torch", "joint"),
    ]
    assert {path.name for path in tmp_path.iterdir()} == {
        "gradient_norms.flags",
        "gradient_norms.jsonl",
        "gradient_norms.npz",
        "gradient_norms_T12.png",
        "gradient_norms_parts_T12.png",
        "gradient_norms_paths_0.png",
    }
    printed = capsys.readouterr().out
    assert f"{rows[2]['decay_rate']:.4g}" in printed

    # The second sequence and its network, by hand.
    keys = split_keys(0)
    cell = cells.lstm(2, 3, init="torch", forget_bias=2.0)
    params = cell.init(jax.random.split(keys.params)[1])
    params = params._replace(recurrent_kernel=0.9 * params.recurrent_kernel)
    xs = 0.5 * sample_batch(adding(12), keys.inputs, 2).inputs[1]
    weights = jax.random.normal(jax.random.split(keys.measure)[1], (3,))
    norms = log_gradient_norms(
        cell, params, xs, lambda ys: weights @ ys[-1] / jnp.linalg.norm(weights)
    )
    # The same numbers from another compiled program.
    np.testing.assert_allclose(arrays["0.joint"][1], norms.joint, rtol=1e-4)
    np.testing.assert_allclose(arrays["0.cell"][1], norms.parts.cell, rtol=1e-4)
    # What goes through c alone, and what passes through h, make up the cell's part.
    paths = np.exp([arrays["0.path_cell"], arrays["0.path_hidden"]])
    whole = np.exp(arrays["0.cell"][0])
    assert np.all(paths.sum(axis=0) >= whole * (1 - 1e-4))
    assert np.all(abs(paths[0] - paths[1]) <= whole * (1 + 1e-4))
    # Of two sequences the median is the lower one at a tie of ranks.
    median = np.sort(arrays["0.joint"], axis=0)[0]
    fit = decay_rate(jnp.asarray(median))
    assert rows[2]["decay_rate"] == pytest.approx(float(fit.rate), rel=1e-5)
    settled = bool(abs(fit.rate) >= 3 * fit.standard_error)
    half_life = math.log(2) / abs(float(fit.rate)) if settled else None
    assert rows[2]["half_life"] == pytest.approx(half_life, rel=1e-4)
    assert rows[2]["dead_carries"] == 0


def test_exact_zeros_are_counted_and_drawn(tmp_path: Path) -> None:
    rows, _ = run(tmp_path, *SMALL, "--cells=irnn", "--gain=0", "--lengths=9")
    joint = rows[1]
    assert (joint["cell"], joint["init"], joint["part"]) == ("irnn", "", "joint")
    # Without a recurrent kernel no carry reaches the loss.
    assert joint["dead_carries"] == 2 * 9
    assert joint["decay_rate"] is None
    assert joint["log_norm_start"] is None
    assert (tmp_path / "gradient_norms_T9.png").exists()


def test_cell_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "a_run"
    options = parse(
        [f"--run_dir={path}", "--length=8", "--hidden_size=3", "--cell=elman"],
        TrainOptions,
    )
    programs = loop.build(options)
    state = programs.initial_state()
    Checkpoints(path / "checkpoints").save(7, training_state.start(state))
    (path / "flags.txt").write_text(format_flags(options))
    rows, arrays = run(
        tmp_path / "out",
        f"--run_dir={path}",
        "--num_sequences=2",
        "--loss=all",
        "--lengths=10",
    )
    assert rows[0]["init"] == "a_run, step 7"
    example = programs.source.expand(programs.source.probe_batch)
    assert arrays["0.joint"].shape == (2, 11)
    assert example.inputs.shape[1] == 8
    assert np.isfinite(arrays["0.joint"][:, :-1]).all()
    # Before the last output alone, all gradients are those of that output.
    np.testing.assert_array_equal(arrays["0.anchors"], np.arange(10))
    assert arrays["0.lag_norms"].shape == (10, 11)
    last = arrays["0.lag_norms"][-1]
    assert last[9] == pytest.approx(arrays["0.joint"][0, 9], rel=1e-5)
    assert (tmp_path / "out" / "gradient_norms_lags_0.png").exists()
    kernels = {n: p.recurrent_kernel for n, p in run_snapshots(path).items()}
    assert list(kernels) == ["untrained", "step 7"]
    # The run drew its parameters, and was saved before its first update.
    np.testing.assert_array_equal(kernels["untrained"], kernels["step 7"])
    with pytest.raises(Exit, match="no checkpoint of step 5") as caught:
        run(tmp_path / "b", f"--run_dir={path}", "--checkpoint=5")
    assert caught.value.code == 4


def test_anchors_are_even_and_reach_the_last_step() -> None:
    assert spread(10, 3).tolist() == [2, 6, 9]
    assert spread(2, 3).tolist() == [0, 1]


def test_results_of_other_flags_stay(tmp_path: Path) -> None:
    def folder(*arguments: str) -> OutDir:
        return OutDir(parse([f"--out_dir={tmp_path}", *arguments], Options), "name")

    folder("--lengths=5").write_rows([{"a": math.nan}])
    assert (tmp_path / "name.jsonl").read_text() == '{"a": null}\n'
    folder("--lengths=5").write_rows([{"a": 2}])
    with pytest.raises(Exit, match="which differs in --lengths, --seed;") as caught:
        folder("--lengths=6", "--seed=1")
    assert caught.value.code == BAD_FLAG
    assert (tmp_path / "name.jsonl").read_text() == '{"a": 2}\n'
    with pytest.raises(Exit, match="--out_dir=/dev/null/x: "):
        OutDir(parse(["--out_dir=/dev/null/x"], Options), "name")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cells=lstm,foo"], "--cells=foo: expected some of elman"),
        (["--inits=pytorch"], "--inits=pytorch: expected some of"),
        (["--lengths=10,0"], "--lengths=0: expected whole numbers"),
        (["--run_dir=a", "--cells=lstm"], "--cells: has no meaning with --run_dir"),
        (["--run_dir=a", "--inputs=adding"], "--inputs, --amplitude: have no"),
        (["--checkpoint=best"], "--checkpoint: has a meaning only with --run_dir"),
        (["--run_dir=a", "--checkpoint=x"], "expected latest, best or a step"),
        (["--cells=gru", "--forget_bias=1"], "--forget_bias: has a meaning only"),
        (["--cells=elman", "--max_lag=9"], "--max_lag: has a meaning only"),
        (["--forget_bias=1", "--max_lag=9"], "expected at most one of the two"),
        (["--inputs=adding", "--input_size=3"], "--input_size=3: has a meaning only"),
        (["--num_anchors=3"], "--num_anchors=3: has a meaning only"),
    ],
)
def test_wrong_flags_are_one_line(arguments: list[str], words: str) -> None:
    with pytest.raises(Exit) as caught:
        parse(["--out_dir=o", *arguments], Options)
    assert caught.value.code == BAD_FLAG
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_flags_that_make_no_task_or_cell(tmp_path: Path) -> None:
    for arguments, words in [
        (("--inputs=temporal_order", "--lengths=5"), "--inputs=temporal_order: length"),
        (("--run_dir=missing",), "holds no run"),
    ]:
        with pytest.raises(Exit, match=words) as caught:
            run(tmp_path, *arguments)
        assert caught.value.code == BAD_FLAG
    # Nothing was measured, so nothing stands in the way of other flags.
    assert not list(tmp_path.iterdir())
