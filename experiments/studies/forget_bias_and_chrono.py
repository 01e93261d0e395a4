"""The forget gate's bias sets the slope of the backward signal of an LSTM."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.pictures import style
from experiments.pictures.curves import by_lag, draw_log_norms
from experiments.pictures.spectra import draw_exponent_curves
from experiments.studies.kit.curves import fit, terminal_norms, uniform
from experiments.studies.kit.study import Picture, Result
from seqjax import cells
from seqjax.cell import Cell
from seqjax.cells.lstm import LSTMCarry, LSTMParams
from seqjax.gradients import decay_rate, log_gradient_norms

_SIZE, _LENGTH, _MAX_LAG = 128, 2000, 2000
_BIASES = (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)


def measure(folder: Path, full: bool) -> Result:
    """Compares slopes with ln σ(b), and a constant bias with a chrono bias."""
    num_networks = 16 if full else 4
    cell = cells.lstm(1, _SIZE, forget_bias=0.0, **uniform(_SIZE))
    keys = jax.random.split(jax.random.key(0), num_networks)
    biases = jnp.asarray(_BIASES)
    slopes = np.asarray(jax.lax.map(lambda key: _slopes(cell, key, biases), keys))
    alone = np.asarray(_slopes(cell, keys[0], biases, alone=True))
    theory = -np.log1p(np.exp(-np.asarray(_BIASES)))
    chrono = cells.lstm(1, _SIZE, max_lag=_MAX_LAG, **uniform(_SIZE))
    constant = cells.lstm(1, _SIZE, forget_bias=1.0, **uniform(_SIZE))
    curves = {
        name: terminal_norms(cell, jax.random.key(1), _draw_inputs, num_networks).joint
        for name, cell in {"forget bias 1": constant, "chrono": chrono}.items()
    }
    np.savez(
        folder / "slopes.npz",
        allow_pickle=False,
        biases=biases,
        slopes=slopes,
        alone=alone,
    )
    slow = fit(curves["chrono"])
    mean = slopes.mean(0)
    values = {
        "cell_path_error": float(np.max(np.abs(alone - theory))),
        "cell_path_after_100_steps": float(np.exp(100 * alone[_BIASES.index(1)])),
        "slope_at_bias_1": float(mean[_BIASES.index(1)]),
        "slope_at_bias_5": float(mean[_BIASES.index(5)]),
        "chrono_slope": slow.mean,
        "chrono_half_life": slow.half_life,
    }
    return Result(values, _pictures(folder, slopes, alone, theory, curves))


@functools.partial(jax.jit, static_argnames=("cell", "alone"))
def _slopes(
    cell: Cell[LSTMParams, LSTMCarry],
    key: jax.Array,
    biases: jax.Array,
    alone: bool = False,
) -> jax.Array:
    """Fits the slope at every bias, `[bias]`; `alone` takes both kernels away."""
    params_key, inputs_key, direction_key = jax.random.split(key, 3)
    params = cell.init(params_key)
    if alone:
        params = jax.tree.map(jnp.zeros_like, params)
    xs = _draw_inputs(inputs_key)
    direction = jax.random.normal(direction_key, (_SIZE,))

    def one(bias: jax.Array) -> jax.Array:
        changed = params.bias.at[_SIZE : 2 * _SIZE].set(bias)
        norms = log_gradient_norms(
            cell, params._replace(bias=changed), xs, lambda ys: ys[-1] @ direction
        )
        return decay_rate(norms.parts.cell if alone else norms.joint).rate

    return jax.vmap(one)(biases)


def _draw_inputs(key: jax.Array) -> jax.Array:
    return jax.random.uniform(key, (_LENGTH, 1))


def _pictures(
    folder: Path,
    slopes: np.ndarray,
    alone: np.ndarray,
    theory: np.ndarray,
    curves: dict[str, jax.Array],
) -> list[Picture]:
    slope_figure = draw_exponent_curves(
        np.asarray(_BIASES),
        {"LSTM": slopes, "LSTM without kernels": alone},
        theory={"ln σ(b)": theory},
        parameter_label="forget bias b",
        label="slope of the gradient (nats per step of lag)",
    )
    shown = {name: by_lag(rows, relative=True) for name, rows in curves.items()}
    curve_figure = draw_log_norms(
        shown, over="lag", label="gradient norm / norm at lag 0"
    )
    return [
        Picture(
            style.save(slope_figure, folder / "slopes.png"),
            "Slope against the bias of the forget gate",
            "Through the cell alone a gradient shrinks by σ(b) per step. The paths "
            "through h and the gates add to it: below a bias of two they carry more "
            "than the cell does.",
        ),
        Picture(
            style.save(curve_figure, folder / "chrono.png"),
            "A constant bias beside the chrono initialisation",
            f"Chrono draws the biases for lags up to {_MAX_LAG:,} steps: the half-life "
            f"grows from {fit(curves['forget bias 1']).half_life:.0f} steps to "
            f"{fit(curves['chrono']).half_life:,.0f}.",
        ),
    ]
