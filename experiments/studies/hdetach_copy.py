"""What stopping the gradient through h does to an LSTM."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.pictures import style
from experiments.pictures.curves import by_lag, draw_log_norms
from experiments.pictures.learning import Curve, Panel, draw_learning
from experiments.reports.plots import RunData
from experiments.studies.kit.curves import fit
from experiments.studies.kit.learning import summarise
from experiments.studies.kit.study import Picture, Result
from experiments.studies.kit.training_runs import train
from seqjax import cells, tasks, unroll
from seqjax.cell import Cell
from seqjax.combinators import h_detach
from seqjax.gradients import carry_gradients, log_gradient_norms
from seqjax.gradients.gates import gate_timescales, path_split
from seqjax.tree import norm

_SIZE, _WAIT, _RATES = 64, 200, (0.25, 0.5)
_SYMBOLS = 10  # come before the wait, and again after it
_LATE = 100  # lag from which on the slowest units alone are left
_FLAGS = {
    "task": "copy_memory",
    "length": 15,
    "cell": "lstm",
    "hidden_size": _SIZE,
    "batch_size": 50,
    "optimizer": "adam",
    "learning_rate": 2e-3,
    "clip_norm": 1.0,
    "eval_every": 100,
    "eval_size": 200,
    "gradient_every": 0,
    "steps_per_call": 50,
}


class _Setting(NamedTuple):
    """A fresh LSTM, `[time, input]` of the copy task, and a loss on its last output."""

    cell: Cell[Any, Any]
    params: cells.LSTMParams
    xs: jax.Array
    loss: Callable[[jax.Array], jax.Array]


def measure(folder: Path, full: bool) -> Result:
    """Compares averages over random stops with theory, then trains with and without."""
    seeds = range(5 if full else 1)
    flags = _FLAGS | {"num_steps": 6000 if full else 2000}
    runs = train(
        folder,
        {
            f"rate_{rate}_{seed}": flags | {"h_detach": rate, "seed": seed}
            for rate in (0.0, *_RATES[1:])
            for seed in seeds
        },
        full=full,
    )
    by_rate = {
        rate: [runs[f"rate_{rate}_{seed}"] for seed in seeds]
        for rate in (0.0, *_RATES[1:])
    }
    baseline = runs["rate_0.0_0"].task["baseline_loss"]
    values = _averages(20_000 if full else 4000)
    curves, slowest = _curves(16 if full else 4)
    slopes = {name: fit(jnp.asarray(rows)).mean for name, rows in curves.items()}
    late = fit(jnp.asarray(curves["the cell alone"][:, :-_LATE])).mean
    values |= {
        "slope_all_paths": slopes["all paths"],
        "slope_stopped_at_half": slopes[_stopped(0.5)],
        "slope_cell_alone": slopes["the cell alone"],
        "cell_alone_beyond_slowest_gate": late - float(slowest.mean()),
    }
    for rate, found in by_rate.items():
        name = f"loss_over_baseline_{rate:g}".replace(".", "_")
        losses = [summarise(run).loss for run in found]
        values[name] = float(np.median(losses)) / baseline
    return Result(values, _pictures(folder, curves, by_rate, baseline))


def _setting(key: jax.Array, wait: int) -> _Setting:
    params_key, inputs_key, direction_key = jax.random.split(key, 3)
    task = tasks.copy_memory(wait)
    cell = cells.lstm(task.input_size, _SIZE)
    direction = jax.random.normal(direction_key, (_SIZE,))
    xs = task.sample(inputs_key).inputs
    return _Setting(cell, cell.init(params_key), xs, lambda ys: ys[-1] @ direction)


def _weakened(cell: Cell[Any, Any], rate: float) -> Cell[Any, Any]:
    """Returns the cell with gradients through h times 1 − rate, and equal values."""

    def step(params: Any, carry: Any, x: Any) -> Any:
        constant = jax.lax.stop_gradient(carry.hidden)
        hidden = (1 - rate) * carry.hidden + rate * constant
        return cell.step(params, carry._replace(hidden=hidden), x)

    return Cell(init=cell.init, initial_carry=cell.initial_carry, step=step)


def _averages(num_draws: int) -> dict[str, float]:
    """Holds the mean gradient over random stops against that of the weakened path.

    Both are gradients of the loss with respect to the first carry, over 25 steps. The
    error is in units of the mean's standard error.
    """
    cell, params, xs, loss = _setting(jax.random.key(0), 5)
    start = cell.initial_carry(params)

    def exact(rate: float) -> Any:
        gradients = carry_gradients(_weakened(cell, rate), params, xs, loss, start)
        scale = jnp.exp(gradients.log_norm[0])
        return jax.tree.map(lambda leaf: leaf[0] * scale, gradients.direction)

    def draw(rate: float, key: jax.Array) -> Any:
        stopped = h_detach(cell, rate)
        return jax.grad(lambda c: loss(unroll(stopped, params, xs, c, key=key)[1]))(
            start
        )

    values = {}
    for rate in _RATES:
        keys = jax.random.split(jax.random.key(1), num_draws)
        drawn = jax.jit(jax.vmap(lambda key, rate=rate: draw(rate, key)))(keys)
        mean = jax.tree.map(lambda leaf: leaf.mean(0), drawn)
        error = norm(jax.tree.map(lambda leaf: leaf.std(0), drawn)) / num_draws**0.5
        name = f"{rate:g}".replace(".", "_")
        for words, other in (("", rate), ("_from_all_paths", 0.0)):
            gap = jax.tree.map(jnp.subtract, mean, exact(other))
            values[f"mean_error{words}_{name}"] = float(norm(gap) / error)
    return values


def _curves(num_networks: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Follows the mean gradient of c at several rates.

    Returns:
      ln of its norm by rate, `[network, time+1]`, and the mean ln f of each network's
      slowest unit in the wait, `[network]`.
    """

    def one(key: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        cell, params, xs, loss = _setting(key, _WAIT)
        curves = {"all paths": log_gradient_norms(cell, params, xs, loss).parts.cell}
        for rate in _RATES:
            norms = log_gradient_norms(_weakened(cell, rate), params, xs, loss)
            curves[_stopped(rate)] = norms.parts.cell
        curves["the cell alone"] = path_split(cell, params, xs, loss).log_cell
        gates = gate_timescales(cell, params, xs[_SYMBOLS:_WAIT])
        return curves, jnp.max(gates.mean_log_factor)

    keys = jax.random.split(jax.random.key(2), num_networks)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys))


