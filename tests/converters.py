"""Weights of other frameworks as seqjax params.

Gate orders: torch, Keras, Flax, Equinox i f g o; Haiku i g f o; torch, Equinox r z n;
Keras z r n; Haiku z r n with z of the other polarity.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from seqjax import cells
from seqjax.combinators import Both

PyTree = Any


def nest(
    make: Callable[[int, int], PyTree], num_layers: int, bidirectional: bool
) -> PyTree:
    """Arranges `make(layer, direction)` as stacked, bidirectional cells hold it."""
    layers = tuple(
        Both(make(k, 0), make(k, 1)) if bidirectional else make(k, 0)
        for k in range(num_layers)
    )
    return layers if num_layers > 1 else layers[0]


def permute(a: jax.Array, order: Sequence[int]) -> jax.Array:
    """Reorders the gate blocks along the last axis."""
    blocks = jnp.split(a, len(order), axis=-1)
    return jnp.concatenate([blocks[k] for k in order], axis=-1)


def from_torch(
    tensors: Mapping[str, Any], suffix: str, biases: tuple[str, ...] = ("ih", "hh")
) -> cells.ElmanParams | cells.LSTMParams | cells.GRUParams:
    """One layer and direction (`suffix` is `l0`, `l0_reverse`, ...) of a torch module.

    Args:
        tensors: Weights or their gradients by name.
        suffix: Of the names.
        biases: Which of the two biases of each gate to add up.
    """
    arrays = {
        name: jnp.asarray(tensors[f"{name}_{suffix}"].detach().numpy())
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    kernel, recurrent_kernel = arrays["weight_ih"].T, arrays["weight_hh"].T
    units = kernel.shape[1]
    bias = sum(
        (arrays[f"bias_{name}"] for name in biases), jnp.zeros(units, kernel.dtype)
    )
    projection = tensors.get(f"weight_hr_{suffix}")
    if projection is not None:
        projection = jnp.asarray(projection.detach().numpy()).T
        return cells.LSTMParams(kernel, recurrent_kernel, bias, None, projection)
    num_gates = units // recurrent_kernel.shape[0]
    if num_gates == 1:
        return cells.ElmanParams(kernel, recurrent_kernel, bias)
    if num_gates == 4:
        return cells.LSTMParams(kernel, recurrent_kernel, bias)
    gates = units * 2 // 3
    # The reset gate stands between the two biases of n.
    bias = jnp.concatenate([bias[:gates], arrays["bias_ih"][gates:]])
    return cells.GRUParams(kernel, recurrent_kernel, bias, arrays["bias_hh"][gates:])


def elman_from_keras(weights: Sequence[jax.Array]) -> cells.ElmanParams:
    return cells.ElmanParams(*weights)


def lstm_from_keras(weights: Sequence[jax.Array]) -> cells.LSTMParams:
    kernel, recurrent_kernel, bias = weights
    return cells.LSTMParams(kernel, recurrent_kernel, bias)


def gru_from_keras(weights: Sequence[jax.Array]) -> cells.GRUParams:
    kernel, recurrent_kernel, bias = (permute(w, (1, 0, 2)) for w in weights)
    if bias.ndim == 1:
        return cells.GRUParams(kernel, recurrent_kernel, bias, None)
    size = recurrent_kernel.shape[0]
    gates = bias[0] + bias[1]
    both = jnp.concatenate([gates[: 2 * size], bias[0, 2 * size :]])
    return cells.GRUParams(kernel, recurrent_kernel, both, bias[1, 2 * size :])


def elman_from_linen(params: PyTree) -> cells.ElmanParams:
    return cells.ElmanParams(
        params["i"]["kernel"], params["h"]["kernel"], params["i"]["bias"]
    )


def lstm_from_linen(params: PyTree) -> cells.LSTMParams:
    def fused(part: str, name: str) -> jax.Array:
        return jnp.concatenate([params[part + gate][name] for gate in "ifgo"], axis=-1)

    return cells.LSTMParams(
        fused("i", "kernel"), fused("h", "kernel"), fused("h", "bias")
    )


def gru_from_linen(params: PyTree) -> cells.GRUParams:
    def fused(part: str, name: str) -> jax.Array:
        return jnp.concatenate([params[part + gate][name] for gate in "rzn"], axis=-1)

    return cells.GRUParams(
        fused("i", "kernel"),
        fused("h", "kernel"),
        fused("i", "bias"),
        params["hn"]["bias"],
    )


def elman_from_haiku(params: PyTree) -> cells.ElmanParams:
    into, across = (params[f"vanilla_rnn/{name}"] for name in ("linear", "linear_1"))
    return cells.ElmanParams(into["w"], across["w"], into["b"] + across["b"])


def lstm_from_haiku(params: PyTree) -> cells.LSTMParams:
    linear = params["lstm/linear"]
    kernel, bias = (permute(linear[name], (0, 2, 1, 3)) for name in ("w", "b"))
    size = bias.shape[0] // 4
    # Haiku adds 1 to the forget gate in its code.
    bias = bias.at[size : 2 * size].add(1)
    return cells.LSTMParams(kernel[:-size], kernel[-size:], bias)


def gru_from_haiku(params: PyTree) -> cells.GRUParams:
    # Haiku's z replaces the past: σ(−a) = 1 − σ(a).
    def converted(a: jax.Array) -> jax.Array:
        z, r, n = jnp.split(a, 3, axis=-1)
        return jnp.concatenate([r, -z, n], axis=-1)

    gru = params["gru"]
    return cells.GRUParams(
        converted(gru["w_i"]), converted(gru["w_h"]), converted(gru["b"]), None
    )


def lstm_from_equinox(cell: Any) -> cells.LSTMParams:
    return cells.LSTMParams(cell.weight_ih.T, cell.weight_hh.T, cell.bias)


def gru_from_equinox(cell: Any) -> cells.GRUParams:
    return cells.GRUParams(cell.weight_ih.T, cell.weight_hh.T, cell.bias, cell.bias_n)
