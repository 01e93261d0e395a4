"""The cells that every contract is run over: all of CELLS, options, a hand-made one."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from seqjax import Cell, cells, factory
from tests.helpers import random_like

INPUT_SIZE, HIDDEN_SIZE = 3, 4


@factory
def hand_made(input_size: int, hidden_size: int, *, dtype=jnp.float32) -> Cell:
    """Three functions and nothing declared; a carry of two shapes in a dict."""

    def init(key):
        return {"mix": jax.random.normal(key, (input_size, hidden_size), dtype)}

    def initial_carry(params):
        return {"trace": jnp.zeros(hidden_size, dtype), "count": jnp.zeros((), dtype)}

    def step(params, carry, x):
        trace = jnp.sin(x @ params["mix"] + carry["trace"] / 2 + carry["count"])
        return {"trace": trace, "count": carry["count"] + 1}, trace[:2]

    return Cell(init, initial_carry, step)


FACTORIES: Mapping[str, Callable[..., Cell]] = {
    **cells.CELLS,
    "elman_relu": functools.partial(cells.elman, activation="relu"),
    "jordan_leak": functools.partial(cells.jordan, leak=0.5, output_size=2),
    "lstm_peephole": functools.partial(cells.lstm, peephole=True),
    "lstm_coupled": functools.partial(cells.lstm, coupled=True),
    "lstm_no_forget_gate": functools.partial(cells.lstm, forget_gate=False),
    "lstm_projection": functools.partial(cells.lstm, projection_size=2),
    "lstm_layer_norm": functools.partial(cells.lstm, layer_norm=True),
    "lstm_chrono": functools.partial(cells.lstm, max_lag=20.0),
    "lstm_every_option": functools.partial(
        cells.lstm, peephole=True, coupled=True, projection_size=2, layer_norm=True
    ),
    "gru_reset_before": functools.partial(cells.gru, reset_after=False),
    "hand_made": hand_made,
}


def make(name: str, **options) -> Cell:
    return FACTORIES[name](INPUT_SIZE, HIDDEN_SIZE, **options)


AFFINE = [name for name in FACTORIES if make(name).affine is not None]


def away_from_zero(cell: Cell):
    """Params with noise on every leaf: weights that start at 0 or 1 count too."""
    params = cell.init(jax.random.key(0))
    return jax.tree.map(jnp.add, params, random_like(params, seed=7))


def one_step_case(cell: Cell, dtype=jnp.float32):
    """Params, a carry away from zero, and one x."""
    params = away_from_zero(cell)
    carry = random_like(cell.initial_carry(params), seed=8)
    return params, carry, jax.random.normal(jax.random.key(9), (INPUT_SIZE,), dtype)


def sequence_case(cell: Cell, *leading: int):
    """Params away from their initial values, and xs `[*leading, input]`."""
    params = away_from_zero(cell)
    return params, jax.random.normal(jax.random.key(10), (*leading, INPUT_SIZE))
