"""Gradient curves of untrained cells, the raw material of several studies."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.laboratory.norm_curves import sequence_norms
from seqjax.cell import Cell
from seqjax.gradients import LogNorms, decay_rate
from seqjax.initializers import symmetric_uniform


class Rate(NamedTuple):
    """The decay of several curves together.

    Attributes:
      mean: of the rates, nats per step of lag; negative means vanishing.
      spread: standard deviation of the rates over the curves.
      half_life: steps in which the norm halves at the mean rate; inf for none.
    """

    mean: float
    spread: float
    half_life: float


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def terminal_norms(
    cell: Cell[Any, Any],
    key: jax.Array,
    draw_inputs: Callable[[jax.Array], jax.Array],
    num_networks: int,
) -> LogNorms:
    """Measures how a loss on the last output reaches back, in fresh networks.

    The loss is the projection of the last output on a random direction. Every network
    has its own parameters, inputs and direction.

    Args:
      cell: the cell.
      key: of all draws.
      draw_inputs: gives one sequence of inputs, `[time, input]`.
      num_networks: how many networks.

    Returns:
      ln ‖dL/d carryₜ‖, leaves `[network, time+1]`.
    """

    def one(key: jax.Array) -> LogNorms:
        params_key, inputs_key, direction_key = jax.random.split(key, 3)
        params, xs = cell.init(params_key), draw_inputs(inputs_key)
        return sequence_norms(cell, params, xs, direction_key, "last")

    return jax.vmap(one)(jax.random.split(key, num_networks))


def fit(curves: jax.Array) -> Rate:
    """Fits the decay of curves `[network, time+1]`, without a tenth at either end."""
    rates = np.asarray(jax.vmap(decay_rate)(curves).rate, float)
    mean = float(rates.mean())
    return Rate(mean, float(rates.std()), math.log(2) / abs(mean) if mean else math.inf)


def uniform(hidden_size: int) -> dict[str, Any]:
    """Returns the options that draw all kernels from U(−1/√n, 1/√n), biases zero."""
    draw = symmetric_uniform(1 / math.sqrt(hidden_size))
    return {
        "kernel_init": draw,
        "recurrent_kernel_init": draw,
        "bias_init": jax.nn.initializers.zeros,
    }
