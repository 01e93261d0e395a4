"""What all models share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import cells, gradients, make_probes, unroll
from seqjax.combinators import stack
from seqjax.models import (
    Forecaster,
    LanguageModel,
    SequenceClassifier,
    SequenceLabeller,
    common,
)
from tests.helpers import assert_trees_close

CELL = cells.lstm(3, 4)
MODELS = {
    "classifier": lambda cell=CELL, **options: SequenceClassifier(cell, 5, **options),
    "labeller": lambda cell=CELL, **options: SequenceLabeller(cell, 5, **options),
    "forecaster": lambda cell=CELL, **options: Forecaster(cell, 5, **options),
    "language_model": lambda cell=CELL, **options: LanguageModel(
        cell, 5, embedding_size=3, **options
    ),
}
every_model = pytest.mark.parametrize("name", MODELS)


def _inputs(name, batch=(4,), num_steps=6):
    shape = (*batch, num_steps)
    if name == "language_model":
        return jax.random.randint(jax.random.key(0), shape, 0, 5)
    return jax.random.normal(jax.random.key(0), (*shape, 3))


@functools.cache
def _make(name, **options):
    """A model with its `apply` compiled, variables, and inputs."""
    model = MODELS[name](**options)
    variables = jax.jit(model.init)(jax.random.key(1), _inputs(name))
    apply = jax.jit(model.apply, static_argnames="deterministic")
    return apply, variables, _inputs(name)


@every_model
def test_cell_parameters_are_one_subtree_of_their_own_type(name):
    apply, variables, xs = _make(name)
    params = variables["params"]
    expected = jax.eval_shape(CELL.init, jax.random.key(0))
    assert jax.tree.structure(params["cell"]) == jax.tree.structure(expected)
    carry, _ = apply(variables, xs)
    assert isinstance(carry, cells.LSTMCarry)


@every_model
def test_nested_batches_are_the_rows_of_a_batch(name):
    apply, variables, xs = _make(name)
    _, outputs = apply(variables, xs)
    _, nested = apply(variables, xs.reshape(2, 2, *xs.shape[1:]))
    # The same products, blocked differently.
    np.testing.assert_allclose(nested.reshape(outputs.shape), outputs, atol=1e-6)


@every_model
def test_sequences_of_a_batch_do_not_touch_each_other(name):
    apply, variables, xs = _make(name)
    other = xs.at[2].set(jnp.zeros_like(xs[2]))
    _, outputs = apply(variables, xs)
    _, changed = apply(variables, other)
    same = jnp.asarray([0, 1, 3])
    np.testing.assert_array_equal(outputs[same], changed[same])
    assert not np.array_equal(outputs[2], changed[2])


@every_model
def test_dropout_follows_its_key_and_only_in_training(name):
    apply, variables, xs = _make(name, dropout_rate=0.5)

    def run(seed, deterministic=False):
        rngs = {"dropout": jax.random.key(seed)}
        return apply(variables, xs, deterministic=deterministic, rngs=rngs)[1]

    np.testing.assert_array_equal(run(0), run(0))
    assert not np.array_equal(run(0), run(1))
    np.testing.assert_array_equal(run(0, True), apply(variables, xs)[1])


def test_dropout_between_layers_is_that_of_the_cell():
    cell = stack(CELL, cells.lstm(4, 4), dropout=0.5)
    apply, variables, xs = _make("classifier", cell=cell)

    def run(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return apply(variables, xs, deterministic=False, rngs=rngs)[1]

    np.testing.assert_array_equal(run(0), run(0))
    assert not np.array_equal(run(0), run(1))
    assert not np.array_equal(run(0), apply(variables, xs)[1])


def test_dropout_keeps_the_expected_features():
    # With an identity readout the mean over many masks is the deterministic output.
    apply, variables, xs = _make("labeller", dropout_rate=0.25)
    readout = {"kernel": jnp.eye(4, 5), "bias": jnp.zeros(5)}
    variables = {"params": variables["params"] | {"readout": readout}}

    def run(key):
        return apply(variables, xs, deterministic=False, rngs={"dropout": key})[1]

    outputs = np.asarray(jax.vmap(run)(jax.random.split(jax.random.key(0), 2000)))
    kept = np.mean(outputs[..., :4] != 0)
    draws = outputs[..., :4].size
    # Four standard deviations of a fraction.
    assert abs(kept - 0.75) < 4 * (0.75 * 0.25 / draws) ** 0.5
    _, plain = apply(variables, xs)
    spread = np.abs(plain).max() * (0.25 / 0.75) ** 0.5
    # Five standard errors, for the largest of a hundred features.
    np.testing.assert_allclose(outputs.mean(0), plain, atol=5 * spread / 2000**0.5)


@every_model
def test_layer_norm_is_over_the_features_that_are_read(name):
    apply, variables, xs = _make(name, layer_norm=True)
    scale = np.arange(1.0, 5.0)
    layer_norm = {"scale": jnp.asarray(scale), "bias": jnp.asarray(-scale)}
    params = variables["params"] | {"layer_norm": layer_norm}
    kernel = params["readout"]["kernel"]
    inputs = params["embedding"]["embedding"][xs] if "embedding" in params else xs
    _, ys = unroll(CELL, params["cell"], inputs)
    ys = ys if name in ("labeller", "language_model") else ys[:, -1]
    ys = np.asarray(ys, np.float64)
    centred = ys - ys.mean(-1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    expected = (normal * scale - scale) @ np.asarray(kernel, np.float64)
    # float32 against float64, of features that may lie close together.
    _, outputs = apply({"params": params}, xs)
    np.testing.assert_allclose(outputs, expected, atol=2e-4)


@every_model
def test_every_option_is_handed_on_to_unroll(name, monkeypatch):
    calls = []

    def recorded(cell, params, xs, carry, **options):
        calls.append((cell, carry, options))
        return unroll(cell, params, xs, carry, key=options["key"])

    monkeypatch.setattr(common, "unroll", recorded)
    xs = _inputs(name)
    model = MODELS[name](window=2, method="checkpoint", product_dtype="bfloat16")
    variables = jax.eval_shape(model.init, jax.random.key(1), xs)
    lengths = jnp.asarray([6, 3, 1, 0])
    carry = cells.LSTMCarry(jnp.ones((4, 4)), jnp.ones((4, 4)))
    probes = cells.LSTMCarry(jnp.zeros((4, 7)), jnp.zeros((4, 7)))
    calls.clear()

    def apply(variables, deterministic):
        return model.apply(
            variables,
            xs,
            lengths,
            carry=carry,
            probes=probes,
            deterministic=deterministic,
            rngs={"dropout": jax.random.key(0)},
        )

    for deterministic in (True, False):
        jax.eval_shape(lambda v, d=deterministic: apply(v, d), variables)
    (cell, first_carry, options), (_, _, noisy) = calls
    assert cell is CELL
    assert first_carry is carry
    assert noisy.pop("key") is not None
    assert options.pop("key") is None
    expected = {"window": 2, "method": "checkpoint", "product_dtype": "bfloat16"}
    assert {name: options[name] for name in expected} == expected
    for given in (options, noisy):
        assert given["lengths"] is lengths
        assert given["probes"] is probes
        assert given["resets"] is None
        assert len(given) == 6


def test_window_truncates_the_gradient_of_the_cell():
    apply, variables, xs = _make("labeller", window=2)
    untruncated, _, _ = _make("labeller")

    def truncated(cell_params):
        params = variables["params"] | {"cell": cell_params}
        return jnp.sum(jnp.sin(apply({"params": params}, xs)[1]))

    def by_hand(cell_params):
        params = variables["params"] | {"cell": cell_params}
        carry, total = None, 0.0
        for start in (0, 2, 4):
            piece = xs[:, start : start + 2]
            carry, outputs = untruncated({"params": params}, piece, carry=carry)
            carry = jax.lax.stop_gradient(carry)
            total += jnp.sum(jnp.sin(outputs))
        return total

    got = jax.grad(truncated)(variables["params"]["cell"])
    # The same terms added in another order.
    assert_trees_close(got, jax.grad(by_hand)(variables["params"]["cell"]), atol=1e-5)


@pytest.mark.parametrize("name", ["classifier", "labeller"])
def test_probes_read_the_gradient_norms_of_the_cell(name):
    apply, variables, _ = _make(name)
    xs = _inputs(name, batch=())
    params = variables["params"]
    probes = make_probes(CELL, params["cell"], (), 6)

    def loss(probes):
        return jnp.sum(jnp.sin(apply(variables, xs, probes=probes)[1]))

    def loss_of_outputs(ys):
        ys = ys if name == "labeller" else ys[-1]
        # The bias starts at zero.
        return jnp.sum(jnp.sin(ys @ params["readout"]["kernel"]))

    expected = gradients.log_gradient_norms(CELL, params["cell"], xs, loss_of_outputs)
    # Two backward passes in float32.
    assert_trees_close(jax.grad(loss)(probes), expected.parts, atol=1e-4)


@every_model
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_readout_and_embedding_have_the_dtype_of_the_cell(name, dtype):
    cell = cells.lstm(3, 4, init="torch", dtype=dtype)
    xs = _inputs(name)
    xs = xs if name == "language_model" else xs.astype(dtype)
    model = MODELS[name](cell=cell)
    variables = jax.jit(model.init)(jax.random.key(1), xs)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {dtype}
    carry, outputs = model.apply(variables, xs)
    assert outputs.dtype.name == dtype
    assert {leaf.dtype.name for leaf in carry} == {dtype}


@pytest.mark.parametrize("name", ["classifier", "labeller", "forecaster"])
@pytest.mark.parametrize("sizes", [{"vocab_size": 5}, {"embedding_size": 3}])
def test_half_an_embedding_is_refused(name, sizes):
    model = MODELS[name](**sizes)
    with pytest.raises(ValueError, match="expected vocab_size and embedding_size both"):
        model.init(jax.random.key(1), _inputs("language_model"))
