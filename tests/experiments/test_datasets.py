"""Data sets: IDX files, the splits of MNIST, and the catalogue."""

import gzip
import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.datasets.catalogue import DATASETS
from experiments.datasets.dataset import DataError, Member, default_data_dir
from experiments.datasets.idx import read_idx
from experiments.datasets.mnist import MNIST_TASKS, load_mnist_task, locate
from experiments.datasets.sequences import SequenceData

_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array: np.ndarray) -> bytes:
    """The IDX file of an array, written from the format's definition."""
    kind = f"{array.dtype.kind}{array.dtype.itemsize}"
    header = struct.pack(">HBB", 0, _CODES[kind], array.ndim)
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


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


def arrays(data: SequenceData, split: str) -> tuple[np.ndarray, np.ndarray]:
    """All inputs of a split as one array, and the targets."""
    inputs, targets = data.splits[split][:2]
    assert isinstance(targets, np.ndarray)
    return inputs.take(np.arange(len(targets)), inputs.lengths.max()), targets


def test_splits_of_mnist(mnist_dir: Path) -> None:
    data = load_mnist_task("mnist_rows", mnist_dir)
    images, labels = digits(120, 120)
    # One in twelve of the training files is held back: 5,000 of 60,000.
    for split, chosen in (("train", slice(0, 110)), ("valid", slice(110, 120))):
        inputs, targets = arrays(data, split)
        np.testing.assert_array_equal(inputs, images[chosen])
        np.testing.assert_array_equal(targets, labels[chosen])
        assert (inputs.dtype, targets.dtype) == (np.uint8, np.int32)
    np.testing.assert_array_equal(arrays(data, "test")[0], digits(25, 25)[0])
    assert (data.input_size, data.output_size) == (28, 10)
    assert (data.kind, data.metric) == ("classify", "accuracy")
    assert data.baseline_loss == pytest.approx(np.log(10))
    assert data.baseline_metric == 3 / 25  # labels 0 to 4 occur three times


def test_pixel_orders(mnist_dir: Path) -> None:
    rows, _ = arrays(load_mnist_task("mnist_rows", mnist_dir), "valid")
    pixels, _ = arrays(load_mnist_task("mnist_pixels", mnist_dir), "valid")
    permuted, _ = arrays(load_mnist_task("mnist_permuted", mnist_dir), "valid")
    assert pixels.shape == permuted.shape == (10, 784, 1)
    np.testing.assert_array_equal(pixels[..., 0], rows.reshape(10, 784))
    # The published order, and that it is NumPy's legacy generator that makes it.
    order = np.random.RandomState(92916).permutation(784)
    assert order[:5].tolist() == [319, 576, 323, 107, 355]
    np.testing.assert_array_equal(permuted, pixels[:, order])


def test_files_may_lie_in_the_folder_itself(mnist_dir: Path) -> None:
    direct = load_mnist_task("mnist_rows", mnist_dir / "mnist")
    below = load_mnist_task("mnist_rows", mnist_dir)
    for ours, theirs in zip(
        arrays(direct, "train"), arrays(below, "train"), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


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
        inputs, targets = arrays(data, split)
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
        Member(path="package/data", file_name=name, num_bytes=0, sha256="0" * 64)
