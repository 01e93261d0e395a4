"""What is measured of the gradient while training, reduced on the device."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.runs.logs import QUANTILES
from experiments.runs.sources import of_cell
from seqjax.array_types import Array, PyTree
from seqjax.cell import Cell
from seqjax.gradients.backward import has_step
from seqjax.gradients.decay import decay_rate
from seqjax.gradients.lag import gradient_shares
from seqjax.gradients.remedies import clip_effect
from seqjax.losses import Sums, mean
from seqjax.tasks import Example

_LAGS = (1, 10, 100, 1000, 10_000, 100_000)
_MAX_ANCHORS = 8


class GradientFlow(NamedTuple):
    """How the gradient of one batch travelled through time.

    Attributes:
      log_norms: `[part, 3, time+1]`, quantiles over the samples of ln ‖dL/d carry_t‖;
        the last part is the norm over all parts together.
      decay_rate: slope of the median of that last part, per step of lag.
      half_life: steps; NaN where the rate is not settled.
      decay_rates: `[part, 3]`, quantiles over the samples of the slope of each sample's
        own curve; NaN where no sample has one.
      horizon: steps, the median over the samples of `gradient_horizon`.
      clip_norms: `[2]`, norm of the parameter gradient before and after clipping.
      clip_cosine: of the angle between both: 1 where clipping only scaled.
    """

    log_norms: Array
    decay_rate: Array
    half_life: Array
    decay_rates: Array
    horizon: Array
    clip_norms: Array
    clip_cosine: Array


def summarise(
    log_norms: PyTree, lengths: Array, gradients: PyTree, clipped: PyTree
) -> GradientFlow:
    """Reduces the curves of all samples to quantiles and a few numbers.

    Args:
      log_norms: leaves `[batch, time+1]`, one per part of the carry.
      lengths: real steps, `[batch]`.
      gradients: with respect to all parameters.
      clipped: what clipping makes of them.
    """
    parts = jnp.stack(jax.tree.leaves(log_norms))
    joint = jax.nn.logsumexp(2 * parts, axis=0) / 2
    curves = jnp.concatenate([parts, joint[None]])
    # Sorting, not interpolating, since -inf may stand beside a number.
    quantiles = jnp.quantile(curves, jnp.asarray(QUANTILES), axis=1, method="nearest")
    times = jnp.arange(curves.shape[-1], dtype=lengths.dtype)
    # After its end a sequence holds its carry, and the gradient does not change.
    median = quantiles[QUANTILES.index(0.5), -1]
    fit = decay_rate(median, mask=times <= jnp.min(lengths))
    horizons = jax.vmap(gradient_horizon)(joint, lengths)
    effect = clip_effect(gradients, clipped)
    return GradientFlow(
        jnp.swapaxes(quantiles, 0, 1),
        fit.rate,
        fit.half_life,
        _rates(curves, times[None] <= lengths[:, None]),
        jnp.nanquantile(horizons, 0.5, method="nearest"),
        jnp.stack([effect.norm_before, effect.norm_after]),
        effect.cosine,
    )


def _rates(curves: Array, real: Array) -> Array:
    """Quantiles over the samples of each sample's rate, `[part, 3]`.

    Args:
      curves: `[part, batch, time+1]`.
      real: which entries count, `[batch, time+1]`.
    """

    def rate(curve: Array, mask: Array) -> Array:
        return decay_rate(curve, mask=mask).rate

    rates = jax.vmap(jax.vmap(rate), in_axes=(0, None))(curves, real)
    quantiles = jnp.nanquantile(rates, jnp.asarray(QUANTILES), axis=1, method="nearest")
    return quantiles.T


def gradient_horizon(log_norms: Array, length: Array) -> Array:
    """Measures how far back one sample's gradient stands above float32 resolution.

    That is the largest lag l = length − 1 − t with  ln ‖dL/d carry_t‖ >
    ln ‖dL/d carry_{length−1}‖ + ln ε,  where ε = 2⁻²³ is the spacing of float32 at 1
    and carry_{length−1} enters the last real step. Beyond it the gradient would be
    rounded away in a sum with the local one. A loss at every step feeds all carries,
    and the horizon is then the longest lag there is.

    Args:
      log_norms: `[time+1]`.
      length: real steps.

    Returns:
      Steps, float; NaN where the last step's gradient is exactly zero.
    """
    lags = length - 1 - jnp.arange(log_norms.shape[0], dtype=length.dtype)
    local = log_norms[jnp.maximum(length - 1, 0)]
    resolved = log_norms > local + jnp.log(jnp.finfo(jnp.float32).eps)
    largest = jnp.max(jnp.where(resolved & (lags >= 0), lags, 0))
    return jnp.where(jnp.isfinite(local), largest.astype(log_norms.dtype), jnp.nan)


class LagShares(NamedTuple):
    """Which lags the gradient of the cell's parameters comes from.

    A bucket holds what the steps contribute that lie so many steps before the output
    they act through; means over a few sequences.

    Attributes:
      lag_shares: `[bucket]`, norm of a bucket over the sum of all buckets' norms.
      lag_projections: `[bucket]`, projection of a bucket on the whole gradient over its
        norm; they sum to 1, and are negative where a bucket works against the rest.
    """

    lag_shares: Array
    lag_projections: Array


def lag_edges(model: nn.Module, params: PyTree, example: Example) -> tuple[int, ...]:
    """Returns the smallest lag of every bucket: 0, 1 and the powers of ten.

    Args:
      model: a model around a cell; one without a single step has no buckets, nor has a
        translator, whose encoder the loss reaches past the cell's outputs.
      params: its parameters.
      example: one sequence.
    """
    if isinstance(example.inputs, tuple):
        return ()
    num_steps = example.inputs.shape[0]
    inputs = jax.eval_shape(
        lambda p, x: cell_inputs(model, p, x), params, example.inputs
    )
    if num_steps < 2 or not has_step(model.cell, params["cell"], inputs):
        return ()
    return (0, *(lag for lag in _LAGS if lag < num_steps))


def lag_shares(
    model: nn.Module,
    params: PyTree,
    loss: Callable[..., Sums],
    examples: Example,
    edges: tuple[int, ...],
    *,
    terminal: bool,
) -> LagShares:
    """Splits the gradient of the cell's parameters by lag, through all of the model.

    Exact for a loss on the last output. One at every step is followed back from at most
    eight outputs, equally far apart from the last one on. Without noise, and without
    any truncation of the model.

    Args:
      model: a model around a cell.
      params: its parameters.
      loss: of an `Objective`.
      examples: sequences, with a leading batch axis.
      edges: from `lag_edges`.
      terminal: whether the loss sees the last output alone.
    """
    num_steps = examples.inputs.shape[1]
    count = 1 if terminal else min(_MAX_ANCHORS, num_steps)
    back = (num_steps // count) * jnp.arange(count)

    def split(example: Example) -> tuple[Array, Array]:
        shares = gradient_shares(
            model.cell,
            params["cell"],
            cell_inputs(model, params, example.inputs),
            loss_of_outputs(model, params, loss, example),
            edges=edges[1:],
            anchors=example.length - 1 - back.astype(example.length.dtype),
        )
        return jax.nn.softmax(shares.log_norms), shares.projections

    parts = jax.vmap(split)(examples)
    return LagShares(*(jnp.nanmean(part, axis=0) for part in parts))


def loss_of_outputs(
    model: nn.Module, params: PyTree, loss: Callable[..., Sums], example: Example
) -> Callable[[Array], Array]:
    """Returns everything that follows the cell in a model, as a function.

    Args:
      model: a model around a cell.
      params: its parameters.
      loss: of an `Objective`.
      example: one sequence.

    Returns:
      `ys -> loss`, of the cell's outputs `[time, output]` of one sequence; what stands
      in the padding does not count.
    """
    passing = Cell(
        init=lambda key: (),
        initial_carry=lambda params: (),
        step=lambda params, carry, x: (carry, x),
        last=model.cell.last,
    )
    readout = model.clone(
        cell=passing, vocab_size=None, embedding_size=None, product_dtype=None
    )
    variables = {"params": {**params, "cell": ()}}

    def loss_fn(ys: Array) -> Array:
        real = jnp.arange(ys.shape[0], dtype=example.length.dtype) < example.length
        _, outputs = readout.apply(
            variables, jnp.where(real[:, None], ys, 0), example.length
        )
        return mean(loss(outputs, example.targets, example.mask))

    return loss_fn


def cell_inputs(model: nn.Module, params: PyTree, inputs: PyTree) -> Array:
    """Returns what the cell of a model reads: rows of the embedding for tokens.

    Args:
      model: a model around a cell.
      params: its parameters.
      inputs: `[*batch, time]` tokens, or `[*batch, time, input]`; of a translator the
        pair that it reads.
    """
    inputs = of_cell(inputs)
    if model.vocab_size is None:
        return inputs
    return params["embedding"]["embedding"][inputs]


def fetch(flow: GradientFlow, shares: LagShares | None) -> dict[str, np.ndarray]:
    """Fetches a measurement, under the names that it has in gradient_norms.npz.

    Args:
      flow: of the measured update.
      shares: of the parameters before it, or None.
    """
    flow, shares = jax.device_get((flow, shares))
    return flow._asdict() | ({} if shares is None else shares._asdict())


def summary(measured: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns what a row of metrics.jsonl tells of a measurement.

    Args:
      measured: from `fetch`.
    """
    low, median, high = measured["decay_rates"][-1].tolist()
    row = {
        "decay_rate": float(measured["decay_rate"]),
        "half_life": float(measured["half_life"]),
        "decay_rate_p10": low,
        "decay_rate_p50": median,
        "decay_rate_p90": high,
        "gradient_horizon": float(measured["horizon"]),
        "gradient_norm_clipped": float(measured["clip_norms"][1]),
        "clip_cosine": float(measured["clip_cosine"]),
    }
    shares = measured.get("lag_shares")
    return row if shares is None else row | {"lag_shares": shares.tolist()}
