"""Measures a checkpoint of a run; gives the very number that the run itself logged.

Prints one row as in metrics.jsonl, and writes nothing.
"""

import dataclasses
from pathlib import Path

from experiments.common.files import json_line
from experiments.common.launch import flag, launch
from experiments.runs import run_dir


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Evaluation: of which state, and on what."""

    run_dir: str = flag("", "Directory of the run that is measured.", required=True)
    checkpoint: str = flag(
        "best", "Which state: latest, best on the validation set, or a step."
    )
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

    def check(self) -> None:
        """Raises ValueError for a checkpoint that is neither a name nor a step."""
        if (
            self.checkpoint not in ("latest", "best")
            and not self.checkpoint.isdecimal()
        ):
            raise ValueError(
                f"--checkpoint={self.checkpoint}: expected latest, best or a step"
            )


def main(options: Options) -> None:
    """Restores a state and prints its loss and metric."""
    path = Path(options.run_dir)
    changed = {
        name: getattr(options, name)
        for name in ("eval_size", "data_dir")
        if getattr(options, name) is not None
    }
    run_options = dataclasses.replace(run_dir.read_options(path), **changed)
    # From here on jax is needed, which takes more than a second to import.
    from experiments.runs import loop, training_state
    from experiments.runs.checkpoints import Checkpoints

    programs = loop.build(run_options)
    step, training = training_state.choose(
        Checkpoints(path / "checkpoints"), programs.state_shape, options.checkpoint
    )
    values = programs.evaluate(training.state, options.split, run_options.eval_size)
    row = {"step": step, "split": options.split, **(values or {})}
    print(json_line(row).decode(), end="")


if __name__ == "__main__":
    launch(main, Options)
