"""The page of all studies: verdicts first, then numbers and pictures of each."""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.common.page import Markup, document, image, table, text

VERDICTS = {True: "PASS", False: "FAIL", None: ""}
_ACRONYMS = {"hdetach": "h-detach", "lstm": "LSTM", "tbptt": "TBPTT", "xor": "XOR"}
_TITLE = "Gradients through time, measured"
_LEAD = (
    "Every number below is held against a band. The bands come from theory or from "
    "earlier measurements, say which, and stand in the studies' flagfiles and nowhere "
    "else."
)
_STYLE = """
:root { --text: #1a1a1a; --soft: #5a5a5a; --line: #c9c9c9; --good: #1b6e3c;
  --bad: #a31621; }
* { box-sizing: border-box; }
html { background: #fff; }
body { margin: 0 auto; padding: 3rem 1.5rem 6rem; max-width: 60rem; color: var(--text);
  font: 17px/1.55 Charter, "Bitstream Charter", "Source Serif 4", Georgia,
  "DejaVu Serif", serif; }
h1 { font-size: 2.1rem; line-height: 1.15; font-weight: 600; margin: 0 0 .6rem; }
h2 { font-size: 1.45rem; line-height: 1.2; font-weight: 600; margin: 0 0 .5rem; }
h2 .number { color: var(--soft); font-weight: 400; margin-right: .5em; }
p { margin: .5rem 0 .9rem; }
a { color: inherit; text-decoration-color: var(--line); text-underline-offset: 3px; }
section { border-top: 1px solid var(--line); margin-top: 3.2rem; padding-top: 2rem; }
.lead, .soft { color: var(--soft); }
.tally { font-size: 1.15rem; margin: 1.2rem 0 1.6rem; }
.question { font-style: italic; font-size: 1.1rem; }
dl { display: grid; grid-template-columns: 6.5rem 1fr; gap: .25rem .8rem;
  font-size: .9rem; margin: .8rem 0 1.2rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
code { font: .86em/1.4 ui-monospace, "DejaVu Sans Mono", Menlo, monospace; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; line-height: 1.4;
  border-top: 1.5px solid var(--text); border-bottom: 1.5px solid var(--text);
  font-variant-numeric: tabular-nums lining-nums; }
thead th { border-bottom: 1px solid var(--text); }
th, td { padding: .28rem .8rem .28rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; white-space: nowrap; }
td:last-child, th:last-child { padding-right: 0; white-space: normal; }
tbody tr + tr td { border-top: 1px solid #ececec; }
.name, .figure { white-space: nowrap; }
.pass { color: var(--good); font-weight: 600; }
.fail { color: var(--bad); font-weight: 600; }
.strip { display: inline-block; position: relative; width: 5rem; height: .7rem;
  margin-top: .35rem; background: linear-gradient(#c9dccf, #c9dccf) 1rem 50% /
  3rem .3rem no-repeat; }
.strip i { position: absolute; top: 0; width: 2px; height: .7rem; margin-left: -1px;
  background: var(--text); }
.strip.out i { background: var(--bad); width: 3px; }
figure { margin: 2rem 0; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { font-size: .92rem; margin: .7rem auto 0; max-width: 46rem; }
figcaption b { font-weight: 600; }
@media print { body { max-width: none; font-size: 10.5pt; padding: 0; }
  figure, tr { break-inside: avoid; } }
"""


def format_page(folder: Path, records: Sequence[dict[str, Any]]) -> bytes:
    """Makes the page.

    Args:
      folder: holds a folder of pictures for every study.
      records: what the studies' `result.json` hold.
    """
    count = itertools.count(1)
    body = [_heading(records), _overview(records)]
    body += [
        _study(folder, number, record, count)
        for number, record in enumerate(records, start=1)
    ]
    return document(_TITLE, _STYLE, "\n".join(body))


def number(value: float | None) -> str:
    """Shows a number with five digits."""
    if value is None or not math.isfinite(value):
        return "no number"
    whole = value == round(value) and abs(value) < 1e6
    return f"{value:,.0f}" if whole else f"{value:.5g}"


def _heading(records: Sequence[dict[str, Any]]) -> str:
    judged = [row["passed"] for record in records for row in record["values"]]
    judged = [passed for passed in judged if passed is not None]
    passed = sum(record["passed"] for record in records)
    return (
        f'<h1>{text(_TITLE)}</h1><p class="lead">{text(_LEAD)}</p>'
        f'<p class="tally"><b>{passed} of {len(records)}</b> studies pass; '
        f"<b>{sum(judged)} of {len(judged)}</b> numbers lie in their bands.</p>"
    )


