"""Tunes in ABC notation: what stays of a file, and that settings stay together."""

from pathlib import Path

import pytest

from experiments.datasets import melodies
from experiments.datasets.dataset import DataError
from experiments.datasets.melodies import (
    book_number,
    clean_tune,
    group_settings,
    load_melodies,
    prepare_melodies,
)
from tests.experiments.datasets.stored import store

FOLDER = "music21/corpus/oneills1850"
SOURCE = """ 2
T: Fare You Well
T: Another Name
M: 2/4
%Q:1/4=90
L:1/16
B: "O'Neill's 17"
N: "Slow" "collected by F. O'Neill"
Z: "Transcribed by someone, 1997"
R:Air
K:D % two sharps
f-g | a3-b g3-a |\r
  A2:|  % the end
M:3/4
d3-c (3(A2G2F2) ||

"""
CLEANED = """T:Fare You Well
R:Air
M:2/4
L:1/16
K:D
f-g | a3-b g3-a |
A2:|
M:3/4
d3-c (3(A2G2F2) ||"""


def tune(title: str, body: str) -> str:
    return f"T:{title}\nM:C\nK:G\n{body}"


def test_a_tune_keeps_what_a_player_needs() -> None:
    assert clean_tune(SOURCE) == CLEANED


def test_numbers_are_those_of_the_book() -> None:
    assert book_number(SOURCE) == 17
    assert book_number(" 5\nT:x\nB:O'Neill's\nZ:1999\nM:9/8\nK:D\n") == 5
    assert book_number("6\nT:x\nK:D\n") == 6


def test_one_transcription_of_a_number_stays() -> None:
    files = {
        f"{FOLDER}/b.abc": b"X: 3\nT:C\nK:G\nc\n\nX:1\nT:again\nK:G\na\n",
        f"{FOLDER}/a.abc": b"% a remark\nX: 2\nT:B\nK:G\nb\n\nX: 1\nT:A\nK:G\na\n",
    }
    expected = b"T:A\nK:G\na\n\nT:B\nK:G\nb\n\nT:C\nK:G\nc\n"
    for contents in (files, dict(reversed(files.items()))):
        assert prepare_melodies(contents) == {"melodies.abc": expected}


RUN = "GABc dedB|dedB dedB|cBAG ABAF|"  # 24 letters of notes


def test_settings_are_found() -> None:
    tunes = [
        tune("The Lark", f"{RUN}G4|"),
        tune("A Reel", "ABcd efga|"),
        tune("THE LARK", "e2f2|"),
        tune("The Wren", f"e4|{RUN.lower().replace(' ', '2')}c4|"),
        tune("The Owl", f"{RUN[:-2]}e|"),
        tune("The Finch", '{c}GA"D"Bc dedB|\ndedB dedB|cBAG ABAF|'),
    ]
    assert group_settings(tunes).tolist() == [0, 1, 0, 0, 4, 0]


def test_a_split_holds_whole_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tunes = [tune(f"Title {i // 2}", f"note {i}") for i in range(60)]
    contents = {"melodies.abc": ("\n\n".join(tunes) + "\n").encode()}
    store(monkeypatch, melodies, "MELODIES", tmp_path, contents)
    splits = load_melodies(tmp_path)
    assert {name: len(texts) for name, texts in splits.items()} == {
        "train": 48,
        "valid": 6,
        "test": 6,
    }
    assert sorted(t for texts in splits.values() for t in texts) == sorted(tunes)
    titles = [{t.split("\n")[0] for t in texts} for texts in splits.values()]
    assert sum(map(len, titles)) == len(set.union(*titles)) == 30


def test_missing_tunes_are_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"melodies\.abc: missing; .*--fetch=melodies"):
        load_melodies(tmp_path)
