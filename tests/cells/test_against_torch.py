"""Outputs, final states and every gradient of torch.nn.RNN, LSTM and GRU."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from seqjax import cells, unroll
from seqjax.combinators import bidirectional, stack
from tests.converters import from_torch, nest
from tests.helpers import assert_trees_close, random_like, value_and_grads

BATCH_SIZE, NUM_STEPS, INPUT_SIZE, HIDDEN_SIZE, PROJECTION_SIZE = 3, 6, 3, 5, 2
LENGTHS = (4, 6, 1)


class Kind(NamedTuple):
    """A factory with its options, and those of the torch module."""

    factory: Any
    options: dict[str, Any]
    module: Any
    module_options: dict[str, Any]


KINDS = {
    "tanh": Kind(cells.elman, {}, torch.nn.RNN, {}),
    "relu": Kind(
        cells.elman, {"activation": "relu"}, torch.nn.RNN, {"nonlinearity": "relu"}
    ),
    "lstm": Kind(cells.lstm, {}, torch.nn.LSTM, {}),
    "projection": Kind(
        cells.lstm,
        {"projection_size": PROJECTION_SIZE},
        torch.nn.LSTM,
        {"proj_size": PROJECTION_SIZE},
    ),
    "gru": Kind(cells.gru, {}, torch.nn.GRU, {}),
}


class Net(NamedTuple):
    num_layers: int
    bidirectional: bool


NETS = {
    "single": Net(1, False),
    "layers3": Net(3, False),
    "bidirectional": Net(1, True),
    "bidirectional_layers2": Net(2, True),
}


def _cell(kind: Kind, net: Net, dtype: Any):
    output_size = kind.options.get("projection_size", HIDDEN_SIZE)
    layers, input_size = [], INPUT_SIZE
    for _ in range(net.num_layers):
        layer = kind.factory(input_size, HIDDEN_SIZE, dtype=dtype, **kind.options)
        layers.append(bidirectional(layer) if net.bidirectional else layer)
        input_size = output_size * (2 if net.bidirectional else 1)
    return stack(*layers) if net.num_layers > 1 else layers[0]


def _params(net: Net, tensors, biases=("ih", "hh")):
    def make(layer: int, direction: int):
        suffix = f"l{layer}_reverse" if direction else f"l{layer}"
        return from_torch(tensors, suffix, biases)

    return nest(make, *net)


def _carry(kind: Kind, net: Net, states):
    """Torch's `[layers*directions, batch, ...]` states as our carry."""
    make_carry = {
        torch.nn.RNN: cells.ElmanCarry,
        torch.nn.LSTM: cells.LSTMCarry,
        torch.nn.GRU: cells.GRUCarry,
    }[kind.module]

    def make(layer: int, direction: int):
        index = layer * (2 if net.bidirectional else 1) + direction
        return make_carry(*(_array(state[index]) for state in states))

    return nest(make, *net)


def _array(tensor: Any) -> jax.Array:
    return jnp.asarray(tensor.detach().numpy())


def _tensor(array: jax.Array) -> torch.Tensor:
    return torch.tensor(np.asarray(array))


class Torch(NamedTuple):
    """A torch module with its inputs, given as ours."""

    module: Any
    xs: torch.Tensor
    states: tuple[torch.Tensor, ...]


def _make_torch(kind: Kind, net: Net, dtype: torch.dtype) -> Torch:
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    module = kind.module(
        INPUT_SIZE,
        HIDDEN_SIZE,
        net.num_layers,
        batch_first=True,
        bidirectional=net.bidirectional,
        dtype=dtype,
        **kind.module_options,
    )
    normal = functools.partial(torch.randn, generator=generator, dtype=dtype)
    rows = net.num_layers * (2 if net.bidirectional else 1)
    widths = [kind.options.get("projection_size", HIDDEN_SIZE)]
    widths += [HIDDEN_SIZE] if kind.module is torch.nn.LSTM else []
    states = tuple(normal(rows, BATCH_SIZE, width) for width in widths)
    inputs = Torch(module, normal(BATCH_SIZE, NUM_STEPS, INPUT_SIZE), states)
    for leaf in (inputs.xs, *inputs.states):
        leaf.requires_grad_()
    return inputs


def _run_torch(inputs: Torch, lengths) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    module, xs, states = inputs
    packed: Any = xs
    if lengths is not None:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            xs, torch.tensor(lengths), batch_first=True, enforce_sorted=False
        )
    ys, final = module(packed, states if len(states) == 2 else states[0])
    if lengths is not None:
        ys, _ = torch.nn.utils.rnn.pad_packed_sequence(
            ys, batch_first=True, total_length=NUM_STEPS
        )
    return final if len(states) == 2 else (final,), ys


def _compare(kind: Kind, net: Net, lengths, dtype: str, tolerance: dict[str, float]):
    theirs = _make_torch(kind, net, getattr(torch, dtype))
    final, ys = _run_torch(theirs, lengths)
    # Weights of the loss: torch's states are compared in our layout, so draw there.
    expected = (_carry(kind, net, final), _array(ys))
    weights = random_like(expected, seed=2, scale=1.0)
    state_weights = _to_states(net, weights[0], len(final))
    loss = (ys * _tensor(weights[1])).sum()
    for state, weight in zip(final, state_weights, strict=True):
        loss = loss + (state * weight).sum()
    loss.backward()

    cell = _cell(kind, net, dtype)
    named = dict(theirs.module.named_parameters())
    known = None if lengths is None else jnp.asarray(lengths)
    results, (d_params, d_xs, d_carry) = value_and_grads(
        functools.partial(unroll, cell, lengths=known),
        _params(net, named),
        _array(theirs.xs),
        _carry(kind, net, theirs.states),
        weights,
    )
    assert_trees_close(results, expected, **tolerance)
    gradients = {name: p.grad for name, p in named.items()}
    # Both of torch's biases enter each sum, so each has our bias's gradient.
    for bias in ("ih", "hh"):
        expected = _params(net, gradients, (bias,))
        assert_trees_close(d_params, expected, **tolerance)
    assert_trees_close(d_xs, _array(theirs.xs.grad), **tolerance)
    states = [state.grad for state in theirs.states]
    assert_trees_close(d_carry, _carry(kind, net, states), **tolerance)


def _to_states(net: Net, carry, num_states: int) -> list[torch.Tensor]:
    layers = carry if net.num_layers > 1 else (carry,)
    rows = [
        row for layer in layers for row in (layer if net.bidirectional else [layer])
    ]
    return [torch.stack([_tensor(row[k]) for row in rows]) for k in range(num_states)]


# Torch says that another of its own routes will run.
pytestmark = pytest.mark.filterwarnings(
    "ignore:LSTM with projections is not supported with oneDNN:UserWarning"
)

# Sums of up to 18 products of order 1, over 6 steps and 3 layers, rounded to 6e-8.
FLOAT32 = {"rtol": 3e-6, "atol": 2e-6}


# One of the lengths is the full one, so that `lengths` compares both at once.
@pytest.mark.parametrize(
    ("net", "lengths"),
    [
        ("single", None),
        ("single", LENGTHS),
        ("layers3", None),
        ("bidirectional", LENGTHS),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_matches_torch(kind, net, lengths):
    _compare(KINDS[kind], NETS[net], lengths, "float32", FLOAT32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("x64")
def test_two_bidirectional_layers_match_torch_in_float64(kind):
    net = NETS["bidirectional_layers2"]
    _compare(KINDS[kind], net, LENGTHS, "float64", {"rtol": 1e-12, "atol": 1e-13})
