"""What truncated back-propagation throws away."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.pictures import style
from experiments.pictures.rates import draw_lost_shares
from experiments.studies.kit.curves import uniform
from experiments.studies.kit.study import Picture, Result
from seqjax import cells, initializers, tasks
from seqjax.cell import Cell
from seqjax.gradients import gradient_shares, truncation_error

_EIGENVALUE, _SIZE, _LENGTH, _MAX_LAG = 0.98, 64, 1000, 2000
_WINDOWS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_LABELS = {
    "linear": f"linear, λ = {_EIGENVALUE}",
    "tanh": "tanh, orthogonal",
    "gru": "GRU",
    "lstm": "LSTM, forget bias 1",
    "lstm_chrono": "LSTM, chrono",
}


def measure(folder: Path, full: bool) -> Result:
    """Splits the gradient of a loss on the last output by the lag it comes from."""
    lost = {
        name: _lost(cell, jax.random.key(0), 16 if full else 4)
        for name, cell in _cells().items()
    }
    lost["linear"] = _lost_linear()
    np.savez(folder / "lost.npz", allow_pickle=False, windows=_WINDOWS, **lost)
    exact = _EIGENVALUE ** np.asarray(_WINDOWS, float)
    hundred = _WINDOWS.index(100)
    values = {
        "linear_lost_beyond_100": float(lost["linear"][hundred]),
        "linear_error": float(np.max(np.abs(lost["linear"] - exact))),
        "linear_truncation_error": _truncation(),
        **{
            f"{name}_lost_beyond_100": float(lost[name][hundred])
            for name in _LABELS
            if name != "linear"
        },
    }
    shown = {label: lost[name] for name, label in _LABELS.items()}
    figure = draw_lost_shares(_WINDOWS, shown)
    picture = Picture(
        style.save(figure, folder / "tbptt_bias.png"),
        "The share of the gradient that truncation loses",
        "Networks at initialisation, the loss on the last of a thousand steps. For a "
        "linear recurrence the share is λ to the power of the window. A cell that "
        "forgets loses nothing that it had; one built to remember loses most of its "
        "gradient to a window of a hundred steps.",
    )
    return Result(values, [picture])


def _cells() -> dict[str, Cell[Any, Any]]:
    options = uniform(_SIZE)
    orthogonal: dict[str, Any] = {"recurrent_kernel_init": initializers.orthogonal()}
    return {
        "tanh": cells.elman(2, _SIZE, **options | orthogonal),
        "gru": cells.gru(2, _SIZE, **options),
        "lstm": cells.lstm(2, _SIZE, forget_bias=1.0, **options),
        "lstm_chrono": cells.lstm(2, _SIZE, max_lag=_MAX_LAG, **options),
    }


def _beyond(projections: jax.Array) -> np.ndarray:
    """Adds up the shares at and beyond every window, from `[..., window+1]`."""
    rows = np.asarray(projections, float).reshape(-1, len(_WINDOWS) + 1)
    later = np.cumsum(rows[:, :0:-1], axis=1)[:, ::-1]
    return np.abs(later.mean(0))


@functools.partial(jax.jit, static_argnums=(0, 2))
def _projections(cell: Cell[Any, Any], key: jax.Array, num_networks: int) -> jax.Array:
    def one(key: jax.Array) -> jax.Array:
        params_key, inputs_key, direction_key = jax.random.split(key, 3)
        direction = jax.random.normal(direction_key, (_SIZE,))
        return gradient_shares(
            cell,
            cell.init(params_key),
            tasks.adding(_LENGTH).sample(inputs_key).inputs,
            lambda ys: ys[-1] @ direction,
            edges=_WINDOWS,
            anchors=jnp.array([_LENGTH - 1]),
        ).projections

    return jax.vmap(one)(jax.random.split(key, num_networks))


def _lost(cell: Cell[Any, Any], key: jax.Array, num_networks: int) -> np.ndarray:
    return _beyond(_projections(cell, key, num_networks))


def _linear() -> tuple[Cell[Any, Any], cells.ElmanParams, jax.Array, cells.ElmanCarry]:
    """h′ = λ h + x with x = 1, from its fixed point."""
    cell = cells.elman(1, 1, activation="identity")
    kernel = jnp.full((1, 1), _EIGENVALUE)
    params = cells.ElmanParams(jnp.ones((1, 1)), kernel, jnp.zeros(1))
    start = cells.ElmanCarry(jnp.full(1, 1 / (1 - _EIGENVALUE)))
    return cell, params, jnp.ones((2 * _LENGTH, 1)), start


def _lost_linear() -> np.ndarray:
    cell, params, xs, start = _linear()
    anchors = jnp.array([2 * _LENGTH - 1])
    shares = gradient_shares(
        cell, params, xs, _last, edges=_WINDOWS, anchors=anchors, carry=start
    )
    return _beyond(shares.projections)


def _truncation() -> float:
    """Holds a window of 100 steps of `unroll` against λ^100."""
    cell, params, xs, start = _linear()
    errors = truncation_error(cell, params, xs, _last, [100], start).relative_error
    return abs(float(errors[0]) - _EIGENVALUE**100)


def _last(ys: jax.Array) -> jax.Array:
    return ys[-1, 0]
