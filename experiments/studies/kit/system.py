"""A training flagfile as a study: its result, and the pictures of its run."""

from pathlib import Path

from experiments.common.launch import parse
from experiments.common.names import DATASETS
from experiments.reports import plots
from experiments.runs import run_dir
from experiments.runs.options import Options
from experiments.studies.kit.answers import measure_answers
from experiments.studies.kit.study import Picture, Result
from experiments.studies.kit.training_runs import train

_SHOWN = (
    *("forecast_errors", "forecast_course", "forecast_windows"),
    *("training", "gradient_over_time", "decay_rate"),
)


def measure_system(
    flagfile: Path, folder: Path, full: bool, short: tuple[str, ...], data_dir: str
) -> Result:
    """Trains what a flagfile says, or a short version of it.

    Args:
      flagfile: of `experiments.train`.
      folder: of the study.
      full: whether to train as long as the flagfile says.
      short: flags that a short run adds, as in `--num_steps=300`.
      data_dir: folder of all data sets; "" for that of the flagfile.

    Returns:
      The numbers of the run's result, and its pictures.
    """
    flags = {"report": True, "lag_sequences": 4, "flagfile": str(flagfile)}
    options = parse([f"--flagfile={flagfile}", f"--run_dir={folder}"], Options)
    if data_dir and options.task in DATASETS:
        flags["data_dir"] = data_dir
    added = {} if full else dict(text[2:].split("=", 1) for text in short)
    name = flagfile.stem
    train(folder, {name: flags | added}, full=full, num_threads=None)
    path = folder / ("full" if full else "short") / name
    result = run_dir.read_record(path)["result"]
    values = {
        key: float(value)
        for key, value in result.items()
        if isinstance(value, int | float)
    }
    values |= measure_answers(path)
    return Result(values, _pictures(path / "plots", folder))


def _pictures(drawn: Path, folder: Path) -> list[Picture]:
    pictures = []
    for picture in plots.PICTURES:
        path = drawn / f"{picture.name}.png"
        if picture.name in _SHOWN and path.exists():
            copy = folder / path.name
            copy.write_bytes(path.read_bytes())
            pictures.append(Picture(copy, picture.title, picture.reading))
    return pictures
