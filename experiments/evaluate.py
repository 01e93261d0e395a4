"""Measures a checkpoint of a run; gives the very number that the run itself logged.

Prints one row as in metrics.jsonl, and writes nothing.
"""

import dataclasses
from pathlib import Path

from experiments.common.files import json_line
from experiments.common.launch import flag, launch
from experiments.runs import run_dir
from experiments.runs.checkpoint_flags import CheckpointFlags


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(CheckpointFlags):
    """Evaluation: on what."""

    split: str = flag(
        "test", "Which set is measured.", choices=("train", "valid", "test")
    )
    eval_size: int | None = flag(
        None,
        "Sequences in the set; that of the run if none, 0 for all of a data set.",
        low=0,
        high=10**7,
        unit="sequences",
    )
    data_dir: str | None = flag(
        None, "Folder of all data sets; that of the run if none."
    )


def main(options: Options) -> None:
    """Restores a state and prints its loss and metric."""
    path = Path(options.run_dir)
    run_dir.read_options(path)
    # From here on jax is needed, which takes more than a second to import.
    from experiments.runs.measured import restore

    restored = restore(
        path,
        options.checkpoint,
        eval_size=options.eval_size,
        data_dir=options.data_dir,
    )
    row = {"step": restored.step, "split": options.split}
    row |= restored.measure(options.split)
    print(json_line(row).decode(), end="")


if __name__ == "__main__":
    launch(main, Options)
