"""What a run that is done leaves of its model's answers, for the report."""

from collections.abc import Callable
from pathlib import Path

from flax.training.train_state import TrainState

from experiments.common.names import SERIES
from experiments.runs import forecasts, transcript
from experiments.runs.factories import load_forecast_test
from experiments.runs.options import Options
from experiments.runs.programs import Programs


def leave_answers(
    folder: Path,
    options: Options,
    programs: Programs,
    state: TrainState,
    say: Callable[[str], None],
) -> dict[str, float]:
    """Writes forecasts of a series' test part, or what a recogniser writes down.

    Args:
      folder: directory of the run.
      options: its flags.
      programs: what it compiles.
      state: its best state.
      say: tells the user a line.

    Returns:
      What the answers score beyond loss and metric, by name.
    """
    if programs.source.kind == "transcribe":
        transcript.write(folder, programs, state)
    if options.task not in SERIES:
        return {}
    outputs = programs.outputs(state, "test")
    made = forecasts.make(programs.source, load_forecast_test(options), outputs)
    forecasts.write(folder, made)
    for line in forecasts.lines(made):
        say(line)
    return forecasts.summary(made)
