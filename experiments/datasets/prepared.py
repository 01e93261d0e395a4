"""Prepared files: how their contents are written, and how loaders read them."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.datasets.dataset import DataError, Dataset

_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip archive can hold


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Returns an uncompressed npz file, the same bytes whenever and wherever made.

    Args:
      arrays: arrays of numbers by name; their order does not matter.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in sorted(arrays):
            data = io.BytesIO()
            np.lib.format.write_array(data, arrays[name], (1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", _DATE)
            info.create_system = 3  # Unix, on every system
            archive.writestr(info, data.getvalue())
    return file.getvalue()


def read_npz(data: bytes) -> dict[str, np.ndarray]:
    """Returns the arrays of an npz file that `npz_bytes` wrote."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def read_prepared(dataset: Dataset, data_dir: Path) -> dict[str, bytes]:
    """Reads all files of a data set, and checks them.

    Args:
      dataset: an entry of the catalogue.
      data_dir: folder of all data sets.

    Returns:
      The contents of every file by its name.

    Raises:
      DataError: a file is missing or is not the one that the catalogue knows; the text
        says how to get it.
    """
    folder = data_dir / dataset.name
    contents = {}
    for member in dataset.members:
        path = folder / member.file_name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(_remedy(dataset, path, "missing")) from error
        if hashlib.sha256(data).hexdigest() != member.sha256:
            raise DataError(_remedy(dataset, path, "damaged"))
        contents[member.file_name] = data
    return contents


def _remedy(dataset: Dataset, path: Path, state: str) -> str:
    command = f"python -m experiments.data --fetch={dataset.name}"
    return f"{path}: {state}; `{command} --data_dir={path.parents[1]}` brings it"
