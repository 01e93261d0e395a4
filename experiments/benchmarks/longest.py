"""Longest sequence whose gradient is planned within 1 GiB; nothing runs."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

from matplotlib.figure import Figure
from rich.table import Table

from experiments.benchmarks import figures, peers, tables
from experiments.benchmarks.compare import Row, case
from experiments.benchmarks.options import Plan, Shape
from experiments.benchmarks.work import LOSSES, Compiled, Model, compile_pass

BUDGET = 1024**3
_GROWTH = 4
_PRECISION = 1.05


def measure(plan: Plan) -> Iterator[Row]:
    """Yields the longest sequence of every cell, loss and framework."""
    for kind, shape in itertools.product(plan.kinds, plan.shapes):
        models = peers.models(plan, kind, shape)
        for loss, (name, model) in itertools.product(LOSSES, models.items()):
            planned = functools.cache(functools.partial(_compile, model, shape, loss))
            num_steps = search(
                lambda time, planned=planned: _bytes(planned(time)) <= BUDGET,
                shape.time,
            )
            yield {
                **case(kind, shape._replace(time=num_steps), "backward"),
                "loss": loss,
                "peer": name,
                "temporaries": num_steps and planned(num_steps).temporaries,
                "arguments": num_steps and planned(num_steps).arguments,
                "budget": BUDGET,
            }


def search(fits: Callable[[int], bool], start: int) -> int:
    """Finds the longest time that fits, to 5 %.

    Args:
      fits: says whether a time fits; true for small times, false for large ones.
      start: where the search begins.

    Returns:
      A time that fits, while one that is at most 5 % longer, or one step, does not; 0
      where not even one step fits.
    """
    if fits(start):
        low, high = start, start * _GROWTH
        while fits(high):
            low, high = high, high * _GROWTH
    else:
        low, high = start // _GROWTH, start
        while low and not fits(low):
            low, high = low // _GROWTH, low
    while high - low > 1 and high > low * _PRECISION:
        middle = max(math.isqrt(low * high), low + 1)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _compile(model: Model, shape: Shape, loss: str, time: int) -> Compiled:
    return compile_pass(model, shape._replace(time=time), "backward", LOSSES[loss])


def _bytes(compiled: Compiled) -> int:
    return compiled.temporaries + compiled.arguments


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Returns the longest of a peer over the longest of seqjax, for every case."""
    return tables.best(_without_time(rows), lambda row: row["time"], max)


def list_tables(rows: Sequence[Row], summary: Sequence[Row]) -> list[Table]:
    """Returns the longest sequences."""
    return [
        tables.matrix(
            "Longest sequence, steps, whose gradient is planned within 1 GiB",
            [*_without_time(rows), *summary],
            lambda row: f"{row['time']:,}" if "time" in row else tables.ratio(row),
        )
    ]


def draw(rows: Sequence[Row]) -> Figure:
    """Draws the longest sequences, a line for each case."""
    return figures.dots(
        {"gradient within 1 GiB": _without_time(rows)},
        label=lambda row: f"{row['kind']} {row['shape']}\nloss on {row['loss']}",
        value=lambda row: (row["time"],) * 3,
        axis_name="longest sequence (steps)",
    )


def _without_time(rows: Sequence[Row]) -> list[Row]:
    """Rows whose shape leaves out the time, which is the result."""
    return [
        row | {"shape": f"{row['batch']}x?x{row['input']}x{row['hidden']}"}
        for row in rows
    ]
