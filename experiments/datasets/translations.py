"""Chinese sentences with their English originals, out of a program's help pages."""

import html
import re
from collections.abc import Mapping
from pathlib import Path

from experiments.datasets import splits
from experiments.datasets.dataset import Dataset, Member, PairSplit
from experiments.datasets.prepared import read_prepared

_CHINESE, _ENGLISH = "/zh-CN/", "/en-US/"
_PARAGRAPH = re.compile(r'<(p|h[1-6])\b[^>]*?\bid="([^"]+)"[^>]*>(.*?)</\1>', re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_IDEOGRAPH = re.compile(r"[\u4e00-\u9fff]")
_MIN_SHARE = 0.4  # ideographs among all characters; below, the page is not translated


def prepare_pairs(pages: Mapping[str, bytes]) -> dict[str, bytes]:
    """Aligns the paragraphs of Chinese and English pages.

    Args:
      pages: HTML pages by path; a page and its translation differ in `/en-US/` and
        `/zh-CN/` alone, a paragraph and its translation have one `id`.

    Returns:
      `pairs.tsv`: every distinct pair on a line, Chinese, tab, English, sorted.
    """
    pairs = set()
    for path, page in pages.items():
        translated = pages.get(path.replace(_ENGLISH, _CHINESE))
        if _ENGLISH in path and translated is not None:
            originals = _paragraphs(page)
            for name, chinese in _paragraphs(translated).items():
                if name in originals and _is_chinese(chinese):
                    pairs.add((chinese, originals[name]))
    lines = [f"{chinese}\t{english}\n" for chinese, english in sorted(pairs)]
    return {"pairs.tsv": "".join(lines).encode()}


def _paragraphs(page: bytes) -> dict[str, str]:
    """Returns the text of every paragraph by its `id`."""
    texts = {}
    for _, name, body in _PARAGRAPH.findall(page.decode()):
        text = " ".join(html.unescape(_TAG.sub("", body.replace("<br>", " "))).split())
        # Hidden parts are wordings for other systems, of which a script shows one.
        if text and 'hidden="true"' not in body:
            texts.setdefault(name, text)
    return texts


def _is_chinese(text: str) -> bool:
    return len(_IDEOGRAPH.findall(text)) >= _MIN_SHARE * len(text)


_HELP_ZH_EN = Dataset(
    name="help_zh_en",
    description="21,679 Chinese and English paragraphs of LibreOffice's help",
    licence="MPL-2.0",
    client="apt",
    package="libreoffice-help-en-us libreoffice-help-zh-cn",
    version="4:7.4.7-1+deb12u14",
    download_megabytes=5.2,
    prepare=prepare_pairs,
    wanted=("usr/share/libreoffice/help/*/text/*.html",),
    archive_sha256="8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712 "
    "db867cdece4c2f9c7eebe65e519c6cf386fdcf49d6e061db3dffec893b3e1dee",
    members=(
        Member(
            path="pairs.tsv",
            file_name="pairs.tsv",
            num_bytes=3_261_527,
            sha256="349076c69d85dc2ac8e28490722e45ea7fb5899485f1aa5fbee84a6d2f84c2b7",
        ),
    ),
)

ENTRIES = (_HELP_ZH_EN,)


def load_help_zh_en(data_dir: Path) -> dict[str, PairSplit]:
    """Loads Chinese paragraphs, the sources, and English ones, the targets.

    The split 80 : 10 : 10 goes by SHA-256 of the source up to punctuation, so no source
    is in two splits; some have several targets. This is help of one program, short and
    formulaic: scores are higher than for other text.

    Args:
      data_dir: folder of all data sets.

    Returns:
      train, valid and test.

    Raises:
      DataError: the file is missing or damaged.
    """
    data = read_prepared(_HELP_ZH_EN, data_dir)["pairs.tsv"]
    parts = {split: PairSplit([], []) for split in splits.SHARES}
    for line in data.decode().split("\n")[:-1]:
        source, _, target = line.partition("\t")
        part = parts[splits.split_of(splits.fold(source))]
        part.sources.append(source)
        part.targets.append(target)
    return parts
