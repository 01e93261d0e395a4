"""How far gradients travel in the cells of five frameworks as they come."""

import functools
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.pictures import style
from experiments.pictures.curves import by_lag, draw_log_norms
from experiments.pictures.rates import draw_half_lives
from experiments.studies.kit.curves import fit, terminal_norms
from experiments.studies.kit.study import Picture, Result
from seqjax import cells
from seqjax.cell import Cell
from seqjax.gradients import decay_rate

_INPUTS, _SIZE = 2, 128
_SHORT_LIFE = 2  # steps
# Haiku's VanillaRNN has a ReLU, and its GRU resets before the product.
_OPTIONS = {
    ("haiku", "rnn"): {"activation": "relu"},
    ("haiku", "gru"): {"reset_after": False},
}
_FRAMEWORKS = {
    "PyTorch": {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM"},
    "Flax": {"rnn": "SimpleCell", "gru": "GRUCell", "lstm": "LSTMCell"},
    "Haiku": {"rnn": "VanillaRNN", "gru": "GRU", "lstm": "LSTM"},
    "Equinox": {"gru": "GRUCell", "lstm": "LSTMCell"},
    "Keras": {"rnn": "SimpleRNN", "gru": "GRU", "lstm": "LSTM"},
}
_SHOWN = {
    "torch_rnn": "PyTorch RNN",
    "torch_lstm": "PyTorch LSTM",
    "flax_lstm": "Flax LSTMCell",
    "keras_lstm": "Keras LSTM",
    "keras_rnn": "Keras SimpleRNN",
    "haiku_lstm": "Haiku LSTM",
}
_SHOWN_LAGS = 401


def measure(folder: Path, full: bool) -> Result:
    """Fits the slope of the backward signal at initialisation."""
    num_networks, length = (16, 2000) if full else (4, 1000)
    draw_inputs = functools.partial(_draw_inputs, length=length)
    curves = {
        f"{_preset(framework)}_{kind}": np.asarray(
            terminal_norms(
                _build(framework, kind), jax.random.key(0), draw_inputs, num_networks
            ).joint
        )
        for framework, kinds in _FRAMEWORKS.items()
        for kind in kinds
    }
    np.savez(folder / "log_norms.npz", allow_pickle=False, **curves)
    fits = {name: fit(jnp.asarray(rows)) for name, rows in curves.items()}
    values = {f"{name}_slope": fitted.mean for name, fitted in fits.items()}
    lives = [fitted.half_life for fitted in fits.values()]
    values["cells_below_two_steps"] = sum(life < _SHORT_LIFE for life in lives)
    return Result(values, [_half_lives(folder, curves), _curves(folder, curves)])


def _preset(framework: str) -> str:
    return "torch" if framework == "PyTorch" else framework.lower()


def _build(framework: str, kind: str) -> Cell[Any, Any]:
    preset = _preset(framework)
    make = cells.CELLS["elman" if kind == "rnn" else kind]
    return make(_INPUTS, _SIZE, init=preset, **_OPTIONS.get((preset, kind), {}))


def _draw_inputs(key: jax.Array, length: int) -> jax.Array:
    return jax.random.normal(key, (length, _INPUTS))


def _half_lives(folder: Path, curves: dict[str, np.ndarray]) -> Picture:
    rates = {
        framework: {
            f"{framework} {name}": np.asarray(
                jax.vmap(decay_rate)(
                    jnp.asarray(curves[f"{_preset(framework)}_{kind}"])
                ).rate
            )
            for kind, name in kinds.items()
        }
        for framework, kinds in _FRAMEWORKS.items()
    }
    path = style.save(draw_half_lives(rates), folder / "half_lives.png")
    factor = math.exp(-100 * math.log(2) / _SHORT_LIFE)
    return Picture(
        path,
        "Half-life of the backward signal in the cells of five frameworks",
        "Large marks: mean rate over networks; pale marks: single networks. With a "
        f"half-life of two steps a gradient shrinks by {factor:.0e} over a hundred.",
    )


def _curves(folder: Path, curves: dict[str, np.ndarray]) -> Picture:
    shown = {
        label: by_lag(curves[name], relative=True)[:, :_SHOWN_LAGS]
        for name, label in _SHOWN.items()
    }
    figure = draw_log_norms(shown, over="lag", label="gradient norm / norm at lag 0")
    return Picture(
        style.save(figure, folder / "curves.png"),
        "The same signal against lag",
        "Straight lines are exponential decay. The two horizontal lines are where a "
        "norm, and then every entry, reads zero in float32.",
    )
