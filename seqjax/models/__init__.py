"""Flax Linen models around a cell: the readouts, with everything recurrent in the cell.

Every model returns `(carry, outputs)`, keeps the parameters of its cell in the one
subtree `params["cell"]`, and draws all dropout from the rng collection "dropout".
"""

from seqjax.models.bag_of_words import BagOfWords
from seqjax.models.classifier import POOLINGS, Forecaster, SequenceClassifier
from seqjax.models.labeller import LanguageModel, SequenceLabeller
from seqjax.models.packing import Packing, unpack
from seqjax.models.translator import ATTENTIONS, Translator

__all__ = [
    "ATTENTIONS",
    "POOLINGS",
    "BagOfWords",
    "Forecaster",
    "LanguageModel",
    "Packing",
    "SequenceClassifier",
    "SequenceLabeller",
    "Translator",
    "unpack",
]
