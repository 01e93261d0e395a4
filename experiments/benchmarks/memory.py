"""Temporaries that the compiler plans for the gradient; nothing runs."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
from rich.table import Table

from experiments.benchmarks import figures, peers, tables
from experiments.benchmarks.compare import Row, case, compare
from experiments.benchmarks.options import Plan
from experiments.benchmarks.work import LOSSES, compile_pass

_FLOAT32_BYTES = 4


def measure(plan: Plan) -> Iterator[Row]:
    """Yields the memory of every cell, shape, loss and framework, and on demand times.

    A unit is the size of all outputs, batch * time * hidden * 4 bytes.
    """
    for kind, shape in itertools.product(plan.kinds, plan.shapes):
        unit = shape.batch * shape.time * shape.hidden * _FLOAT32_BYTES
        models = peers.models(plan, kind, shape)
        for loss, (name, model) in itertools.product(LOSSES, models.items()):
            compiled = compile_pass(model, shape, "backward", LOSSES[loss])
            yield {
                **case(kind, shape, "backward"),
                "loss": loss,
                "peer": name,
                "temporaries": compiled.temporaries,
                "arguments": compiled.arguments,
                "units": compiled.temporaries / unit,
                "compile_seconds": compiled.seconds,
            }
    if plan.timed:
        few = dataclasses.replace(plan, peers=("linen",))
        for kind, loss in itertools.product(plan.kinds, LOSSES):
            for row in compare(few, kind, plan.shapes[0], "backward", LOSSES[loss]):
                yield row | {"loss": loss}


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Returns the least memory of a peer over the least of seqjax, for every case."""
    return tables.best(_planned(rows), lambda row: row["units"], min)


def list_tables(rows: Sequence[Row], summary: Sequence[Row]) -> list[Table]:
    """Returns the memory, and the times where they were measured."""
    units = tables.matrix(
        "Temporaries of the gradient, in units of batch * time * hidden * 4 bytes",
        [*_planned(rows), *summary],
        lambda row: f"{row['units']:.3g}" if "units" in row else tables.ratio(row),
    )
    timed = [row for row in rows if "seconds" in row]
    if not timed:
        return [units]
    return [
        units,
        tables.matrix("Time, ms: median (quartiles)", timed, tables.milliseconds),
        tables.matrix("Time over that of the first column", timed, tables.ratio),
    ]


def draw(rows: Sequence[Row]) -> Figure:
    """Draws the memory in units, a line for each case."""
    return figures.dots(
        {"temporaries of the gradient": _planned(rows)},
        label=lambda row: f"{row['kind']} {row['shape']}\nloss on {row['loss']}",
        value=lambda row: (row["units"],) * 3,
        axis_name="temporaries / (batch * time * hidden * 4 bytes)",
    )


def _planned(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if "units" in row]
