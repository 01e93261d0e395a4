"""Time of every peer over that of seqjax."""

import itertools
from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
from rich.table import Table

from experiments.benchmarks import figures, tables
from experiments.benchmarks.compare import Row, compare
from experiments.benchmarks.options import Plan

_MIB = 1024 * 1024


def measure(plan: Plan) -> Iterator[Row]:
    """Yields a row for every cell, shape, pass and framework."""
    for kind, shape, name in itertools.product(plan.kinds, plan.shapes, plan.passes):
        yield from compare(plan, kind, shape, name)


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Returns the best peer of every case, and geometric means over the shapes."""
    best = tables.best(rows, lambda row: row["ratio"]["median"], min)
    return best + tables.geometric_means([*rows, *best])


def list_tables(rows: Sequence[Row], summary: Sequence[Row]) -> list[Table]:
    """Returns ratios, times, and what else is known of the compiled programs."""
    compiled = [row for row in rows if row["temporaries"] is not None]
    return [
        tables.matrix(
            "Time over that of the first column, median of the repetitions",
            [*rows, *summary],
            tables.ratio,
        ),
        tables.matrix("Time, ms: median (quartiles)", rows, tables.milliseconds),
        tables.matrix(
            "Time to compile, s", compiled, lambda row: f"{row['compile_seconds']:.2f}"
        ),
        tables.matrix(
            "Temporaries of the compiled program, MiB",
            compiled,
            lambda row: f"{row['temporaries'] / _MIB:.4g}",
        ),
        tables.matrix("Parameters", rows, lambda row: f"{row['num_params']:,}"),
    ]


def draw(rows: Sequence[Row]) -> Figure:
    """Draws the ratios, a panel for each pass."""
    reference = rows[0]["peer"]
    passes = dict.fromkeys(row["pass"] for row in rows)
    return figures.dots(
        {
            figures.PASS_TITLES[name]: [
                row for row in rows if row["pass"] == name and row["peer"] != reference
            ]
            for name in passes
        },
        label=lambda row: f"{row['kind']} {row['shape']}",
        value=lambda row: (
            row["ratio"]["median"],
            row["ratio"]["lower"],
            row["ratio"]["upper"],
        ),
        axis_name=f"time / time of {reference}",
        line_at=1.0,
    )
