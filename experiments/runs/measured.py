"""A trained state put back into its run's programs, to be measured."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from flax.training.train_state import TrainState

from experiments.runs import loop, run_dir, training_state
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.programs import Programs


class Measured(NamedTuple):
    """A trained state and the programs of its run.

    Attributes:
      programs: what the run compiles; nothing is compiled yet.
      state: the state as it was saved, its leaves NumPy arrays.
      step: number of updates that made it.
      eval_size: sequences that a set is cut to, from the flags of the run.
    """

    programs: Programs
    state: TrainState
    step: int
    eval_size: int

    def measure(self, split: str, params: Any = None) -> dict[str, float]:
        """Returns loss and metric of a split, with other parameters if given."""
        state = self.state if params is None else self.state.replace(params=params)
        return self.programs.evaluate(state, split, self.eval_size) or {}


def restore(path: Path, checkpoint: str, **changed: Any) -> Measured:
    """Reads a run, its data and one of its states.

    Args:
      path: directory of the run.
      checkpoint: `latest`, `best` on the validation set, or a step.
      **changed: flags with other values than in the run; those that are None are not.

    Raises:
      Exit: there is no such run or checkpoint, or the data are missing or damaged.
    """
    given = {name: value for name, value in changed.items() if value is not None}
    options = dataclasses.replace(run_dir.read_options(path), **given)
    programs = loop.build(options)
    step, training = training_state.choose(
        Checkpoints(path / "checkpoints"), programs.state_shape, checkpoint
    )
    return Measured(programs, training.state, step, options.eval_size)
