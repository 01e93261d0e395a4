"""Studies on tiny shapes: their rows, summaries, tables, pictures and files."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.table import Table

from experiments.benchmarks import (
    linear,
    longest,
    memory,
    norms,
    peers,
    rounding,
    speed,
    tables,
)
from experiments.benchmarks.options import STUDIES, Plan, Shape
from experiments.benchmarks.work import LOSSES, compile_pass, inputs
from seqjax import cells, gradients
from tests.helpers import implicit_promotion

ROOT = Path(__file__).parents[3]
SMALL = Shape(batch=2, time=6, input=3, hidden=4)


def plan(study: str, *shapes: Shape, **changes: Any) -> Plan:
    entries: dict[str, Any] = {
        "study": study,
        "shapes": shapes,
        "kinds": ("lstm",),
        "peers": ("linen",),
        "repetitions": 3,
    }
    return Plan(**entries | changes)


def measure(study: Any, what: Plan) -> list[dict[str, Any]]:
    with implicit_promotion():
        return list(study.measure(what))


def cells_of(table: Table) -> dict[str, list[str]]:
    return {
        str(column.header): [str(c) for c in column.cells] for column in table.columns
    }


def check_presentation(study: Any, rows: list[dict[str, Any]]) -> list[Table]:
    """Tables and picture can be made; returns the tables."""
    summary = study.summarise(rows)
    json.dumps([rows, summary], allow_nan=False)
    figure = study.draw(rows)
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    assert all(axes.get_xlabel() for axes in figure.axes)
    assert figure.legends
    return study.list_tables(rows, summary)


def test_speed_writes_what_it_prints(tmp_path: Path) -> None:
    arguments = ["--shapes=2x6x3x4", "--peers=linen,torch,haiku"]
    arguments += ["--kinds=lstm,elman", "--repetitions=2", f"--out_dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.benchmarks", *arguments],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "speed.json").read_text())
    assert record["done"]
    assert record["plan"]["shapes"] == ["2x6x3x4"]
    assert {"linen", "torch", "haiku"} == set(record["plan"]["peers"])
    machine = record["machine"]
    assert machine["cpu"]
    assert machine["num_cores"] == machine["threads"]["torch"]
    assert machine["environment"]["OMP_WAIT_POLICY"] == "passive"
    assert {"jax", "jaxlib", "flax", "torch", "dm-haiku"} <= set(machine["versions"])
    assert len(record["load_average"]["after"]) == 3
    # Haiku has no tanh cell.
    assert len(record["rows"]) == 2 * (4 + 3)
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    for row in record["rows"]:
        assert row["repetitions"] == len(row["samples"]) == 2
        assert row["seconds"]["lower"] <= row["seconds"]["median"]
        assert f"{1e3 * row['seconds']['median']:.4g} (" in done.stdout
        own = {"lstm": 4, "elman": 1}[row["kind"]]
        expected = own * row["hidden"] * (row["input"] + row["hidden"] + 1)
        extra = own * row["hidden"] if row["peer"] == "torch" else 0
        assert row["num_params"] == expected + extra
        assert (row["temporaries"] is None) == (row["peer"] == "torch")
    assert "| lstm  | geometric mean | forward" in done.stdout
    assert all(line == line.rstrip() for line in done.stdout.splitlines())


def row(kind: str, shape: str, peer: str, ratio: float) -> dict[str, Any]:
    spread = {"median": ratio, "lower": ratio, "upper": ratio}
    return {
        "kind": kind,
        "shape": shape,
        "pass": "forward",
        "peer": peer,
        "ratio": spread,
        "seconds": spread,
        "compile_seconds": None,
        "temporaries": None,
        "num_params": 1,
    }


def test_speed_summarises_by_best_peer_and_geometric_mean() -> None:
    rows = [
        row("lstm", "a", "seqjax", 1.0),
        row("lstm", "a", "seqjax checkpoint", 0.5),
        row("lstm", "a", "linen", 2.0),
        row("lstm", "a", "torch", 3.0),
        row("lstm", "b", "seqjax", 1.0),
        row("lstm", "b", "seqjax checkpoint", 2.0),
        row("lstm", "b", "linen", 8.0),
    ]
    summary = speed.summarise(rows)
    best = [r for r in summary if "best_peer" in r]
    assert [r["best_peer"] for r in best] == ["linen", "linen"]
    assert [r["best_seqjax"] for r in best] == ["seqjax checkpoint", "seqjax"]
    assert [r["ratio"]["median"] for r in best] == [4.0, 8.0]
    means = {
        r["peer"]: r["ratio"]["median"]
        for r in summary
        if r["shape"] == "geometric mean"
    }
    assert means == pytest.approx(
        {
            "seqjax": 1.0,
            "seqjax checkpoint": 1.0,
            "linen": 4.0,
            "torch": 3.0,
            "best peer / best seqjax": math.sqrt(32),
        }
    )
    columns = cells_of(check_presentation(speed, rows)[0])
    assert columns["shape"] == ["a", "b", "geometric mean"]
    assert columns["torch"] == ["3", "–", "3"]


def test_memory_counts_in_units_of_all_outputs() -> None:
    shape = Shape(batch=2, time=400, input=3, hidden=8)
    what = plan("memory", shape, methods=("scan", "checkpoint"), timed=True)
    rows = measure(memory, what)
    planned, timed = rows[:6], rows[6:]
    names = ["seqjax scan", "seqjax checkpoint", "linen"]
    assert [r["peer"] for r in planned] == [r["peer"] for r in timed] == 2 * names
    assert [r["loss"] for r in timed] == [r["loss"] for r in planned]
    for r in planned:
        assert r["units"] * 2 * 400 * 8 * 4 == pytest.approx(r["temporaries"])
    by_peer = {r["peer"]: r["units"] for r in planned[:3]}
    assert by_peer["seqjax checkpoint"] < by_peer["seqjax scan"] / 2
    # Without a loss on them there are no outputs, nor their cotangents.
    assert planned[4]["units"] < by_peer["seqjax checkpoint"] / 2
    units, times, ratios = map(cells_of, check_presentation(memory, rows))
    best = by_peer["linen"] / by_peer["seqjax checkpoint"]
    assert units["best peer / best seqjax"][0] == f"{best:.3g}"
    assert "(" in times["linen"][0]
    assert ratios["seqjax scan"] == ["1", "1"]


@pytest.mark.parametrize("start", [1, 3, 64, 1000])
@pytest.mark.parametrize("limit", [0, 1, 2, 63, 64, 65, 256, 999, 12345])
def test_search_finds_the_longest_to_five_percent(start: int, limit: int) -> None:
    asked: list[int] = []

    def fits(time: int) -> bool:
        assert time > 0
        asked.append(time)
        return time <= limit

    found = longest.search(fits, start)
    assert found <= limit
    assert found == 0 or found in asked
    assert found * 1.05 >= limit or found + 1 > limit
    assert len(asked) < 25


def test_longest_is_checked_by_a_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = 2**18
    loss = LOSSES["final state"]
    monkeypatch.setattr(longest, "BUDGET", budget)
    monkeypatch.setattr(longest, "LOSSES", {"final state": loss})
    start = SMALL._replace(time=64)
    what = plan("longest", start, kinds=("elman",), methods=("checkpoint",))
    rows = measure(longest, what)
    assert [r["peer"] for r in rows] == ["seqjax checkpoint", "linen"]
    assert {r["loss"] for r in rows} == {"final state"}
    for r in rows:
        assert r["temporaries"] + r["arguments"] <= budget
        assert r["time"] > 64
    found = rows[1]
    longer = SMALL._replace(time=math.ceil(found["time"] * 1.05))
    with implicit_promotion():
        model = peers.linen("elman", longer)
        compiled = compile_pass(model, longer, "backward", loss)
    assert compiled.temporaries + compiled.arguments > budget
    (table,) = check_presentation(longest, rows)
    assert cells_of(table)["linen"][0] == f"{found['time']:,}"


def test_norms_of_probes_and_loop_are_the_exact_ones() -> None:
    shape = Shape(batch=2, time=12, input=3, hidden=4)
    rows = measure(norms, plan("norms", shape, peers=("torch",)))
    names = ["seqjax gradient", "seqjax probes", "torch loop"]
    assert [r["peer"] for r in rows] == names
    cell = cells.lstm(shape.input, shape.hidden)
    params = cell.init(jax.random.key(0))
    exact = gradients.log_gradient_norms(
        cell,
        params,
        jnp.asarray(inputs(shape)[0]),
        # The mean over the batch of two.
        lambda ys: jnp.mean(jnp.square(ys)) / 2,
    ).parts
    for r in rows[1:]:
        for part, expected in exact._asdict().items():
            # Rounding of float32 gradients through 12 steps, relative to their norm.
            np.testing.assert_allclose(r["log_norms"][part], expected[:-1], atol=1e-5)
    assert rows[1]["largest_difference"] == 0
    assert 0 < rows[2]["largest_difference"] < 1e-5
    tables_shown = check_presentation(norms, rows)
    assert cells_of(tables_shown[1])["seqjax gradient"] == ["1"]
    assert cells_of(tables_shown[2])["seqjax probes"] == ["1"]


def test_difference_of_norms_sees_a_lonely_zero() -> None:
    zero = -math.inf
    same = np.array([zero, 1.0])
    assert norms.largest_difference([same], [same]) == 0
    assert norms.largest_difference([same], [np.array([zero, 1.5])]) == 0.5
    assert norms.largest_difference([same], [np.array([0.0, 1.0])]) == math.inf


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_exponent_of_a_power_law_is_its_power(power: float) -> None:
    times = [4, 1, 2, 8, 16, 32]
    # The shorter half is a constant.
    seconds = [0.01 * max(time, 5) ** power for time in times]
    assert linear.exponent(times, seconds) == pytest.approx(power)
    assert math.isnan(linear.exponent([1], [1.0]))


def test_linear_has_an_exponent_for_every_framework() -> None:
    lengths = (8, 16, 32)
    shapes = [SMALL._replace(time=time) for time in lengths]
    rows = measure(linear, plan("linear", *shapes, peers=("linen",)))
    assert [r["time"] for r in rows] == [8, 8, 16, 16, 32, 32]
    assert [r["peer"] for r in linear.summarise(rows)] == ["seqjax", "linen"]
    times, _ = map(cells_of, check_presentation(linear, rows))
    assert times["shape"] == ["2x8x3x4", "2x16x3x4", "2x32x3x4", "exponent"]


def test_every_study_has_its_module() -> None:
    studies = (linear, longest, memory, norms, rounding, speed)
    assert {m.__name__.rpartition(".")[2] for m in studies} == set(STUDIES)


def test_rounding_compares_two_dtypes_of_seqjax() -> None:
    dtypes = STUDIES["rounding"].product_dtypes
    what = plan("rounding", SMALL, peers=(), product_dtypes=dtypes)
    rows = measure(rounding, what)
    assert [row["peer"] for row in rows] == ["seqjax", "seqjax, bfloat16"]
    assert rows[0]["ratio"]["median"] == 1
    ratios, *_ = map(cells_of, check_presentation(rounding, rows))
    assert ratios["shape"] == ["2x6x3x4", "geometric mean"]
    # Both are timed, and one of them rounds.
    plain, rounded = peers.models(what, "lstm", SMALL).values()
    xs = jnp.asarray(inputs(SMALL))
    difference = jnp.abs(
        plain.apply(plain.params, xs)[1] - rounded.apply(plain.params, xs)[1]
    )
    assert 1e-5 < jnp.max(difference) < 1e-1


def test_a_table_is_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row("lstm", "a", "seqjax", 1.0), row("gru", "a", "linen", 2.5)]
    record = {
        "machine": {"cpu": "abacus", "num_cores": 2, "versions": {"jax": "1"}},
        "load_average": {"before": [0.25], "after": [1.5]},
        "plan": {"peers": ["linen", "equinox"], "host_devices": 2},
    }
    tables.show([tables.matrix("Ratio", rows, tables.ratio)], record)
    assert capsys.readouterr().out == (
        "abacus, 2 cores; jax 1\n"
        "load average 0.25 before, 1.50 after\n"
        "on 2 devices the batch is split; one device has all cores too\n"
        "Equinox has no Elman cell\n"
        "\nRatio\n\n"
        "| kind | shape | pass    | seqjax | linen |\n"
        "|------|-------|---------|--------|-------|\n"
        "| lstm | a     | forward |      1 |     – |\n"
        "| gru  | a     | forward |      – |   2.5 |\n"
    )