def _stopped(rate: float) -> str:
    return f"stopped at {rate:.0%} of the steps"


def _pictures(
    folder: Path,
    curves: dict[str, np.ndarray],
    by_rate: dict[float, list[RunData]],
    baseline: float,
) -> list[Picture]:
    shown = {name: by_lag(rows, relative=True) for name, rows in curves.items()}
    paths = draw_log_norms(
        shown, over="lag", label="norm of the gradient of c / at lag 0"
    )
    losses = {
        "all paths" if rate == 0 else _stopped(rate): [
            Curve(*run.series("valid", "loss")) for run in runs
        ]
        for rate, runs in by_rate.items()
    }
    lines = {"guess without memory": baseline}
    panel = Panel("cross-entropy (nats)", losses, lines, log=True)
    return [
        Picture(
            style.save(paths, folder / "paths.png"),
            "The mean gradient of an LSTM whose hidden path is stopped at random",
            "At initialisation, from a loss on the last output. The path through h "
            "adds to the reach of the gradient here: with stops, the mean gradient "
            "fades about as fast as the forget gate alone makes it fade. Whether that "
            "helps is another question, below.",
        ),
        Picture(
            style.save(draw_learning([panel]), folder / "copy.png"),
            "Copying over a wait of 15 steps with and without stops",
            "The loss on validation sequences. Stops act on the gradient in training "
            "alone; few seeds of a short wait do not say which is better.",
        ),
    ]
