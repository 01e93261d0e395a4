"""Systems whose gradient flow is known exactly, as cells of three functions."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from seqjax import Cell, cells

# Rows: units of the gates i, f, g, o; columns: units of h.
_CHAOTIC = ((-1, -4), (-3, -2), (-2, 6), (0, -6), (-1, -6), (6, -9), (4, 1), (-9, -7))


def autonomous(
    start: Any, advance: Callable[[Any, Any], Any], params: Any = ()
) -> Cell[Any, Any]:
    """Makes a cell without input, whose output is its carry.

    Args:
      start: the initial carry.
      advance: `(params, carry) -> carry`.
      params: what `init` returns for any key.
    """

    def step(params: Any, carry: Any, x: jax.Array) -> tuple[Any, Any]:
        del x
        carry = advance(params, carry)
        return carry, carry

    return Cell(init=lambda key: params, initial_carry=lambda params: start, step=step)


def silence(num_steps: int) -> jax.Array:
    """Returns the inputs of an autonomous cell, `[time, 0]`."""
    return jnp.zeros((num_steps, 0))


def linear(matrix: jax.Array) -> Cell[Any, Any]:
    """Makes s′ = M s, with M `[n, n]` for its params."""
    start = jnp.ones(matrix.shape[0], matrix.dtype)
    return autonomous(start, lambda m, s: m @ s, matrix)


def random_net(size: int) -> Cell[Any, Any]:
    """Makes x′ = W tanh(x), whose params W `[n, n]` are drawn by `init`, iid N(0, 1/n).

    Multiply them with a gain g: chaotic for g > 1.
    """
    cell = autonomous(jnp.zeros(size), lambda w, x: w @ jnp.tanh(x))
    return dataclasses.replace(
        cell, init=lambda key: jax.random.normal(key, (size, size)) * size**-0.5
    )


def chaotic_lstm() -> Cell[Any, Any]:
    """Makes the two-unit LSTM of Laurent and von Brecht, chaotic without any input.

    Its params are those of an LSTM; x is `[1]` and has no weight.
    """
    cell = cells.lstm(1, 2, dtype=jnp.result_type(float))

    def init(key: jax.Array) -> cells.LSTMParams:
        params = jax.tree.map(jnp.zeros_like, cell.init(key))
        kernel = jnp.asarray(_CHAOTIC, params.recurrent_kernel.dtype).T
        return params._replace(recurrent_kernel=kernel)

    half = jnp.full(2, 0.5)
    return dataclasses.replace(
        cell, init=init, initial_carry=lambda params: cells.LSTMCarry(half, half)
    )
