"""How far the gradient travels back on text, music, speech and weather."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.names import DATASETS
from experiments.laboratory.norm_curves import batch_norms
from experiments.pictures import style
from experiments.pictures.curves import by_lag, draw_log_norms
from experiments.runs.flow import cell_inputs
from experiments.runs.measured import Measured, restore
from experiments.runs.sources import of_cell
from experiments.studies.kit.curves import fit
from experiments.studies.kit.study import Picture, Result
from experiments.studies.kit.training_runs import train

_FLAGS = {
    "cell": "lstm",
    "hidden_size": 64,
    "batch_size": 32,
    "learning_rate": 3e-3,
    "clip_norm": 1.0,
    "eval_every": 100,
    "eval_size": 320,
    "gradient_every": 100,
    "lag_sequences": 4,
}
_RUNS: dict[str, dict[str, Any]] = {
    "adding": {"task": "adding", "length": 200},
    "shakespeare": {"task": "shakespeare", "max_length": 200},
    "reuters_r8": {"task": "reuters_r8", "max_length": 200, "pooling": "last"},
    "chorales": {"task": "chorales"},
    "spoken_digits": {"task": "spoken_digits", "pooling": "last"},
    "weather": {"task": "weather", "context": 200, "horizon": 24},
}
_LABELS = {
    "adding": "adding problem",
    "shakespeare": "characters of Shakespeare",
    "reuters_r8": "words of newswire",
    "chorales": "chords of chorales",
    "spoken_digits": "frames of spoken digits",
    "weather": "hours of weather",
}
_FAR = 10  # steps
_REACHED = math.log(0.01)


def measure(folder: Path, full: bool, data_dir: str) -> Result:
    """Trains one LSTM on every kind of data, and follows its last output back."""
    common = _FLAGS | {"num_steps": 2000 if full else 300}
    place = {"data_dir": data_dir} if data_dir else {}
    runs = {
        name: common | flags | (place if flags["task"] in DATASETS else {})
        for name, flags in _RUNS.items()
    }
    logged = train(folder, runs, full=full)
    values: dict[str, float] = {}
    before, after = {}, {}
    for name, label in _LABELS.items():
        run = restore(folder / ("full" if full else "short") / name, "best")
        before[label] = _curves(run, run.programs.initial_state().params)
        after[label] = _curves(run, run.state.params)
        values[f"{name}_initial_rate"] = fit(jnp.asarray(before[label])).mean
        values[f"{name}_trained_rate"] = fit(jnp.asarray(after[label])).mean
        values[f"{name}_reach"] = _reach(after[label])
        arrays = logged[name].gradients or {}
        far = np.asarray(arrays["lag_edges"]) >= _FAR
        values[f"{name}_far_share"] = float(arrays["lag_shares"][-1][far].sum())
    np.savez(folder / "log_norms.npz", allow_pickle=False, **after)
    return Result(
        values,
        [_picture(folder, "initial", before), _picture(folder, "trained", after)],
    )


def _curves(run: Measured, params: Any) -> np.ndarray:
    """Returns ln ‖dL/d carryₜ‖, L a random projection of the last output.

    Of a validation batch the longer half, cut to one length: `[sequence, time+1]`.
    """
    source, model = run.programs.source, run.programs.model
    example = source.expand(source.probe_batch)
    lengths = np.asarray(of_cell(example.length))
    num_steps = int(np.median(lengths))
    xs = cell_inputs(model, params, example.inputs)[lengths >= num_steps, :num_steps]
    keys = jax.random.split(jax.random.key(0), len(xs))
    cell_params = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (len(xs), *leaf.shape)), params["cell"]
    )
    return np.asarray(batch_norms(model.cell, cell_params, xs, keys, "last").joint)


def _reach(curves: np.ndarray) -> float:
    """Returns the lag from which on the median is below a hundredth of lag 0.

    NaN where it is not at the longest lag.
    """
    median = np.median(by_lag(curves, relative=True), axis=0)
    above = np.flatnonzero(median >= _REACHED)
    return float(above[-1] + 1) if above[-1] + 1 < len(median) else math.nan


def _picture(folder: Path, state: str, curves: dict[str, np.ndarray]) -> Picture:
    shown = {name: by_lag(rows, relative=True) for name, rows in curves.items()}
    figure = draw_log_norms(shown, over="lag", label="gradient norm / norm at lag 0")
    return Picture(
        style.save(figure, folder / f"{state}.png"),
        f"Decay of the gradient on real data, {state}",
        "Every line is an LSTM with 64 units on sequences of one kind; the loss looks "
        "at the last output only. The band holds four fifths of 16 sequences or more.",
    )
