"""How much faster batches of stored data are made than a network learns from them."""

import statistics
import time
from pathlib import Path

import jax

from experiments.common import files
from experiments.common.launch import parse
from experiments.common.names import DATASETS, SYSTEMS
from experiments.runs import loop
from experiments.runs.options import Options
from experiments.studies.kit.study import Result

# One of every form of data: pixels, words, pairs, characters, chords, frames, hours.
_SHORT = (
    "mnist_rows",
    "reuters_r8",
    "translation",
    "shakespeare",
    "chorales",
    "spoken_digits",
    "weather",
)
_FLAGFILES = Path(__file__).parents[1] / "flagfiles"
_WARM_UP, _NUM_STEPS = 2, 20


def measure(folder: Path, full: bool, data_dir: str) -> Result:
    """Makes the same batches alone, and trains on them."""
    place = [f"--data_dir={data_dir}"] if data_dir else []
    seconds = {}
    for name in SYSTEMS if full else _SHORT:
        flagfile = f"--flagfile={_FLAGFILES / name}.flags"
        options = parse([flagfile, f"--run_dir={folder / name}", *place], Options)
        if options.task in DATASETS:
            seconds[name] = _seconds(options)
    files.write_json(folder / "seconds.json", seconds)
    ratios = {name: at["update"] / at["batch"] for name, at in seconds.items()}
    values = {f"{name}_ratio": ratio for name, ratio in ratios.items()}
    return Result({"smallest_ratio": min(ratios.values())} | values)


def _seconds(options: Options) -> dict[str, float]:
    """Returns the median time of a batch, and of a batch with an update from it."""
    programs = loop.build(options)
    programs.compile(probed=False)
    state = programs.initial_state()
    taken: dict[str, list[float]] = {"batch": [], "update": []}
    # The first calls of a program, and the order of the first epoch, are made once.
    for step in range(_WARM_UP + _NUM_STEPS):
        start = time.perf_counter()
        programs.source.train_batch(step)
        made = time.perf_counter()
        state, metrics = programs.advance(state, step, 1)
        jax.block_until_ready((state, metrics))
        taken["batch"].append(made - start)
        taken["update"].append(time.perf_counter() - made)
    return {name: statistics.median(times[_WARM_UP:]) for name, times in taken.items()}
