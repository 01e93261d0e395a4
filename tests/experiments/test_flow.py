"""What a run measures of its gradient, against NumPy and against other routes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from experiments.runs.flow import (
    gradient_horizon,
    lag_edges,
    lag_shares,
    loss_of_outputs,
    summarise,
)
from seqjax import cells, losses, tasks
from seqjax.combinators import bidirectional
from seqjax.gradients import decay_rate
from seqjax.models import Forecaster, SequenceClassifier, SequenceLabeller
from seqjax.training import make_clip
from seqjax.unroll import unroll

KEY = jax.random.key(0)
SHORT, LONG = 9, 12


def test_quantiles_are_those_of_numpy_and_the_joint_norm_is_pythagorean() -> None:
    generator = np.random.default_rng(0)
    hidden = generator.normal(size=(11, 8)).astype(np.float32)
    cell = generator.normal(size=(11, 8)).astype(np.float32)
    hidden[:, 7] = cell[:, 7] = -np.inf
    cell[3, 2] = -np.inf
    hidden[5] = -np.inf
    lengths = np.full(11, 7, np.int32)
    gradients = {"w": np.asarray([3.0, 4.0], np.float32)}
    clip = make_clip(clip_value=3.0)
    clipped, _ = clip.update(gradients, clip.init(gradients))
    flow = jax.jit(summarise)({"a": hidden, "b": cell}, lengths, gradients, clipped)
    with np.errstate(invalid="ignore", divide="ignore"):
        joint = np.log(np.hypot(np.exp(hidden), np.exp(cell)))
    parts = (hidden, cell, joint)
    levels = {"q": (0.1, 0.5, 0.9), "method": "nearest"}
    with np.errstate(invalid="ignore"):
        expected = [np.quantile(part, axis=0, **levels) for part in parts]
    # Three roundings in float32, of numbers near 1.
    np.testing.assert_allclose(flow.log_norms, np.stack(expected), atol=1e-6)
    rates = [[float(decay_rate(jnp.asarray(curve)).rate) for curve in p] for p in parts]
    # A curve of exact zeros has no rate.
    assert np.isnan(rates[0][5])
    assert np.isnan(rates).sum() == 1
    expected = np.nanquantile(rates, axis=1, **levels).T
    np.testing.assert_allclose(flow.decay_rates, expected, rtol=1e-5)
    np.testing.assert_allclose(flow.clip_norms, [5, np.sqrt(18)], rtol=1e-6)
    np.testing.assert_allclose(flow.clip_cosine, 21 / 5 / np.sqrt(18), rtol=1e-6)


def test_the_horizon_ends_where_float32_would_round_the_gradient_away() -> None:
    # ln 2⁻²³ is −15.94; time runs forwards, lag backwards from the last real step, 4.
    curve = np.asarray([-9.0, -17.0, -15.9, -3.0, 0.0, 5.0, -np.inf], np.float32)
    faded, gone = curve.copy(), curve.copy()
    faded[0], gone[4] = -16, -np.inf
    curves = jnp.stack([curve, faded, curve - 80, gone])
    horizons = jax.jit(jax.vmap(gradient_horizon, (0, None)))(curves, jnp.int32(5))
    np.testing.assert_array_equal(horizons, [4, 2, 4, np.nan])


def _example(kind: str) -> tuple[Any, Any, Any]:
    """A model, its parameters, and two sequences of unequal length."""
    generator = np.random.default_rng(0)

    def draw(shape: jax.ShapeDtypeStruct) -> jax.Array:
        return jnp.asarray(generator.normal(size=shape.shape), shape.dtype)

    inputs = draw(jax.ShapeDtypeStruct((2, LONG, 2), jnp.float32))
    lengths = jnp.asarray([SHORT, LONG], jnp.int32)
    cell = cells.gru(2, 3)
    if kind == "label":
        model, targets = SequenceLabeller(cell, 3), jnp.ones((2, LONG), jnp.int32)
        mask = losses.length_mask(lengths, LONG)
    elif kind == "classify":
        model, targets = SequenceClassifier(cell, 3, "mean"), jnp.ones(2, jnp.int32)
        mask = jnp.ones(2)
    else:
        model, targets, mask = Forecaster(cell, 1), jnp.ones((2, 1)), jnp.ones(2)
    params = jax.tree.map(draw, jax.eval_shape(model.init, KEY, inputs)["params"])
    return model, params, tasks.Example(inputs, targets, mask, mask, lengths)


@pytest.mark.parametrize("kind", ["classify", "label"])
def test_a_loss_of_the_outputs_is_that_of_the_model(kind: str) -> None:
    model, params, batch = _example(kind)
    loss = losses.SUMS["cross_entropy"]

    @jax.jit
    def both(params, example):
        # Without lengths: what the cell makes of the padding must not count.
        _, ys = unroll(model.cell, params["cell"], example.inputs)
        _, outputs = model.apply({"params": params}, example.inputs, example.length)
        expected = losses.mean(loss(outputs, example.targets, example.mask))
        return loss_of_outputs(model, params, loss, example)(ys), expected

    found, expected = both(params, jax.tree.map(lambda leaf: leaf[0], batch))
    # The same float32 sums without and with a hold in the padding.
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_shares_by_lag_are_those_of_a_sequence_cut_in_two() -> None:
    model, params, batch = _example("forecast")
    loss = losses.SUMS["mean_squared_error"]
    edges = lag_edges(model, params, jax.tree.map(lambda leaf: leaf[0], batch))
    assert edges == (0, 1, 10)

    @jax.jit
    def gradient_of_last(params, example, count):
        """Cell gradient where nothing passes back beyond `count` steps."""

        def loss_of(cell_params):
            whole = {**params, "cell": cell_params}
            length = example.length - count
            carry, _ = unroll(
                model.cell, params["cell"], example.inputs, lengths=length
            )
            later = jnp.roll(example.inputs, -length, axis=0)
            _, out = model.apply({"params": whole}, later, count, carry=carry)
            return losses.mean(loss(out, example.targets, example.mask))

        return ravel_pytree(jax.grad(loss_of)(params["cell"]))[0]

    expected = []
    for row in range(2):
        example = jax.tree.map(lambda leaf, row=row: leaf[row], batch)
        cuts = [min(count, int(example.length)) for count in (0, 1, 10, LONG)]
        sums = [
            np.asarray(gradient_of_last(params, example, jnp.asarray(c))) for c in cuts
        ]
        parts, whole = np.diff(sums, axis=0), sums[-1]
        norms = np.linalg.norm(parts, axis=1)
        expected.append([norms / norms.sum(), parts @ whole / (whole @ whole)])

    @jax.jit
    def split(params, batch):
        last = jax.tree.map(lambda leaf: leaf[1:], batch)
        return (
            lag_shares(model, params, loss, batch, edges, terminal=True),
            lag_shares(model, params, loss, last, edges, terminal=False),
        )

    terminal, dense = split(params, batch)
    # Gradients in float32, differences of their sums, and means of two sequences.
    np.testing.assert_allclose(terminal, np.mean(expected, axis=0), atol=1e-5)
    # Followed from several outputs, a loss on the last one alone has the same shares.
    np.testing.assert_allclose(dense, np.asarray(expected[1]), atol=1e-5)


def test_a_cell_without_a_step_has_no_shares() -> None:
    model = Forecaster(bidirectional(cells.gru(2, 3)), 1)
    _, _, batch = _example("forecast")
    params = jax.eval_shape(model.init, KEY, batch.inputs)["params"]
    assert lag_edges(model, params, jax.tree.map(lambda leaf: leaf[0], batch)) == ()
