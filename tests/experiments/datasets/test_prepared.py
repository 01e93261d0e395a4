"""Prepared files: the same bytes always, and one line where they are not there."""

import hashlib
import io
import os
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.datasets.dataset import DataError
from experiments.datasets.prepared import npz_bytes, read_npz, read_prepared
from tests.experiments.datasets.packages import dataset, plant

ARRAYS = {"b": np.arange(6, dtype=np.uint8).reshape(2, 3), "a": np.array([0.5, -1.0])}


def test_npz_round_trip_and_numpy_reads_it() -> None:
    data = npz_bytes(ARRAYS)
    with np.load(io.BytesIO(data), allow_pickle=False) as loaded:
        plain = dict(loaded)
    for arrays in (read_npz(data), plain):
        assert sorted(arrays) == ["a", "b"]
        for name, array in ARRAYS.items():
            assert arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(arrays[name], array)


def test_npz_bytes_depend_on_the_arrays_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data = npz_bytes(ARRAYS)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert npz_bytes(dict(sorted(ARRAYS.items()))) == data
    # The very bytes that another system and another version must make.
    digest = hashlib.sha256(data).hexdigest()
    assert digest == (
        "2c32685b7f05b9350828d1e188c56bffcc33eaab7c14158bf97e722c91210374"
    )


def test_objects_are_neither_written_nor_read() -> None:
    objects = np.array([{}], dtype=object)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        npz_bytes({"a": objects})
    stream = io.BytesIO()
    np.savez(stream, a=objects)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_npz(stream.getvalue())


def test_prepared_files_are_checked(tmp_path: Path) -> None:
    entry = plant(dataset(), tmp_path, {"one": b"first", "two": b"second"})
    assert read_prepared(entry, tmp_path) == {"one": b"first", "two": b"second"}
    remedy = f"python -m experiments.data --fetch=tiny --data_dir={tmp_path}`"
    path = tmp_path / "tiny" / "two"
    path.write_bytes(b"sEcond")
    with pytest.raises(DataError, match="two: damaged") as damaged:
        read_prepared(entry, tmp_path)
    os.remove(path)
    with pytest.raises(DataError, match="two: missing") as missing:
        read_prepared(entry, tmp_path)
    for caught in (damaged, missing):
        assert remedy in str(caught.value)
        assert "\n" not in str(caught.value)
