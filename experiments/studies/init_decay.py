"""How the initialisation decides the slope of the backward signal."""

import functools
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.pictures import style
from experiments.pictures.curves import by_lag, draw_log_norms
from experiments.studies.kit.curves import fit, terminal_norms, uniform
from experiments.studies.kit.study import Picture, Result
from seqjax import cells, initializers, tasks
from seqjax.cell import Cell
from seqjax.gradients import decay_rate

_SIZE, _LENGTH, _SHOWN = 128, 2000, 601
_LABELS = {
    "tanh_uniform": "tanh, uniform",
    "tanh_gaussian": "tanh, Gaussian",
    "tanh_orthogonal": "tanh, orthogonal",
    "irnn": "ReLU, identity",
    "exprnn": "modReLU, orthogonal (expRNN)",
    "gru": "GRU",
    "lstm_bias_1": "LSTM, forget bias 1",
    "lstm_chrono": "LSTM, chrono",
}


def measure(folder: Path, full: bool) -> Result:
    """Fits the slope under every initialisation, on inputs of the adding problem."""
    num_networks = 16 if full else 4
    curves = {
        name: np.asarray(
            terminal_norms(cell, jax.random.key(1), _draw_inputs, num_networks).joint
        )
        for name, cell in _cells().items()
    }
    np.savez(folder / "log_norms.npz", allow_pickle=False, **curves)
    values = {f"{name}_slope": fit(jnp.asarray(c)).mean for name, c in curves.items()}
    values["irnn_late_slope"] = _late_slope(curves["irnn"])
    del values["irnn_slope"]
    values["lstm_chrono_half_life"] = math.log(2) / abs(values["lstm_chrono_slope"])
    shown = {
        _LABELS[name]: by_lag(rows, relative=True)[:, :_SHOWN]
        for name, rows in curves.items()
    }
    figure = draw_log_norms(shown, over="lag", label="gradient norm / norm at lag 0")
    picture = Picture(
        style.save(figure, folder / "init_decay.png"),
        "Decay of the gradient at initialisation",
        "Each line is the median over networks with 128 units, fed the adding problem; "
        "the loss looks at the last output only. The same LSTM forgets within a "
        "hundred steps or keeps its gradient over two thousand: only the biases of its "
        "gates differ.",
    )
    return Result(values, [picture])


def _cells() -> dict[str, Cell[Any, Any]]:
    """Makes the cells; kernels are from U(−1/√n, 1/√n) where nothing else is said."""
    options = uniform(_SIZE)
    elman = functools.partial(cells.elman, 2, _SIZE)
    gaussian: Any = jax.nn.initializers.normal(_SIZE**-0.5)
    orthogonal: Any = initializers.orthogonal()
    # A chrono bias replaces those of the gates f and i.
    return {
        "tanh_uniform": elman(**options),
        "tanh_gaussian": elman(**options | {"recurrent_kernel_init": gaussian}),
        "tanh_orthogonal": elman(**options | {"recurrent_kernel_init": orthogonal}),
        "irnn": cells.irnn(2, _SIZE),
        "exprnn": cells.exprnn(2, _SIZE),
        "gru": cells.gru(2, _SIZE, **options),
        "lstm_bias_1": cells.lstm(2, _SIZE, forget_bias=1.0, **options),
        "lstm_chrono": cells.lstm(2, _SIZE, max_lag=_LENGTH, **options),
    }


def _draw_inputs(key: jax.Array) -> jax.Array:
    return tasks.adding(_LENGTH).sample(key).inputs


def _late_slope(curves: np.ndarray) -> float:
    """Fits lags above 200, after units have died or have settled above zero."""
    return float(np.mean(jax.vmap(decay_rate)(jnp.asarray(curves[:, :-200])).rate))
