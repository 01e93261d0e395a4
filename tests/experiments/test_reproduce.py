"""Studies are judged against their flagfiles, and end on one page."""

import ast
import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments import reproduce
from experiments.common.launch import Exit, launch, parse
from experiments.common.names import DATA_STUDIES, DATASETS, STUDIES, SYSTEMS
from experiments.reproduction import bands, runner
from experiments.runs.options import Options as TrainOptions
from experiments.studies import chaotic_lstm, curse_of_memory, input_pipeline
from experiments.studies.kit import system

ROOT = Path(__file__).parents[2]
STUDY_FILES = (ROOT / "experiments" / "studies").glob("*.py")
FLAGFILES = sorted(bands.FLAGFILES.glob("*.flags"))
FAST = "curse_of_memory"  # the study that runs here


def run(*arguments: str) -> int:
    """The exit code of the launcher in this process."""
    return reproduce.main(parse(arguments, reproduce.Options))


def broken(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Gives the fast study a flagfile with a band that its first number leaves."""
    text = (bands.FLAGFILES / f"{FAST}.flags").read_text()
    text, count = re.subn(r"(state_ratio_0_99 in) \[.*?\]", r"\1 [7, 8]", text)
    assert count == 1
    folder.mkdir()
    (folder / f"{FAST}.flags").write_text(text)
    monkeypatch.setattr(bands, "FLAGFILES", folder)


def test_a_study_passes_then_leaves_a_broken_band(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert run(f"--figure={FAST}", f"--out_dir={out}") == 0
    printed = capsys.readouterr().out
    expected = bands.read_header(bands.FLAGFILES / f"{FAST}.flags").bands
    for band in expected:
        line = rf"^  PASS  {band.name} +\S+  \[{band.low:g}, {band.high:g}\]$"
        assert re.search(line, printed, re.MULTILINE), band.name
    assert "FAIL" not in printed
    record = json.loads((out / FAST / "result.json").read_text())
    assert record["passed"] is True
    page = (out / "index.html").read_text()
    check_page(page, out, record)
    assert ">FAIL<" not in page

    broken(monkeypatch, tmp_path / "flagfiles")
    assert run(f"--figure={FAST}", f"--out_dir={out}") == 1
    assert re.search(r"FAIL  state_ratio_0_99 .*\[7, 8\]", capsys.readouterr().out)
    page = (out / "index.html").read_text()
    assert page.count(">FAIL<") == 2  # above and in the study's own table
    assert page.count("<section") == 1
    assert len(json.loads((out / "results.json").read_text())) == 1


def check_page(page: str, out: Path, record: dict) -> None:
    """The page holds its pictures and loads nothing."""
    bare = re.sub('base64,[^"]*', "", page)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", bare)
    assert not re.search(r"<(script|link|iframe|object)", bare)
    pictures = re.findall('src="data:image/png;base64,([^"]*)"', page)
    assert len(pictures) == len(record["pictures"]) >= 1
    for data, picture in zip(pictures, record["pictures"], strict=True):
        file = out / FAST / picture["file"]
        assert base64.b64decode(data) == file.read_bytes()
        assert picture["caption"][:40] in page
    for row in record["values"]:
        assert page.count(f">{row['name']}</code>") == 1


def test_an_error_or_an_interrupt_keeps_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path, full: bool) -> None:
        raise ValueError(f"<no numbers> {full}")

    def interrupt(folder: Path, full: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(curse_of_memory, "measure", fail)
    assert run(f"--figure={FAST}", f"--out_dir={tmp_path}", "--full") == 1
    page = (tmp_path / "index.html").read_text()
    assert "ValueError: &lt;no numbers&gt; True" in page
    assert "ended in an error" in page

    monkeypatch.setattr(chaotic_lstm, "measure", interrupt)
    arguments = ["reproduce", "--figure=chaotic_lstm", f"--out_dir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as stopped:
        launch(reproduce.main, reproduce.Options)
    assert stopped.value.code == 130
    assert json.loads((tmp_path / FAST / "result.json").read_text())["error"]
    assert (tmp_path / "index.html").read_text() == page
    assert not (tmp_path / "chaotic_lstm" / "result.json").exists()


def test_all_goes_on_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path, full: bool) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(chaotic_lstm, "measure", fail)
    monkeypatch.setattr(curse_of_memory, "measure", fail)
    monkeypatch.setattr(reproduce, "STUDIES", (FAST, "chaotic_lstm"))
    assert run("--figure=all", f"--out_dir={tmp_path}") == 1
    records = json.loads((tmp_path / "results.json").read_text())
    assert {record["figure"] for record in records} == {FAST, "chaotic_lstm"}


def test_a_damaged_result_is_named_and_made_anew(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / FAST).mkdir()
    (tmp_path / FAST / "result.json").write_text('{"figure": ')
    assert runner.read_records(tmp_path) == []
    assert f"{FAST}/result.json: damaged" in capsys.readouterr().err
    monkeypatch.setattr(curse_of_memory, "measure", lambda folder, full: 1 / 0)
    assert run(f"--figure={FAST}", f"--out_dir={tmp_path}") == 1
    assert len(runner.read_records(tmp_path)) == 1


def test_judging() -> None:
    expected = [
        bands.Band("inside", 1.0, 2.0, "why"),
        bands.Band("edge", 1.0, 2.0, ""),
        bands.Band("outside", 1.0, 2.0, ""),
        bands.Band("no_number", 1.0, 2.0, ""),
        bands.Band("absent", -1.0, 2.0, ""),
    ]
    values = {
        "extra": 5.0,
        "outside": 2.1,
        "inside": 1.5,
        "edge": 2.0,
        "no_number": float("nan"),
    }
    rows = runner.judge(values, expected)
    assert [(row["name"], row["passed"]) for row in rows] == [
        ("inside", True),
        ("edge", True),
        ("outside", False),
        ("no_number", False),
        ("absent", False),
        ("extra", None),
    ]


def test_every_study_has_a_module_and_a_flagfile() -> None:
    modules = {path.stem for path in STUDY_FILES} - {"__init__"}
    assert modules == {*STUDIES, *DATA_STUDIES}
    assert len(STUDIES) + len(DATA_STUDIES) == len(modules)


@pytest.mark.parametrize("name", [*STUDIES, *DATA_STUDIES])
def test_the_flagfile_of_a_study(name: str) -> None:
    path = bands.FLAGFILES / f"{name}.flags"
    header = bands.read_header(path)
    assert header.question.endswith("?")
    command = f"python -m experiments.reproduce --flagfile=experiments/flagfiles/{name}"
    assert header.command == f"{command}.flags"
    assert "2 CPU cores" in header.cost
    assert all(band.why for band in header.bands)
    options = parse([f"--flagfile={path}"], reproduce.Options)
    assert options == reproduce.Options(figure=name)
    tree = ast.parse((ROOT / "experiments" / "studies" / f"{name}.py").read_text())
    public = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    assert {name for name in public if not name.startswith("_")} == {"measure"}


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_flagfile_of_a_system(name: str) -> None:
    path = bands.FLAGFILES / f"{name}.flags"
    header = bands.read_header(path)
    assert header.question.endswith("?")
    assert header.command == (
        f"python -m experiments.train --flagfile=experiments/flagfiles/{name}.flags "
        f"--run_dir=runs/{name}"
    )
    assert "2 CPU cores" in header.cost
    assert all(band.why and "TODO" not in band.why for band in header.bands)
    options = parse([f"--flagfile={path}", "--run_dir=unused"], TrainOptions)
    if header.short:
        parse([f"--flagfile={path}", "--run_dir=unused", *header.short], TrainOptions)
        assert header.short_bands
    # Data come from somewhere that the header names.
    data = options.task in DATASETS and options.task not in (
        "word_order",
        "random_walk",
    )
    assert ("\n# Data: python -m experiments.data --fetch=" in path.read_text()) == data


def test_every_flagfile_is_known() -> None:
    assert {path.stem for path in FLAGFILES} == {*STUDIES, *SYSTEMS, *DATA_STUDIES}
    assert not {*STUDIES, *DATA_STUDIES} & set(SYSTEMS)


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: path.name)
def test_one_parser_reads_every_flagfile(path: Path) -> None:
    header = bands.read_header(path)
    assert all(header[:5])
    assert "\n" not in header.source
    assert "  " not in header.source


def test_the_bands_of_a_training_flagfile() -> None:
    header = bands.read_header(bands.FLAGFILES / "adding_lstm.flags")
    (band,) = header.bands
    assert band[:3] == ("test_mean_squared_error", 0.0, 0.005)
    assert band.why == "a constant guess has 1/6 = 0.1667."
    assert header.source.endswith("Unitary evolution recurrent neural networks.")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# Question: a\n# Source: b\n", "`# Command: ...`"),
        ("x in [1, 2", "NAME in \\[low, high\\]; why"),
        ("x is 1", "NAME in"),
        ("x in [2, 1]; y", "in order"),
        ("x in [0, inf]; y", "finite"),
        ("x in [0, one]; y", "NAME in"),
        ("x in [0, 1]; y\n# Expected: x in [0, 2]; z", "two bands for x"),
    ],
)
def test_a_bad_header_is_refused(text: str, words: str, tmp_path: Path) -> None:
    if not text.startswith("#"):
        head = "# Question: a?\n# Source: b\n# Command: c\n# Cost: d\n# Expected: "
        text = head + text
    path = tmp_path / "bad.flags"
    path.write_text(text + "\n\n# Cost: not in the header\n")
    with pytest.raises(ValueError, match=f"bad.flags: .*{words}"):
        bands.read_header(path)


def test_a_training_flagfile_is_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "flagfiles"
    folder.mkdir()
    text = (bands.FLAGFILES / "word_order_lstm.flags").read_text()
    lines = [
        "# Short: --num_steps=4 --eval_every=2 --gradient_every=2 --eval_size=20",
        "# Expected short: test_accuracy in [0.2, 0.9]; it has hardly begun.",
        "# Expected short: steps in [4, 4]; no more were asked for.",
    ]
    head, flags = text.split("\n\n", 1)
    (folder / "word_order_lstm.flags").write_text(
        "\n".join([head, *lines]) + "\n\n" + flags
    )
    monkeypatch.setattr(bands, "FLAGFILES", folder)
    assert run("--figure=word_order_lstm", f"--out_dir={tmp_path}") == 0
    out = capsys.readouterr().out
    assert re.search(r"PASS  test_accuracy", out)
    record = json.loads((tmp_path / "word_order_lstm" / "result.json").read_text())
    values = {row["name"]: row["value"] for row in record["values"]}
    assert values["steps"] == 4
    assert values["baseline_accuracy"] == 0.5
    titles = [picture["title"] for picture in record["pictures"]]
    assert titles[0] == "Loss and task metric"
    assert len(titles) == 3
    page = (tmp_path / "index.html").read_text()
    assert page.count('src="data:image/png;base64,') == 3


def test_missing_data_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "nowhere"
    flags = (f"--out_dir={tmp_path}", f"--data_dir={nowhere}")
    assert run("--figure=variable_lengths", *flags) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert f"--fetch=reuters --data_dir={nowhere}` brings it" in out


def test_a_run_that_fails_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(folder: Path, full: bool) -> None:
        raise Exit(2, "a ended with code 2: words")

    monkeypatch.setattr(chaotic_lstm, "measure", fail)
    assert run("--figure=chaotic_lstm", f"--out_dir={tmp_path}") == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "FAIL  a ended with code 2: words" in out


def test_batches_are_timed_beside_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The one system whose data are made, not fetched.
    monkeypatch.setattr(input_pipeline, "_SHORT", ("word_order_bag", "parity"))
    result = input_pipeline.measure(tmp_path, full=False, data_dir="")
    seconds = json.loads((tmp_path / "seconds.json").read_text())["word_order_bag"]
    ratio = seconds["update"] / seconds["batch"]
    assert result.values == {"smallest_ratio": ratio, "word_order_bag_ratio": ratio}


@pytest.mark.parametrize(("name", "given"), [("parity", False), ("chorales", True)])
def test_only_systems_that_read_data_are_told_where_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, given: bool
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(system, "train", lambda folder, runs, **_: seen.update(runs))
    monkeypatch.setattr(system.run_dir, "read_record", lambda path: {"result": {}})
    monkeypatch.setattr(system, "measure_answers", lambda path: {})
    system.measure_system(
        bands.FLAGFILES / f"{name}.flags", tmp_path, False, (), "some/where"
    )
    assert (seen[name].get("data_dir") == "some/where") == given


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import atexit, runpy, sys;"
        "atexit.register(lambda: print('jax' in sys.modules));"
        f"sys.argv[1:] = {arguments!r};"
        "runpy.run_module('experiments.reproduce', run_name='__main__', alter_sys=True)"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_wrong_flags_answer_without_jax(tmp_path: Path) -> None:
    unknown = command("--figure=curse_of_memori")
    assert unknown.returncode == 2
    assert unknown.stderr.count("\n") == 1
    assert "did you mean curse_of_memory?" in unknown.stderr
    assert all(name in unknown.stderr for name in ("all", *STUDIES))
    missing = command()
    assert missing.returncode == 2
    assert "--figure: required" in missing.stderr
    (tmp_path / "file").write_text("")
    blocked = command(f"--figure={FAST}", f"--out_dir={tmp_path / 'file'}")
    assert blocked.returncode == 2
    assert "--out_dir" in blocked.stderr
    for done in (unknown, missing, blocked):
        assert done.stdout == "False\n"


def test_help_and_list_answer_without_jax() -> None:
    shown = command("--help")
    assert shown.returncode == 0
    assert all(f"--{name}: " in shown.stdout for name in ("figure", "full", "out_dir"))
    listed = command("--list=figures")
    assert f"figures: {' '.join(STUDIES)}\n" in listed.stdout
    assert listed.stdout.endswith("False\n")
