"""Writing files so that a kill at any moment leaves the old or the new content."""

import json
import math
import os
from pathlib import Path
from typing import Any


def write_atomic(path: Path, data: bytes) -> None:
    """Replaces a file's content, or leaves it as it was.

    The bytes reach the disk under another name, which is then renamed.

    Args:
      path: the file; its folder must exist and have one writer.
      data: the new content.
    """
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames and deletions inside `folder` survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def json_ready(value: Any) -> Any:
    """Returns `value` with every NaN and infinity replaced by None."""
    if isinstance(value, dict):
        return {key: json_ready(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, value: Any) -> None:
    """Replaces a file by the JSON text of `value`; see `write_atomic`."""
    text = json.dumps(json_ready(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, (text + "\n").encode())


def json_line(row: dict[str, Any]) -> bytes:
    """Returns one line of a JSON-lines file, with null for NaN and infinities."""
    text = json.dumps(json_ready(row), ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a JSON-lines file, without a last line torn by a kill.

    A file that is missing has no rows.

    Raises:
      ValueError: a line other than the last one is not a JSON object.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    # What follows the last newline was being written when the process ended.
    rows = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not JSON") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: expected a JSON object")
        rows.append(row)
    return rows
