"""Cells out of cells: stacks, both directions, residuals, dropout, zoneout and more.

Combinators compose in one expression:

    stack(*(bidirectional(lstm(n, 64)) for n in (32, 128, 128)), dropout=0.2)

How a composite runs over time is its `sequence`, `(run, params, start, xs, key) ->
(carry, ys)`, with arrays `[batch, time, ...]`, or `[time, ...]` without a batch:
`run(cell, params, start, xs, key)` unrolls an inner cell, and `start.part(i)` is what
enters the i-th one. Random masks are drawn there, outside every scan, and only where
`key` is not None.
"""

from seqjax.combinators.common import Wrapped
from seqjax.combinators.compose import (
    MERGES,
    Both,
    bidirectional,
    learned_carry,
    stack,
    with_reset,
)
from seqjax.combinators.noise import h_detach, variational_dropout, zoneout
from seqjax.combinators.outputs import layer_norm, projection, residual

__all__ = [
    "MERGES",
    "Both",
    "Wrapped",
    "bidirectional",
    "h_detach",
    "layer_norm",
    "learned_carry",
    "projection",
    "residual",
    "stack",
    "variational_dropout",
    "with_reset",
    "zoneout",
]
