"""Running studies, judging what they measured, and keeping it."""

import importlib
import json
import math
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common import environment, files
from experiments.common.launch import Exit
from experiments.common.names import DATA_STUDIES, STUDIES, SYSTEMS
from experiments.datasets.dataset import DataError
from experiments.reproduction import bands, results_page
from experiments.studies.kit.study import Result
from experiments.studies.kit.system import measure_system

Record = dict[str, Any]


def run(
    names: Sequence[str], folder: Path, full: bool, data_dir: str = ""
) -> list[str]:
    """Runs studies one after the other and writes the page after each.

    A study that raises has failed, and the next one is run.

    Args:
      names: of the studies.
      folder: gets `NAME/result.json` and the pictures of every study, `results.json`
        and `index.html` of all that were ever run there.
      full: whether to run the larger versions.
      data_dir: folder of all data sets; "" for the usual one.

    Returns:
      The names of the studies that failed.

    Raises:
      ValueError: a flagfile is damaged.
    """
    failed = []
    for name in names:
        print(f"{name} ({'full' if full else 'short'})", flush=True)
        record = run_study(name, folder / name, full, data_dir)
        files.write_json(folder / name / "result.json", record)
        _print(record)
        failed += [] if record["passed"] else [name]
        records = read_records(folder)
        files.write_json(folder / "results.json", records)
        page = results_page.format_page(folder, records)
        files.write_atomic(folder / "index.html", page)
    print(f"{len(names) - len(failed)} of {len(names)} passed: {folder / 'index.html'}")
    return failed


def run_study(name: str, folder: Path, full: bool, data_dir: str = "") -> Record:
    """Runs one study, or one training flagfile, and judges its numbers.

    Returns:
      What `result.json` holds: the study's header, its numbers with their bands and
      verdicts, its pictures, seconds, environment, and the error that ended it if any.
    """
    flagfile = bands.FLAGFILES / f"{name}.flags"
    header = bands.read_header(flagfile)
    folder.mkdir(parents=True, exist_ok=True)
    result, error = Result({}), None
    start = time.monotonic()
    try:
        if name in SYSTEMS:
            result = measure_system(flagfile, folder, full, header.short, data_dir)
        else:
            module = importlib.import_module(f"experiments.studies.{name}")
            more = (data_dir,) if name in DATA_STUDIES else ()
            result = module.measure(folder, full, *more)
    except (DataError, Exit) as raised:  # which say all in one line
        error = str(raised)
    except Exception as raised:
        traceback.print_exc(file=sys.stderr)
        error = f"{type(raised).__name__}: {raised}"
    values = [] if error else judge(result.values, header.expected(full=full))
    return {
        "figure": name,
        "full": full,
        "passed": error is None and all(row["passed"] is not False for row in values),
        "error": error,
        "seconds": round(time.monotonic() - start, 1),
        "question": header.question,
        "source": header.source,
        "command": header.command,
        "cost": header.cost,
        "values": values,
        "pictures": [
            {"file": p.path.name, "title": p.title, "caption": p.caption}
            for p in result.pictures
        ],
        "environment": environment.describe(),
    }


def judge(
    values: Mapping[str, float], expected: Sequence[bands.Band]
) -> list[dict[str, Any]]:
    """Holds numbers against their bands, in the order of the bands.

    A band whose number is missing or not finite has failed. Numbers without a band
    come last, with a verdict of None.
    """
    rows = []
    for band in expected:
        value = values.get(band.name, math.nan)
        rows.append(
            {
                **band._asdict(),
                "value": float(value),
                "passed": band.name in values and band.holds(value),
            }
        )
    known = {band.name for band in expected}
    rows += [
        {"name": name, "value": float(value), "passed": None}
        for name, value in values.items()
        if name not in known
    ]
    return rows


def read_records(folder: Path) -> list[Record]:
    """Returns the results kept in a folder, in the order of the studies.

    One that is damaged is named on standard error, and left out.
    """
    records = []
    names = (*STUDIES, *SYSTEMS, *DATA_STUDIES)
    for path in (folder / name / "result.json" for name in names):
        if not path.exists():
            continue
        try:
            records.append(json.loads(path.read_bytes()))
        except ValueError:
            remedy = f"--figure={path.parent.name} makes it anew"
            print(f"{path}: damaged and left out; {remedy}", file=sys.stderr)
    return records


def _print(record: Record) -> None:
    """Prints a line for every number, and one for the study."""
    width = max((len(row["name"]) for row in record["values"]), default=0)
    for row in record["values"]:
        verdict = results_page.VERDICTS[row["passed"]]
        number = results_page.number(row["value"])
        band = f"[{row['low']:g}, {row['high']:g}]" if "low" in row else ""
        print(f"  {verdict:4}  {row['name']:{width}}  {number:>11}  {band}".rstrip())
    if record["error"]:
        print(f"  FAIL  {record['error']}")
    print(f"  {record['seconds']:.1f} s", flush=True)
