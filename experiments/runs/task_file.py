"""The task of a run as a file: what using its model needs beside the parameters."""

import json
from pathlib import Path
from typing import Any

from experiments.common import files
from experiments.common.launch import BAD_FLAG, Exit
from experiments.datasets.description import TaskDescription

_NAME = "task.json"


def write(folder: Path, task: TaskDescription) -> None:
    """Writes the description of a task into the directory of a run."""
    files.write_json(folder / _NAME, task.description())


def parse(record: dict[str, Any]) -> TaskDescription:
    """Returns the task that `TaskDescription.description` describes.

    Raises:
      ValueError, TypeError, AttributeError: it describes none.
    """
    lists: dict[str, Any] = {
        k: tuple(v) for k, v in record.items() if isinstance(v, list)
    }
    return TaskDescription(**(record | lists))


def read(folder: Path) -> TaskDescription:
    """Returns the description of the task of a run.

    Raises:
      Exit: the directory holds none, or it is damaged.
    """
    path = folder / _NAME
    try:
        return parse(json.loads(path.read_bytes()))
    except OSError as error:
        raise Exit(
            BAD_FLAG, f"{path}: {error.strerror}; train the run first"
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise Exit(BAD_FLAG, f"{path}: damaged ({error})") from error
