"""The frameworks on JAX, each used as its documentation shows.

A function returns the layer for a kind of cell, or None where the framework has no
such cell. A layer takes inputs of any number of steps. Frameworks are imported where
they are used: one that nobody asked for need not be installed.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType

from experiments.benchmarks.options import Plan, Shape
from experiments.benchmarks.work import Model, PyTree
from seqjax import cells, unroll

NOTES = {
    "torch": "torch has two biases where the others have one, and is not compiled",
    "haiku": "Haiku's GRU resets before the recurrent product; it has no tanh cell",
    "equinox": "Equinox has no Elman cell",
}


def seqjax(
    kind: str,
    shape: Shape,
    method: str,
    num_devices: int = 1,
    product_dtype: str = "float32",
) -> Model:
    """A seqjax cell under `unroll`.

    Args:
      kind: name of the cell.
      shape: size of the work.
      method: how to unroll.
      num_devices: devices over which the batch is spread.
      product_dtype: of the operands of products.
    """
    rounded = None if product_dtype == "float32" else product_dtype
    cell = cells.CELLS[kind](shape.input, shape.hidden)

    def apply(params: PyTree, xs: jax.Array) -> tuple[jax.Array, jax.Array]:
        carry, ys = unroll(cell, params, xs, method=method, product_dtype=rounded)
        return carry.hidden, ys

    mesh = None
    if num_devices > 1:
        mesh = jax.make_mesh((num_devices,), ("batch",), (AxisType.Auto,))
    return Model(cell.init(jax.random.key(0)), apply, mesh)


def linen(kind: str, shape: Shape) -> Model:
    """`flax.linen.RNN`."""
    import flax.linen as nn

    cell = {
        "lstm": nn.OptimizedLSTMCell,
        "gru": nn.GRUCell,
        "elman": nn.SimpleCell,
    }[kind](shape.hidden)
    layer: Any = nn.RNN(cell, return_carry=True)

    def apply(params: PyTree, xs: jax.Array) -> tuple[jax.Array, jax.Array]:
        carry, ys = layer.apply(params, xs)
        return carry[1] if kind == "lstm" else carry, ys

    return Model(layer.init(jax.random.key(0), _one_step(shape)), apply)


def nnx(kind: str, shape: Shape) -> Model:
    """`flax.nnx.RNN`, split into its parameters and the rest."""
    from flax import nnx as flax_nnx

    cell = {
        "lstm": flax_nnx.OptimizedLSTMCell,
        "gru": flax_nnx.GRUCell,
        "elman": flax_nnx.SimpleCell,
    }[kind](shape.input, shape.hidden, rngs=flax_nnx.Rngs(0))
    layer = flax_nnx.RNN(cell, return_carry=True)
    graph, params, rest = flax_nnx.split(layer, flax_nnx.Param, ...)

    def apply(params: PyTree, xs: jax.Array) -> tuple[jax.Array, jax.Array]:
        merged: Any = flax_nnx.merge(graph, params, rest)
        # Random numbers of its own: those of the layer cannot count inside jit.
        carry, ys = merged(xs, rngs=flax_nnx.Rngs(0))
        return carry[1] if kind == "lstm" else carry, ys

    return Model(params, apply)


def equinox(kind: str, shape: Shape) -> Model | None:
    """An Equinox cell under `jax.lax.scan` and `jax.vmap`, as it has no layer."""
    import equinox as eqx

    factories = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}
    if kind not in factories:
        return None
    cell = factories[kind](shape.input, shape.hidden, key=jax.random.key(0))
    params, static = eqx.partition(cell, eqx.is_array)
    zeros = jnp.zeros(shape.hidden)

    def apply(params: PyTree, xs: jax.Array) -> tuple[jax.Array, jax.Array]:
        cell = eqx.combine(params, static)

        def step(state: PyTree, x: jax.Array) -> tuple[PyTree, jax.Array]:
            state = cell(x, state)
            return state, state[0] if kind == "lstm" else state

        def run(xs: jax.Array) -> tuple[jax.Array, jax.Array]:
            start = (zeros, zeros) if kind == "lstm" else zeros
            state, ys = jax.lax.scan(step, start, xs)
            return state[0] if kind == "lstm" else state, ys

        return jax.vmap(run)(xs)

    return Model(params, apply)


def haiku(kind: str, shape: Shape) -> Model | None:
    """`haiku.dynamic_unroll`."""
    import haiku as hk

    factories = {"lstm": hk.LSTM, "gru": hk.GRU}
    if kind not in factories:
        return None

    def layer(xs: jax.Array) -> tuple[jax.Array, jax.Array]:
        core = factories[kind](shape.hidden)
        start = core.initial_state(shape.batch)
        unrolled: Any = hk.dynamic_unroll(core, xs, start, time_major=False)
        ys, state = unrolled
        return state.hidden if kind == "lstm" else state, ys

    pure = hk.without_apply_rng(hk.transform(layer))
    return Model(pure.init(jax.random.key(0), _one_step(shape)), pure.apply)


def keras(kind: str, shape: Shape) -> Model:
    """A Keras layer with JAX as its backend."""
    import keras as keras_api

    layers = keras_api.layers
    factory = {"lstm": layers.LSTM, "gru": layers.GRU, "elman": layers.SimpleRNN}[kind]
    layer: Any = factory(shape.hidden, return_sequences=True, return_state=True)
    layer.build((shape.batch, None, shape.input))
    others = [variable.value for variable in layer.non_trainable_variables]

    def apply(params: PyTree, xs: jax.Array) -> tuple[jax.Array, jax.Array]:
        (ys, final, *_), _ = layer.stateless_call(params, others, xs)
        return final, ys

    return Model([variable.value for variable in layer.trainable_variables], apply)


_MODELS: Mapping[str, Callable[[str, Shape], Model | None]] = {
    "linen": linen,
    "nnx": nnx,
    "equinox": equinox,
    "haiku": haiku,
    "keras": keras,
}


def models(plan: Plan, kind: str, shape: Shape) -> dict[str, Model]:
    """Returns every layer on JAX that a plan asks for, by the name of its row.

    The first is the one that the others are compared with.
    """
    devices = [1, plan.host_devices] if shape.batch % plan.host_devices == 0 else [1]
    built: dict[str, Model | None] = {
        seqjax_name(*own): seqjax(kind, shape, *own)
        for own in itertools.product(
            plan.methods, dict.fromkeys(devices), plan.product_dtypes
        )
    }
    built |= {
        peer: _MODELS[peer](kind, shape) for peer in plan.peers if peer in _MODELS
    }
    return {name: model for name, model in built.items() if model is not None}


def seqjax_name(
    method: str, num_devices: int = 1, product_dtype: str = "float32"
) -> str:
    """Names a row: the default, in float32 on one device, is plain `seqjax`."""
    name = "seqjax" if method == "auto" else f"seqjax {method}"
    name = name if num_devices == 1 else f"{name}, {num_devices} devices"
    return name if product_dtype == "float32" else f"{name}, {product_dtype}"


def _one_step(shape: Shape) -> jax.Array:
    """Inputs that make the parameters known; initialising runs the layer."""
    return jnp.zeros((shape.batch, 1, shape.input))
