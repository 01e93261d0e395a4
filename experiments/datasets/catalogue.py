"""All data sets by name."""

import itertools
import types
from collections.abc import Mapping

from experiments.datasets import (
    chorales,
    digits,
    frames,
    literature,
    melodies,
    newswire,
    opinions,
    series,
    translations,
)
from experiments.datasets.dataset import Dataset

DATASETS: Mapping[str, Dataset] = types.MappingProxyType(
    {
        entry.name: entry
        for entry in itertools.chain(
            digits.ENTRIES,
            newswire.ENTRIES,
            opinions.ENTRIES,
            translations.ENTRIES,
            literature.ENTRIES,
            series.ENTRIES,
            frames.ENTRIES,
            chorales.ENTRIES,
            melodies.ENTRIES,
        )
    }
)
