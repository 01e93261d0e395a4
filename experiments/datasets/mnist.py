"""MNIST as sequences: row by row, pixel by pixel, or in a fixed random pixel order."""

import gzip
import io
import math
import types
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from experiments.datasets.catalogue import DATASETS
from experiments.datasets.dataset import DataError
from experiments.datasets.idx import read_idx
from experiments.datasets.sequences import Ragged, SequenceData, Sequences

MNIST_TASKS = ("mnist_rows", "mnist_pixels", "mnist_permuted")

_SIDE = 28
_NUM_CLASSES = 10
_PERMUTATION_SEED = 92916
_VALID_SHARE = 12  # one in twelve training digits: the last 5,000 of 60,000
_MAX_CSV_BYTES = 1 << 28
_GZIP_MAGIC = b"\x1f\x8b"

# Every file by its usual names: as published, as renamed by some, as short as can be.
_IDX_NAMES = {
    f"{part}-{what}": [
        f"{part}-{what}{middle}{end}"
        for middle in (f"-idx{axes}-ubyte", f".idx{axes}-ubyte", ".idx")
        for end in ("", ".gz")
    ]
    for part in ("train", "t10k")
    for what, axes in (("images", 3), ("labels", 1))
}
_NAMES: Mapping[str, Mapping[str, list[str]]] = types.MappingProxyType(
    {"mnist": _IDX_NAMES, "mnist_5k": {"digits": ["mnist_5k.csv.gz", "mnist_5k.csv"]}}
)


class Digits(NamedTuple):
    """Images, uint8 `[examples, 28, 28]`, and their labels, int32 `[examples]`."""

    images: np.ndarray
    labels: np.ndarray


def locate(dataset: str, data_dir: Path) -> dict[str, Path]:
    """Finds the files of a digit data set.

    Args:
      dataset: `mnist` or `mnist_5k`.
      data_dir: the folder of all data sets, or the very folder that holds the files.

    Returns:
      The path of every file by its part, as in `train-images`.

    Raises:
      DataError: a file is missing; the text says how to get it.
    """
    if dataset not in _NAMES:
        raise DataError(f"{dataset}: expected one of {', '.join(_NAMES)}")
    folders = (data_dir / dataset, data_dir)
    for folder in folders:
        found = {
            part: next((folder / n for n in names if (folder / n).is_file()), None)
            for part, names in _NAMES[dataset].items()
        }
        if all(found.values()):
            return {part: path for part, path in found.items() if path}
    raise DataError(_missing(dataset, folders))


def _missing(dataset: str, folders: tuple[Path, ...]) -> str:
    """Says what is missing, where it was looked for, and what to do."""
    files = ", ".join(names[0] for names in _NAMES[dataset].values())
    command = f"python -m experiments.data --fetch={dataset}"
    text = (
        f"{dataset}: expected {files} (or .gz) in {' or '.join(map(str, folders))}; "
        f"`{command} --data_dir={folders[1]}` brings them"
    )
    other = DATASETS[dataset].alternative
    client = DATASETS[dataset].client
    return text + (f" (--fetch={other} does without {client})" if other else "")


def load_mnist_task(
    name: str, data_dir: Path, dataset: Literal["mnist", "mnist_5k"] = "mnist"
) -> SequenceData:
    """Loads a digit data set as sequences to classify.

    `mnist_rows` reads an image in 28 steps of 28 pixels, `mnist_pixels` in 784 steps of
    one pixel, and `mnist_permuted` does so in the pixel order
    RandomState(92916).permutation(784), the same for all images.

    The splits are fixed. mnist: test is the published test set, valid the last 5,000
    of the 60,000 training digits, train the rest. mnist_5k: of the 500 digits of a
    class, in the order of the file, the first 400 are train, the next 50 valid, the
    last 50 test.

    Args:
      name: one of `MNIST_TASKS`.
      data_dir: the folder of all data sets, or the very folder that holds the files.
      dataset: which digits.

    Raises:
      DataError: the files are missing or not what they should be.

    References:
      LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to
      document recognition. Le, Jaitly and Hinton (2015), A simple way to initialize
      recurrent networks of rectified linear units.
    """
    if name not in MNIST_TASKS:
        raise DataError(f"{name}: expected one of {', '.join(MNIST_TASKS)}")
    digits = _READERS[dataset](locate(dataset, data_dir))
    splits = {split: _as_sequences(name, *part) for split, part in digits.items()}
    labels = digits["test"].labels
    return SequenceData(
        name=name,
        kind="classify",
        input_size=_SIDE if name == "mnist_rows" else 1,
        output_size=_NUM_CLASSES,
        metric="accuracy",
        baseline_loss=math.log(_NUM_CLASSES),
        baseline_metric=float(np.bincount(labels).max() / len(labels)),
        splits=types.MappingProxyType(splits),
    )


