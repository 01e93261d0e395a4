"""Time of the gradient against the number of steps."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from experiments.benchmarks import figures, tables
from experiments.benchmarks.compare import Row, compare
from experiments.benchmarks.options import Plan


def measure(plan: Plan) -> Iterator[Row]:
    """Yields a row for every cell, pass, length and framework."""
    for kind, name, shape in itertools.product(plan.kinds, plan.passes, plan.shapes):
        yield from compare(plan, kind, shape, name)


def exponent(times: Sequence[int], seconds: Sequence[float]) -> float:
    """Fits seconds ∝ timeᵖ to the longer half of the times, and returns p.

    The shorter half shows what a call costs. NaN where that leaves a single time.
    """
    order = np.argsort(times)
    upper = order[len(order) // 2 :]
    if len(upper) < 2:
        return math.nan
    logs = np.log(np.asarray(times)[upper]), np.log(np.asarray(seconds)[upper])
    return float(np.polyfit(*logs, 1)[0])


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Returns the exponent of every cell, pass and framework."""
    found = []
    for kind, name, peer in dict.fromkeys(map(_curve, rows)):
        own = [row for row in rows if _curve(row) == (kind, name, peer)]
        medians = [row["seconds"]["median"] for row in own]
        found.append(
            {
                "kind": kind,
                "shape": "exponent",
                "pass": name,
                "peer": peer,
                "exponent": exponent([row["time"] for row in own], medians),
            }
        )
    return found


def list_tables(rows: Sequence[Row], summary: Sequence[Row]) -> list[Table]:
    """Returns times and ratios, and the exponents under the times."""
    return [
        tables.matrix(
            "Time, ms: median (quartiles); exponent of the longer half",
            [*rows, *summary],
            lambda row: (
                f"{row['exponent']:.3f}"
                if "exponent" in row
                else tables.milliseconds(row)
            ),
        ),
        tables.matrix("Time over that of the first column", rows, tables.ratio),
    ]


def draw(rows: Sequence[Row]) -> Figure:
    """Draws time against length, both logarithmic, a panel for each cell and pass."""
    panels = list(dict.fromkeys((row["kind"], row["pass"]) for row in rows))
    figure, all_axes = figures.curves(len(panels))
    for axes, panel in zip(all_axes, panels, strict=True):
        shown = [row for row in rows if (row["kind"], row["pass"]) == panel]
        for peer in dict.fromkeys(row["peer"] for row in shown):
            own = [row for row in shown if row["peer"] == peer]
            medians = [1e3 * row["seconds"]["median"] for row in own]
            axes.plot([row["time"] for row in own], medians, **figures.look(peer))
        first = shown[0]
        axes.set_title(
            f"{panel[0]}, {figures.PASS_TITLES[panel[1]]}\n"
            f"batch {first['batch']}, hidden {first['hidden']}"
        )
        axes.set_xlabel("length (steps)")
        axes.set_ylabel("time (ms)")
        figures.logarithmic(axes, "x")
        axes.set_xticks(sorted({row["time"] for row in shown}))
        axes.tick_params("x", rotation=45)
        axes.minorticks_off()
        figures.logarithmic(axes, "y")
    figures.add_key(figure)
    return figure


def _curve(row: Row) -> tuple[str, str, str]:
    return row["kind"], row["pass"], row["peer"]
