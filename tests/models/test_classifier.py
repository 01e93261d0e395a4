import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import cells, unroll
from seqjax.combinators import bidirectional
from seqjax.models import Forecaster, SequenceClassifier
from tests.helpers import assert_trees_close

CELL = cells.gru(3, 5)
XS = jax.random.normal(jax.random.key(0), (4, 6, 3))
LENGTHS = jnp.asarray([6, 3, 1, 0])
POOLINGS = ("last", "mean", "max")
every_pooling = pytest.mark.parametrize("pooling", POOLINGS)


def _init(model, xs=XS):
    return jax.jit(model.init)(jax.random.key(1), xs)["params"]


def _apply(model, params, *args) -> tuple[Any, Any]:
    return model.apply({"params": params}, *args)


@functools.cache
def _pooled(pooling):
    """A classifier, its params, and logits with gradients as one compiled program."""
    model = SequenceClassifier(CELL, 7, pooling=pooling)

    @jax.jit
    def run(params, xs, lengths):
        def loss(params):
            _, logits = _apply(model, params, xs, lengths)
            return jnp.sum(jnp.square(logits)), logits

        gradients, logits = jax.grad(loss, has_aux=True)(params)
        return logits, gradients

    return model, _init(model), run


UNROLL = jax.jit(lambda params, xs: unroll(CELL, params, xs)[1])


def _pool_by_hand(pooling, ys):
    """`[time, output]` of one sequence without padding, in float64."""
    ys = np.asarray(ys, np.float64)
    if not len(ys):
        return np.zeros(ys.shape[-1])
    return {"last": ys[-1], "mean": ys.mean(0), "max": ys.max(0)}[pooling]


@every_pooling
def test_logits_are_the_readout_of_the_pooled_real_outputs(pooling):
    _, params, run = _pooled(pooling)
    logits, _ = run(params, XS, LENGTHS)
    kernel, bias = params["readout"]["kernel"], params["readout"]["bias"]
    for row, length in enumerate(LENGTHS.tolist()):
        ys = UNROLL(params["cell"], XS[row])
        pooled = _pool_by_hand(pooling, ys[:length])
        expected = pooled @ np.asarray(kernel, np.float64) + np.asarray(bias)
        # float32 against float64 over five features of order one.
        np.testing.assert_allclose(logits[row], expected, atol=1e-6)


@every_pooling
def test_no_lengths_means_all_steps(pooling):
    model, params, run = _pooled(pooling)
    _, without = _apply(model, params, XS)
    full, _ = run(params, XS, jnp.full(4, 6))
    # A mean and a sum over a count may differ in the last bit.
    np.testing.assert_allclose(without, full, rtol=1e-6, atol=1e-7)


@every_pooling
def test_padding_reaches_neither_logits_nor_gradients_to_the_bit(pooling):
    _, params, run = _pooled(pooling)
    padding = (jnp.arange(6)[None] >= LENGTHS[:, None])[..., None]
    logits, gradients = run(params, XS, LENGTHS)
    dirty = run(params, jnp.where(padding, jnp.nan, XS), LENGTHS)
    assert np.isfinite(logits).all()
    assert_trees_close(dirty, (logits, gradients))


@every_pooling
def test_length_zero_gives_the_bias(pooling):
    _, params, run = _pooled(pooling)
    bias = {"bias": jnp.arange(7.0)}
    logits, _ = run(params | {"readout": params["readout"] | bias}, XS, LENGTHS)
    np.testing.assert_array_equal(logits[3], jnp.arange(7.0))


def test_last_of_a_bidirectional_cell_has_seen_the_sequence_from_both_ends():
    cell = bidirectional(CELL)
    model = SequenceClassifier(cell, 7)
    params = _init(model)
    _, logits = _apply(model, params, XS, LENGTHS)
    _, ys = unroll(cell, params["cell"], XS[1, :3])
    both = jnp.concatenate([ys[-1, :5], ys[0, 5:]])
    expected = both @ params["readout"]["kernel"] + params["readout"]["bias"]
    # One order of float32 products against another.
    np.testing.assert_allclose(logits[1], expected, atol=1e-6)


def test_tokens_go_through_the_embedding():
    model = SequenceClassifier(CELL, 7, vocab_size=11, embedding_size=3)
    tokens = jax.random.randint(jax.random.key(2), (4, 6), 0, 11)
    params = _init(model, tokens)
    plain = SequenceClassifier(CELL, 7)
    rest = {name: params[name] for name in ("cell", "readout")}
    xs = params["embedding"]["embedding"][tokens]
    assert_trees_close(_apply(model, params, tokens), _apply(plain, rest, xs))


def test_forecast_of_several_steps_is_laid_out_step_by_step():
    model = Forecaster(CELL, output_size=2, horizon=3)
    params = _init(model)
    _, forecast = _apply(model, params, XS, LENGTHS)
    ys = UNROLL(params["cell"], XS[1])
    flat = ys[2] @ params["readout"]["kernel"] + params["readout"]["bias"]
    assert forecast.shape == (4, 3, 2)
    # One order of float32 products against another.
    np.testing.assert_allclose(forecast[1].ravel(), flat, atol=1e-6)


def test_forecast_of_one_step_has_no_horizon_axis():
    model = Forecaster(CELL, output_size=2)
    _, forecast = _apply(model, _init(model), XS)
    assert forecast.shape == (4, 2)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_quantiles_never_cross_whatever_the_readout_says(count):
    model = Forecaster(CELL, output_size=2, horizon=3, num_quantiles=count)
    params = _init(model)
    kernel = 1e4 * jax.random.normal(
        jax.random.key(5), params["readout"]["kernel"].shape
    )
    for scale in (1e-3, 1.0):
        readout = params["readout"] | {"kernel": scale * kernel}
        _, forecast = _apply(model, params | {"readout": readout}, XS, LENGTHS)
        assert forecast.shape == (4, 3, 2, count)
        assert (jnp.diff(forecast, axis=-1) >= 0).all()
        # The middle one is the readout's own number.
        ys = UNROLL(params["cell"], XS[1])
        flat = ys[2] @ readout["kernel"] + readout["bias"]
        middle = flat.reshape(3, 2, count)[..., count // 2]
        # One order of float32 products against another.
        np.testing.assert_allclose(
            forecast[1, ..., count // 2], middle, rtol=1e-5, atol=1e-3
        )


def test_quantiles_of_one_step_have_no_horizon_axis():
    model = Forecaster(CELL, output_size=2, num_quantiles=3)
    _, forecast = _apply(model, _init(model), XS)
    assert forecast.shape == (4, 2, 3)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="pooling: expected one of last, mean, max"):
        _init(SequenceClassifier(CELL, 7, pooling="final"))