def _as_sequences(name: str, images: np.ndarray, labels: np.ndarray) -> Sequences:
    """Returns the images as sequences, with the labels."""
    if name == "mnist_rows":
        return Sequences(Ragged.from_array(images), labels)
    pixels = images.reshape(len(images), _SIDE * _SIDE, 1)
    if name == "mnist_permuted":
        # The legacy generator is frozen by NumPy: the order is the published one.
        order = np.random.RandomState(_PERMUTATION_SEED).permutation(_SIDE * _SIDE)
        pixels = pixels[:, order]
    return Sequences(Ragged.from_array(pixels), labels)


def _read_mnist(paths: Mapping[str, Path]) -> dict[str, Digits]:
    """Reads the four IDX files."""
    given = _read_pair(paths["train-images"], paths["train-labels"])
    num_train = len(given.labels) - len(given.labels) // _VALID_SHARE
    return {
        "train": Digits(given.images[:num_train], given.labels[:num_train]),
        "valid": Digits(given.images[num_train:], given.labels[num_train:]),
        "test": _read_pair(paths["t10k-images"], paths["t10k-labels"]),
    }


def _read_pair(images_path: Path, labels_path: Path) -> Digits:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dtype != np.uint8 or images.shape[1:] != (_SIDE, _SIDE):
        raise DataError(
            f"{images_path}: expected uint8 images [examples, {_SIDE}, {_SIDE}], got "
            f"{images.dtype} {list(images.shape)}"
        )
    if labels.shape != images.shape[:1] or not len(labels):
        raise DataError(
            f"{labels_path}: expected one label for each of {len(images)} images in "
            f"{images_path.name}, got {list(labels.shape)}"
        )
    return Digits(images, _checked_labels(labels, labels_path))


def _checked_labels(labels: np.ndarray, path: Path) -> np.ndarray:
    if labels.min() < 0 or labels.max() >= _NUM_CLASSES:
        raise DataError(
            f"{path}: expected labels 0 to {_NUM_CLASSES - 1}, got "
            f"{labels.min()} to {labels.max()}"
        )
    return labels.astype(np.int32)


def _read_mnist_5k(paths: Mapping[str, Path]) -> dict[str, Digits]:
    """Reads a table with 784 pixels and the label in every row."""
    path = paths["digits"]
    try:
        text = path.read_bytes()
        if text.startswith(_GZIP_MAGIC):
            with gzip.GzipFile(fileobj=io.BytesIO(text)) as stream:
                text = stream.read(_MAX_CSV_BYTES)
        table = np.loadtxt(io.BytesIO(text), np.uint8, delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: not a table of numbers 0 to 255 ({error})") from error
    if not len(table) or table.shape[1] != _SIDE * _SIDE + 1:
        raise DataError(f"{path}: expected 785 columns, got {list(table.shape)}")
    images = table[:, :-1].reshape(-1, _SIDE, _SIDE)
    return _split_by_class(images, _checked_labels(table[:, -1], path))


def _split_by_class(images: np.ndarray, labels: np.ndarray) -> dict[str, Digits]:
    """Splits 8 : 1 : 1 inside every class, in the order given."""
    rank = np.zeros_like(labels)
    for label in range(_NUM_CLASSES):
        members = labels == label
        rank[members] = np.arange(members.sum()) * 10 // max(members.sum(), 1)
    chosen = {"train": rank < 8, "valid": rank == 8, "test": rank == 9}
    return {split: Digits(images[at], labels[at]) for split, at in chosen.items()}


_READERS: Mapping[str, Callable[[Mapping[str, Path]], dict[str, Digits]]] = (
    types.MappingProxyType({"mnist": _read_mnist, "mnist_5k": _read_mnist_5k})
)
