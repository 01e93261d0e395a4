"""All sets of texts to classify, by name."""

import types
from collections.abc import Callable, Mapping
from pathlib import Path

from experiments.datasets import newswire, opinions
from experiments.datasets.dataset import TextData

TEXT_LOADERS: Mapping[str, Callable[[Path], TextData]] = types.MappingProxyType(
    {
        "reuters_r8": newswire.load_reuters_r8,
        "reuters_r52": newswire.load_reuters_r52,
        "newsgroups": newswire.load_newsgroups,
        "newsgroups_4": newswire.load_newsgroups_4,
        "reviews_zh": opinions.load_reviews_zh,
        "snippets_en": opinions.load_snippets_en,
    }
)
