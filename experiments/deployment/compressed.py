"""What smaller parameters cost: bytes on disk against loss and metric on test."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.deployment.artifact import restore, weights_data
from seqjax.array_types import PyTree
from seqjax.compression import pack, prune, quantise, sparsity_of

_SPARSITIES = (0.0, 0.5, 0.8, 0.9)


def compress(params: PyTree, quantisation: str, sparsity: float) -> PyTree:
    """Returns parameters as an export stores them.

    Args:
      params: those of a run.
      quantisation: `none`, or `int8`.
      sparsity: share of the weights of each kernel that become zero; 0 leaves all.
    """
    if sparsity:
        params = prune(params, sparsity)
    if quantisation == "int8":
        params = quantise(params)
    return pack(params) if sparsity else params


def compare_compressions(
    params: PyTree, measure: Callable[[PyTree], dict[str, float]]
) -> list[dict[str, Any]]:
    """Measures every compression on the test set.

    Args:
      params: those of a run.
      measure: `(params) -> loss and metric`.

    Returns:
      A row for each: how the kernels are stored, bytes of the file of weights, the same
      as a share, and loss and metric.
    """
    full = len(weights_data(params))
    rows = []
    for quantisation in ("none", "int8"):
        for sparsity in _SPARSITIES:
            small = compress(params, quantisation, sparsity)
            size = len(weights_data(small))
            restored = jax.tree.map(np.asarray, restore(small))
            rows.append(
                {
                    "stored": "float32" if quantisation == "none" else quantisation,
                    "zeros": float(sparsity_of(restored)),
                    "sparsity": sparsity,
                    "bytes": size,
                    "share": size / full,
                    **measure(restored),
                }
            )
    return rows
