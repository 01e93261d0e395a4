"""Every framework does the same work: outputs and gradients with copied weights."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import compare, peers, torch_peer
from experiments.benchmarks.options import KINDS, METHODS, STUDIES, Plan, Shape
from experiments.benchmarks.work import LOSSES, Model, Work, compile_pass, inputs
from seqjax import cells, unroll
from tests import converters
from tests.helpers import assert_trees_close, implicit_promotion, random_like

ROOT = Path(__file__).parents[3]
SHAPE = Shape(batch=3, time=6, input=2, hidden=5)

# Sums of up to 15 products of order 1 over 6 steps, rounded to 6e-8.
FLOAT32 = {"rtol": 3e-6, "atol": 2e-6}


def lstm_from_nnx(params: Any) -> cells.LSTMParams:
    dense_i, dense_h = params["cell"]["dense_i"], params["cell"]["dense_h"]
    return cells.LSTMParams(
        dense_i["kernel"][...], dense_h["kernel"][...], dense_h["bias"][...]
    )


def gru_from_nnx(params: Any) -> cells.GRUParams:
    dense_i, dense_h = params["cell"]["dense_i"], params["cell"]["dense_h"]
    return cells.GRUParams(
        dense_i["kernel"][...],
        dense_h["kernel"][...],
        dense_i["bias"][...],
        jnp.zeros(SHAPE.hidden),
    )


def elman_from_nnx(params: Any) -> cells.ElmanParams:
    dense_i, dense_h = params["cell"]["dense_i"], params["cell"]["dense_h"]
    return cells.ElmanParams(
        dense_i["kernel"][...], dense_h["kernel"][...], dense_i["bias"][...]
    )


def linen_cell(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda params: convert(params["params"]["cell"])


CONVERTERS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("linen", "lstm"): linen_cell(converters.lstm_from_linen),
    ("linen", "gru"): linen_cell(converters.gru_from_linen),
    ("linen", "elman"): linen_cell(converters.elman_from_linen),
    ("nnx", "lstm"): lstm_from_nnx,
    ("nnx", "gru"): gru_from_nnx,
    ("nnx", "elman"): elman_from_nnx,
    ("equinox", "lstm"): converters.lstm_from_equinox,
    ("equinox", "gru"): converters.gru_from_equinox,
    ("haiku", "lstm"): converters.lstm_from_haiku,
    ("haiku", "gru"): converters.gru_from_haiku,
    ("keras", "lstm"): converters.lstm_from_keras,
    ("keras", "gru"): converters.gru_from_keras,
    ("keras", "elman"): converters.elman_from_keras,
}


def our_cell(peer: str, kind: str) -> Any:
    options = {"reset_after": False} if (peer, kind) == ("haiku", "gru") else {}
    return cells.CELLS[kind](SHAPE.input, SHAPE.hidden, **options)


def plan(**changes: Any) -> Plan:
    entries: dict[str, Any] = {
        "study": "speed",
        "shapes": (SHAPE,),
        "kinds": KINDS,
        "peers": STUDIES["speed"].peers,
    }
    return Plan(**entries | changes)


def build(peer: str, kind: str, shape: Shape = SHAPE) -> Model | None:
    with implicit_promotion():
        return peers.models(plan(peers=(peer,)), kind, shape).get(peer)


@pytest.mark.parametrize(("peer", "kind"), CONVERTERS)
def test_a_layer_on_jax_computes_the_cell_of_its_kind(peer: str, kind: str) -> None:
    model = build(peer, kind)
    assert model is not None
    params = random_like(model.params, seed=1)
    xs = jnp.asarray(inputs(SHAPE))
    with implicit_promotion():
        final, ys = jax.jit(model.apply)(params, xs)
    cell = our_cell(peer, kind)
    _, expected = unroll(cell, CONVERTERS[peer, kind](params), xs)
    assert_trees_close(ys, expected, **FLOAT32)
    assert_trees_close(final, ys[:, -1])


def test_only_missing_cells_are_left_out() -> None:
    built = {
        (peer, kind)
        for kind in KINDS
        for peer in STUDIES["memory"].peers
        if build(peer, kind) is not None
    }
    assert built == set(CONVERTERS)


@pytest.mark.parametrize("peer", STUDIES["memory"].peers)
def test_a_layer_takes_any_number_of_steps(peer: str) -> None:
    model = build(peer, "lstm")
    assert model is not None
    longer = jax.ShapeDtypeStruct((SHAPE.batch, 40, SHAPE.input), jnp.float32)
    with implicit_promotion():
        final, ys = jax.eval_shape(model.apply, model.params, longer)
    assert ys.shape == (SHAPE.batch, 40, SHAPE.hidden)
    assert final.shape == (SHAPE.batch, SHAPE.hidden)


@pytest.mark.parametrize("kind", KINDS)
def test_torch_computes_the_cell_of_its_kind(kind: str) -> None:
    tensors = dict(torch_peer.torch_layer(kind, SHAPE).named_parameters())
    params = converters.from_torch(tensors, "l0")
    cell = cells.CELLS[kind](SHAPE.input, SHAPE.hidden)
    _, ys = unroll(cell, params, jnp.asarray(inputs(SHAPE)))
    for pass_name in ("forward", "backward"):
        work = torch_peer.torch_work(kind, SHAPE, pass_name)
        loss: Any = work.run()
        # A mean of 90 squares.
        np.testing.assert_allclose(loss.item(), jnp.mean(ys**2), rtol=3e-6)
        assert loss.requires_grad == (pass_name == "backward")
        assert work.num_params == sum(tensor.numel() for tensor in tensors.values())
        assert work.compiled is None


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("method", METHODS)
def test_compiled_passes_are_loss_and_gradient(method: str, loss: str) -> None:
    model = peers.seqjax("lstm", SHAPE, method)
    xs = jnp.asarray(inputs(SHAPE))

    def value(params: Any) -> jax.Array:
        _, ys = unroll(cells.lstm(SHAPE.input, SHAPE.hidden), params, xs)
        chosen = ys if loss == "all outputs" else ys[:, -1]
        return jnp.mean(jnp.square(chosen))

    expected, gradient = jax.value_and_grad(value)(model.params)
    forward = compile_pass(model, SHAPE, "forward", LOSSES[loss])
    assert_trees_close(forward.program(model.params, xs), expected, **FLOAT32)
    backward = compile_pass(model, SHAPE, "backward", LOSSES[loss])
    results = backward.program(model.params, xs)
    assert_trees_close(results, (expected, gradient), **FLOAT32)
    assert backward.seconds > 0
    num_params = 4 * SHAPE.hidden * (SHAPE.input + SHAPE.hidden + 1)
    assert backward.arguments == 4 * (num_params + xs.size)
    assert backward.temporaries > 0


def test_works_are_alike_and_named_by_framework_and_method() -> None:
    few = plan(peers=("torch", "linen"), methods=("auto", "checkpoint"))
    built = compare.works(few, "gru", SHAPE, "forward")
    assert list(built) == ["seqjax", "seqjax checkpoint", "linen", "torch"]
    compare.check_alike(built, SHAPE)
    bad = Work(run=lambda: None, num_params=1, output_shape=(6, 3, 5), compiled=None)
    with pytest.raises(ValueError, match=r"odd: expected .*\[3, 6, 5\].*\[6, 3, 5\]"):
        compare.check_alike(built | {"odd": bad}, SHAPE)


TWO_DEVICES = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
from experiments.benchmarks import peers
from experiments.benchmarks.options import Shape
from experiments.benchmarks.work import jax_work
shape = Shape(batch=4, time=5, input=2, hidden=3)
for method in ("auto", "checkpoint"):
    for name in ("forward", "backward"):
        one, two = (
            jax_work(peers.seqjax("lstm", shape, method, n), shape, name).run()
            for n in (1, 2)
        )
        pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
        print(max(float(abs(jax.device_get(a) - jax.device_get(b)).max())
                  for a, b in pairs), len(jax.tree.leaves(two)[0].sharding.device_set))
"""


def test_spreading_the_batch_over_devices_changes_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [devices for _, devices in lines] == ["2"] * 4
    # Gradients below 0.1, rounded to 6e-8 of that in another order of summation.
    assert max(float(difference) for difference, _ in lines) < 1e-8
