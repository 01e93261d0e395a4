"""Recurrent sequence models as pure functions, and how gradients travel in them."""

from seqjax import cells, combinators, gradients, initializers, losses, tasks, tree
from seqjax.cell import Affine, AffineParams, Cell, Noise
from seqjax.made import factory
from seqjax.parallel import newton_unroll
from seqjax.streaming import stream
from seqjax.unroll import last_output, make_probes, unroll

__version__ = "0.1.0"

__all__ = [
    "Affine",
    "AffineParams",
    "Cell",
    "Noise",
    "__version__",
    "cells",
    "combinators",
    "factory",
    "gradients",
    "initializers",
    "last_output",
    "losses",
    "make_probes",
    "newton_unroll",
    "stream",
    "tasks",
    "tree",
    "unroll",
]