def _overview(records: Sequence[dict[str, Any]]) -> Markup:
    """Tabulates what every study asks, and how many of its numbers hold."""
    return table(
        ["study", "question", "in band", ""],
        [
            [
                Markup(
                    f'<a class="figure" href="#{text(record["figure"])}">'
                    f"{_words(record['figure'])}</a>"
                ),
                _sentence(record["question"]),
                _held(record),
                _verdict(record["passed"]),
            ]
            for record in records
        ],
    )


def _held(record: dict[str, Any]) -> str:
    if record["error"]:
        return "ended in an error"
    judged = [row["passed"] for row in record["values"] if row["passed"] is not None]
    return f"{sum(judged)} of {len(judged)}"


def _study(
    folder: Path, position: int, record: dict[str, Any], count: Iterator[int]
) -> str:
    title = _words(record["figure"])
    mode = "full" if record["full"] else "short"
    facts = {
        "Source": _sentence(record["source"]),
        "Command": f"<code>{text(record['command'])}</code>",
        "Run": _environment(record["environment"]),
        "Cost": f"{text(record['cost'])} This {mode} run: {record['seconds']:,.0f} s.",
    }
    listed = "".join(f"<dt>{name}</dt><dd>{fact}</dd>" for name, fact in facts.items())
    error = (
        f'<p class="fail">Ended in an error. <code>{text(record["error"])}</code></p>'
        if record["error"]
        else ""
    )
    pictures = "".join(
        _figure(folder / record["figure"] / picture["file"], picture, next(count))
        for picture in record["pictures"]
    )
    return (
        f'<section id="{text(record["figure"])}">'
        f'<h2><span class="number">{position}</span>{title}</h2>'
        f'<p class="question">{_sentence(record["question"])}</p>'
        f"<dl>{listed}</dl>{error or _numbers(record)}{pictures}</section>"
    )


def _environment(environment: dict[str, Any]) -> str:
    """Says in a line what the numbers depend on beside the command."""
    versions, git = environment["versions"], environment["git"]
    revision = (git["revision"] or "unknown")[:10]
    changed = " with changes" if git["dirty"] else ""
    devices = ", ".join(sorted(set(environment["devices"])))
    cores = len(environment["visible_cores"])
    return text(
        f"Revision {revision}{changed}; jax {versions['jax']}, Python "
        f"{versions['python']}; {devices}, {cores} cores."
    )


def _numbers(record: dict[str, Any]) -> str:
    """Tabulates a study's numbers, where they lie in their bands, and why there."""
    rows = [
        [
            _name(row),
            _measured(row),
            _band(row),
            _strip(row),
            _verdict(row["passed"]),
            row.get("why", ""),
        ]
        for row in record["values"]
    ]
    return table(
        ["number", "measured", "band", "", "", "where the band comes from"], rows
    )


def _figure(path: Path, picture: dict[str, str], position: int) -> str:
    return (
        f"<figure>{image(path, picture['title'])}<figcaption>"
        f"<b>Figure {position}. {text(picture['title'])}.</b> "
        f"{text(picture['caption'])}</figcaption></figure>"
    )


def _words(name: str) -> str:
    words = [_ACRONYMS.get(word, word) for word in name.split("_")]
    return _sentence(" ".join(words))


def _sentence(words: str) -> Markup:
    return text(words[:1].upper() + words[1:])


def _name(row: dict[str, Any]) -> Markup:
    return Markup(f'<code class="name">{text(row["name"])}</code>')


def _measured(row: dict[str, Any]) -> str:
    return number(row["value"]).replace("-", "−")


def _band(row: dict[str, Any]) -> Markup:
    if "low" not in row:
        return Markup("")
    band = f"[{row['low']:g}, {row['high']:g}]".replace("-", "−")
    return Markup(f'<span class="name">{band}</span>')


def _verdict(passed: bool | None) -> Markup:
    if passed is None:
        return Markup("")
    return Markup(f'<span class="{VERDICTS[passed].lower()}">{VERDICTS[passed]}</span>')


def _strip(row: dict[str, Any]) -> Markup:
    """Marks where in its band (the grey bar) a number lies."""
    if "low" not in row or row["value"] is None:
        return Markup("")
    width = row["high"] - row["low"]
    place = (row["value"] - row["low"]) / width if width else 0.5
    # The bar is the middle 60 % of the strip; numbers far outside stop at its ends.
    left = min(max(20 + 60 * place, 0), 100)
    kind = "strip" if row["passed"] else "strip out"
    return Markup(f'<span class="{kind}"><i style="left:{left:.1f}%"></i></span>')
