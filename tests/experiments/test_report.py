"""report.html stands alone, shows what the files hold, and escapes all of it."""

import base64
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from experiments.reports.plots import PICTURES
from experiments.reports.report_page import write_report
from tests.experiments.synthetic_run import (
    CLASSIFY,
    gradient_arrays,
    metric_rows,
    write_run,
)

# Those of forecasts are left out where there are none.
ALWAYS = [picture for picture in PICTURES if picture.absent]
ROOT = Path(__file__).parents[2]
HOSTILE = "<script>alert('1')</script>&\"<img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """Tags, attributes, texts and tables of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def report(path: Path) -> Page:
    assert write_report(path) == path / "report.html"
    page = Page((path / "report.html").read_text("utf-8"))
    assert page.open == []
    return page


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", arrays=gradient_arrays())
    page = report(path)
    assert (path / "report.html").stat().st_size < 3_000_000
    html = re.sub('base64,[^"]*', "", (path / "report.html").read_text())
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html)
    assert not {"script", "link", "iframe", "object", "a"} & set(page.tags)
    sources = [value for name, value in page.attributes if name in ("src", "href")]
    files = [path / "plots" / f"{picture.name}.png" for picture in ALWAYS]
    for source, file in zip(sources, files, strict=True):
        kind, data = source.split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data) == file.read_bytes()
    assert ("content", "width=device-width, initial-scale=1") in page.attributes
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert ("content", policy) in page.attributes


def test_the_result_stands_beside_the_baseline(tmp_path: Path) -> None:
    forecast = report(write_run(tmp_path / "a"))
    assert forecast.rows[0] == ["", "mean squared error"]
    assert ["test, step 300", "0.0024788"] in forecast.rows
    assert ["naive baseline", "0.16667"] in forecast.rows
    rows = metric_rows("accuracy")
    classify = report(write_run(tmp_path / "b", rows=rows, task=CLASSIFY))
    assert classify.rows[0] == ["", "loss", "accuracy"]
    assert ["test, step 300", "0.0024788", "0.99752"] in classify.rows
    assert ["naive baseline", "2.3026", "0.1135"] in classify.rows


def test_every_picture_is_explained(tmp_path: Path) -> None:
    full = report(write_run(tmp_path / "a", arrays=gradient_arrays()))
    bare = report(write_run(tmp_path / "b"))
    for picture in ALWAYS:
        assert picture.title in full.text
        assert picture.reading in full.text
        assert picture.absent not in full.text
        assert (picture.absent in bare.text) == (picture.name != "training")


def test_flags_versions_and_events_are_shown(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", seed=7, cell="gru")
    page = report(path)
    flags = [row for row in page.rows if row[0].startswith("--")]
    assert ["--seed", "7", "0"] in flags
    assert ["--cell", "gru", "lstm"] in flags
    assert len(flags) == 3  # and --run_dir
    assert (path / "flags.txt").read_text() in page.text
    assert f"--flagfile={path / 'flags.txt'} --run_dir=NEW" in page.text
    assert ["versions.jax", "0.10.2"] in page.rows
    assert ["argv", "experiments/train.py --seed=3"] in page.rows
    assert ["attempts.2.status", "done"] in page.rows
    assert ["2026-01-02T03:05:05+00:00", "checkpoint", "step: 100"] in page.rows


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("done", "The run is done."),
        ("diverged", "stopped being finite"),
        ("failed", "ended in an error"),
        ("stopped", "stopped by a signal"),
        ("incomplete", "the same command continues it"),
        ("unheard of", "unheard of"),
    ],
)
def test_the_status_is_put_into_words(status: str, words: str, tmp_path: Path) -> None:
    assert words in report(write_run(tmp_path / "run", rows=[], status=status)).text


def test_everything_is_escaped(tmp_path: Path) -> None:
    task = CLASSIFY | {"name": HOSTILE, "metric": HOSTILE}
    path = write_run(tmp_path / f"run{HOSTILE.replace('/', '')}", rows=[], task=task)
    flags = path / "flags.txt"
    flags.write_text(flags.read_text() + f"--data_dir={HOSTILE}\n--task=mnist_rows\n")
    record = json.loads((path / "run.json").read_text())
    record |= {"status": HOSTILE, "versions": {HOSTILE: HOSTILE}, HOSTILE: [HOSTILE]}
    (path / "run.json").write_text(json.dumps(record))
    with (path / "events.jsonl").open("a") as stream:
        stream.write(json.dumps({"time": HOSTILE, "event": HOSTILE, HOSTILE: 1}) + "\n")
    page = report(path)
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert ["--data_dir", HOSTILE, "not set"] in page.rows
    assert [f"versions.{HOSTILE}", HOSTILE] in page.rows
    assert [HOSTILE, HOSTILE, f"{HOSTILE}: 1"] in page.rows


def test_text_that_is_not_unicode_survives(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", rows=[])
    (path / "events.jsonl").write_text('{"time": "1", "event": "\\ud800"}\n')
    assert "\\ud800" in report(path).text


def test_many_events_are_cut(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", rows=[])
    lines = [json.dumps({"time": "t", "event": f"e{i}"}) + "\n" for i in range(130)]
    (path / "events.jsonl").write_text("".join(lines))
    page = report(path)
    assert "30 earlier ones are in events.jsonl" in page.text
    assert [row[1] for row in page.rows[-100:]] == [f"e{i}" for i in range(30, 130)]


def test_flags_of_another_version_are_still_shown(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", rows=[])
    (path / "flags.txt").write_text("--flag_of_old=3\n")
    page = report(path)
    assert "--flag_of_old: unknown flag" in page.text
    assert "--flag_of_old=3\n" in page.text


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "experiments.report", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_launcher_draws_from_files_alone(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", arrays=gradient_arrays())
    result = launch(f"--run_dir={path}")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{path / 'report.html'}\n"
    assert len(list((path / "plots").glob("*.png"))) == len(ALWAYS)


def test_exit_codes(tmp_path: Path) -> None:
    missing = launch(f"--run_dir={tmp_path / 'none'}")
    assert missing.returncode == 2
    assert "holds no run" in missing.stderr
    unset = launch()
    assert unset.returncode == 2
    assert "--run_dir: required" in unset.stderr
    path = write_run(tmp_path / "run")
    (path / "gradient_norms.npz").write_bytes(b"PK\3\4 torn")
    damaged = launch(f"--run_dir={path}")
    assert damaged.returncode == 1
    assert "gradient_norms.npz" in damaged.stderr
    for result in (missing, unset, damaged):
        assert result.stderr.count("\n") == 1
