"""Tables of rows, written as Markdown so that they can be quoted as they are."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from experiments.benchmarks.compare import Row
from experiments.benchmarks.peers import NOTES

_WIDTH = 1000  # columns; a table is as wide as it needs
_CASE = ("kind", "shape", "pass", "loss")


def matrix(title: str, rows: Iterable[Row], value: Callable[[Row], str]) -> Table:
    """Returns a table with a line for every case and a column for every peer.

    Args:
      title: what the numbers are, with their unit.
      rows: rows of one case need not stand together.
      value: returns the text of a row's cell.
    """
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    columns: dict[str, None] = {}
    heads: dict[str, None] = {}
    for row in rows:
        heads |= dict.fromkeys(_case_names(row))
        cells.setdefault(_case(row), {})[row["peer"]] = value(row)
        columns[row["peer"]] = None
    table = Table(title=title, box=box.MARKDOWN)
    for head in heads:
        table.add_column(head, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for case, found in cells.items():
        table.add_row(*case, *(found.get(column, "–") for column in columns))
    return table


def best(
    rows: Sequence[Row], value: Callable[[Row], float], pick: Callable[..., Row]
) -> list[Row]:
    """Returns a row `best peer / best seqjax` for every case that has both.

    Args:
      rows: what was measured.
      value: the number that is compared.
      pick: `min` or `max`, whichever is the better number.

    Returns:
      Rows of the case with the ratio, and the names of the two.
    """
    found = []
    for case in dict.fromkeys(map(_case, rows)):
        group = [row for row in rows if _case(row) == case]
        own = [row for row in group if is_seqjax(row)]
        others = [row for row in group if not is_seqjax(row)]
        if not own or not others:
            continue
        first, second = pick(others, key=value), pick(own, key=value)
        found.append(
            {name: first[name] for name in _case_names(first)}
            | {
                "peer": "best peer / best seqjax",
                "best_peer": first["peer"],
                "best_seqjax": second["peer"],
                "ratio": {"median": value(first) / value(second)},
            }
        )
    return found


def geometric_means(rows: Sequence[Row]) -> list[Row]:
    """Returns the geometric means of the ratios over shapes, for each pass and kind."""
    means = []
    for pass_name in dict.fromkeys(row["pass"] for row in rows):
        for kind in dict.fromkeys(row["kind"] for row in rows):
            group = [r for r in rows if (r["pass"], r["kind"]) == (pass_name, kind)]
            for peer in dict.fromkeys(row["peer"] for row in group):
                ratios = [r["ratio"]["median"] for r in group if r["peer"] == peer]
                mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
                means.append(
                    {
                        "kind": kind,
                        "shape": "geometric mean",
                        "pass": pass_name,
                        "peer": peer,
                        "ratio": {"median": mean},
                    }
                )
    return means


def is_seqjax(row: Row) -> bool:
    """Says whether a row is one of seqjax's own."""
    return row["peer"].startswith("seqjax")


def ratio(row: Row) -> str:
    """Returns the text of a row's ratio."""
    return f"{row['ratio']['median']:.3g}"


def milliseconds(row: Row) -> str:
    """Returns the text of a row's time, with its quartiles."""
    median, lower, upper = (
        f"{1e3 * row['seconds'][name]:.4g}" for name in ("median", "lower", "upper")
    )
    return f"{median} ({lower}–{upper})"


def heading(row: Row) -> str:
    """Names the case and the peer of a row on one line."""
    return " ".join([*_case(row), row["peer"]])


def show(tables: Iterable[Table], record: dict[str, Any]) -> None:
    """Prints tables under the machine that they were measured on."""
    console = Console(width=_WIDTH, highlight=False)
    before, after = (record["load_average"][name][0] for name in ("before", "after"))
    console.print(machine_line(record["machine"]))
    console.print(f"load average {before:.2f} before, {after:.2f} after")
    if (devices := record["plan"]["host_devices"]) > 1:
        console.print(
            f"on {devices} devices the batch is split; one device has all cores too"
        )
    for peer in record["plan"]["peers"]:
        if peer in NOTES:
            console.print(NOTES[peer])
    for table in tables:
        title, table.title = table.title, None
        with console.capture() as capture:
            console.print(table)
        lines = [line.rstrip() for line in capture.get().strip().splitlines()]
        print("", title, "", *lines, sep="\n")


def machine_line(machine: dict[str, Any]) -> str:
    """Describes a machine and the versions on one line."""
    versions = ", ".join(
        f"{name} {version}"
        for name, version in machine["versions"].items()
        if name not in ("python", "jaxlib", "numpy", "optax", "orbax-checkpoint")
    )
    return f"{machine['cpu']}, {machine['num_cores']} cores; {versions}"


def _case_names(row: Row) -> tuple[str, ...]:
    return tuple(name for name in _CASE if name in row)


def _case(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in _case_names(row))
