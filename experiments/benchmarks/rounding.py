"""Time of seqjax with products of rounded operands over that in float32."""

from collections.abc import Sequence

from experiments.benchmarks import tables
from experiments.benchmarks.compare import Row
from experiments.benchmarks.speed import draw, list_tables, measure

__all__ = ["draw", "list_tables", "measure", "summarise"]


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Returns the geometric means over the shapes."""
    return tables.geometric_means(rows)
