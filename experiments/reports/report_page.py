"""The page of a run, made from nothing but the run's files.

The report is one page that needs no other file and no network; it can be drawn again
at any time, also while the run goes on.
"""

import json
import math
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from experiments.common import files
from experiments.common.launch import Exit, format_value
from experiments.common.page import document, image, table, text
from experiments.reports import forecasts, plots, transcripts, translations
from experiments.runs import run_dir
from experiments.runs.options import Options as TrainOptions

_MAX_EVENTS = 100
_SPLITS = {"test": "test", "valid": "valid", "train": "train, one batch"}
_STATUS_TEXT = {
    "done": "The run is done.",
    "diverged": "The loss stopped being finite, and the run ended there.",
    "failed": "The run ended in an error.",
    "stopped": "The run was stopped by a signal after it had saved.",
    "incomplete": "The run goes on, or was killed; the same command continues it.",
}
_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #57606a; --page: #fff;
  --line: #d0d7de; --fill: #f6f8fa; --good: #116329; --bad: #a40e26; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9aa4af;
  --page: #0d1117; --line: #30363d; --fill: #161b22; --good: #56d364;
  --bad: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 4rem; max-width: 58rem; color: var(--text);
  background: var(--page); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .4rem 0 .2rem;
  overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .4rem; }
p { margin: .4rem 0 .8rem; }
.soft { color: var(--soft); }
.status { font-weight: 600; } .done { color: var(--good); }
.diverged, .failed { color: var(--bad); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td { overflow-wrap: anywhere; min-width: 6rem; }
td:first-child { white-space: nowrap; }
img { display: block; width: 100%; min-width: 36rem; height: auto;
  background: #fff; padding: .5rem; border: 1px solid var(--line); border-radius: 6px; }
pre { background: var(--fill); border: 1px solid var(--line); border-radius: 6px;
  padding: .7rem .9rem; overflow-x: auto; font-size: .85rem; }
summary { cursor: pointer; padding: .3rem 0; }
"""


def write_report(path: Path) -> Path:
    """Writes `plots/*.png` and `report.html` into a run directory.

    Args:
      path: the run directory, finished or not.

    Returns:
      The path of the page.

    Raises:
      ValueError: a file of the run is damaged; it is named.
      Exit: run.json is damaged.
    """
    pictures = plots.draw_plots(path)
    run, record = plots.read_run(path), run_dir.read_record(path)
    sections = [
        _heading(path, run),
        _result(run),
        forecasts.section(path),
        translations.section(path),
        transcripts.section(path),
        *(_picture(picture, pictures) for picture in plots.PICTURES),
        _flags(path),
        _environment(record),
        _events(path),
    ]
    target = path / "report.html"
    name = path.resolve().name
    files.write_atomic(target, document(name, _STYLE, "\n".join(sections)))
    return target


def _heading(path: Path, run: plots.RunData) -> str:
    task = run.task.get("name", "no task yet")
    length = f", length {run.task['length']:,}" if "length" in run.task else ""
    words = _STATUS_TEXT.get(run.status, "")
    return (
        f"<h1>{text(path.resolve().name)}</h1>"
        f'<p><span class="status {text(run.status)}">{text(run.status)}</span> · '
        f"{text(task)}{text(length)}<br>"
        f'<span class="soft">{text(words)}</span></p>'
    )


def _result(run: plots.RunData) -> str:
    """Tabulates what was reached beside what needs no learning."""
    columns = {"loss": "baseline_loss"}
    metric = run.task.get("metric")
    if metric:
        columns[metric] = "baseline_metric"
        if run.same("loss", metric):
            del columns["loss"]
    rows = [
        [
            _at_step(run, split, label),
            *(_number(_last(run, split, name)) for name in columns),
        ]
        for split, label in _SPLITS.items()
    ]
    baselines = [_number(run.task.get(name)) for name in columns.values()]
    head = ["", *(name.replace("_", " ") for name in columns)]
    return f"<h2>Result</h2>{table(head, [*rows, ['naive baseline', *baselines]])}"


def _at_step(run: plots.RunData, split: str, label: str) -> str:
    steps, _ = run.series(split, "loss")
    return f"{label}, step {steps[-1]:,.0f}" if len(steps) else label


def _last(run: plots.RunData, split: str, name: str) -> float | None:
    _, values = run.series(split, name)
    return float(values[-1]) if len(values) else None


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.5g}" if math.isfinite(value) else "not finite"


def _picture(picture: plots.Picture, drawn: dict[str, Path]) -> str:
    title = f"<h2>{text(picture.title)}</h2>"
    if picture.name not in drawn and not picture.absent:
        return ""
    if picture.name not in drawn:
        return f'{title}<p class="soft">{text(picture.absent)}</p>'
    shown = image(drawn[picture.name], picture.title)
    return f'{title}<p>{text(picture.reading)}</p><div class="scroll">{shown}</div>'


def _flags(path: Path) -> str:
    """Shows which flags were set, and all of them as they stand in the file."""
    try:
        options = run_dir.read_options(path)
        rows = [
            [
                f"--{field.name}",
                format_value(value),
                format_value(field.default) or "not set",
            ]
            for field in fields(TrainOptions)
            if (value := getattr(options, field.name)) != field.default
        ]
        changed = table(["flag", "value", "default"], rows)
    except Exit as error:
        changed = f"<p>{text(error)}</p>"
    flagfile = shlex.quote(f"--flagfile={path / 'flags.txt'}")
    command = f"python -m experiments.train {flagfile} --run_dir=NEW"
    whole = (path / "flags.txt").read_text("utf-8", "replace")
    return (
        f"<h2>Flags that differ from their defaults</h2>{changed}"
        "<p>These repeat the run, from a clone of the same revision:</p>"
        f"<pre>{text(command)}</pre>"
        "<details><summary>All of flags.txt</summary>"
        f"<pre>{text(whole)}</pre></details>"
    )


def _environment(record: dict[str, Any]) -> str:
    """Lists what run.json says, except what other sections show."""
    kept = {k: v for k, v in record.items() if k not in ("status", "task", "result")}
    rows = [[name, _shown(value)] for name, value in _flattened(kept)]
    return f"<h2>Versions and environment</h2>{table(['entry', 'value'], rows)}"


def _flattened(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, list) and any(isinstance(x, dict) for x in value):
            value = {str(number): x for number, x in enumerate(value, start=1)}
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return shlex.join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _events(path: Path) -> str:
    events = files.read_json_lines(path / "events.jsonl")
    rows = []
    for event in events[-_MAX_EVENTS:]:
        details = {k: v for k, v in event.items() if k not in ("time", "event")}
        words = ", ".join(f"{k}: {_shown(v)}" for k, v in details.items())
        rows.append([_shown(event.get("time")), _shown(event.get("event")), words])
    left_out = len(events) - len(rows)
    note = f"<p>{left_out} earlier ones are in events.jsonl.</p>" if left_out else ""
    return f"<h2>Events</h2>{note}{table(['time', 'event', 'details'], rows)}"
