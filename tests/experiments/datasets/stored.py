"""Small data sets in place of the catalogue's, for the tests of loaders."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest

from tests.experiments.datasets.packages import member


def store(
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    entry: str,
    data_dir: Path,
    contents: Mapping[str, bytes],
) -> Path:
    """Writes the files of a data set, and makes them the ones that its entry knows.

    Returns:
      The folder of the data set.
    """
    dataset = getattr(module, entry)
    folder = data_dir / dataset.name
    folder.mkdir(parents=True, exist_ok=True)
    for file_name, data in contents.items():
        (folder / file_name).write_bytes(data)
    members = tuple(member(name, data, name) for name, data in contents.items())
    monkeypatch.setattr(module, entry, dataclasses.replace(dataset, members=members))
    return folder
