"""The catalogue of cells, one file per cell; `CELLS` maps names to factories."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from seqjax.cell import Cell
from seqjax.cells.elman import ElmanCarry, ElmanParams, elman, irnn
from seqjax.cells.exprnn import ExpRNNCarry, ExpRNNParams, exprnn
from seqjax.cells.gru import GRUCarry, GRUParams, gru
from seqjax.cells.jordan import JordanCarry, JordanParams, jordan
from seqjax.cells.lru import LRUCarry, LRUParams, lru
from seqjax.cells.lstm import LSTMCarry, LSTMNorm, LSTMParams, lstm

CELLS: Mapping[str, Callable[..., Cell]] = MappingProxyType(
    {
        "elman": elman,
        "exprnn": exprnn,
        "irnn": irnn,
        "jordan": jordan,
        "lstm": lstm,
        "gru": gru,
        "lru": lru,
    }
)
"""Name -> factory(input_size, hidden_size, **options)."""

__all__ = [
    "CELLS",
    "ElmanCarry",
    "ElmanParams",
    "ExpRNNCarry",
    "ExpRNNParams",
    "GRUCarry",
    "GRUParams",
    "JordanCarry",
    "JordanParams",
    "LRUCarry",
    "LRUParams",
    "LSTMCarry",
    "LSTMNorm",
    "LSTMParams",
    "elman",
    "exprnn",
    "gru",
    "irnn",
    "jordan",
    "lru",
    "lstm",
]
