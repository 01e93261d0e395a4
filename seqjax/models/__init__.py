"""Flax Linen models around a cell: the readouts, with everything recurrent in the cell.

Every model returns `(carry, outputs)`, keeps the parameters of its cell in the one
subtree `params["cell"]`, and draws all dropout from the rng collection "dropout".
"""

from seqjax.models.classifier import POOLINGS, Forecaster, SequenceClassifier
from seqjax.models.labeller import LanguageModel, SequenceLabeller

__all__ = [
    "POOLINGS",
    "Forecaster",
    "LanguageModel",
    "SequenceClassifier",
    "SequenceLabeller",
]
