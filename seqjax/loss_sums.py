"""What losses and metrics average, as sums that can be added over batches.

A sum is over the entries that the mask counts; `seqjax.losses` says what an entry is.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array
from seqjax.ctc import BLANK, edit_distance, emitted, log_probability

TOLERANCE = 0.04
"""Largest error of a correct forecast: Hochreiter, Schmidhuber (1997), experiment 4."""


class Sums(NamedTuple):
    """A weighted sum and its total weight, which add over batches; a mean does not.

    Attributes:
        total: Σ weight · value, a scalar, float32 or wider.
        weight: Σ weight, same dtype.
    """

    total: Array
    weight: Array


def mean(sums: Sums) -> Array:
    """Divides a sum by its weight.

    Args:
        sums: Any `Sums`.

    Returns:
        total / weight, a scalar; 0 with gradient 0 where nothing counts.

    Example:
        >>> import jax.numpy as jnp
        >>> print(mean(Sums(jnp.asarray(3.0), jnp.asarray(2.0))))
        1.5
    """
    return jnp.where(
        sums.weight > 0, sums.total / jnp.where(sums.weight > 0, sums.weight, 1), 0
    )


@functools.cache
def pinball_sums(quantiles: tuple[float, ...]) -> Callable[..., Sums]:
    """Returns what `pinball` averages: `(outputs, targets, mask=None) -> Sums`.

    Args:
        quantiles: As in `pinball`; equal ones give the same function.

    Raises:
        ValueError: If there is none, or one is not inside (0, 1).

    Example:
        >>> import jax.numpy as jnp
        >>> print(pinball_sums((0.5,))(jnp.zeros((3, 1, 1)), jnp.ones((3, 1))).total)
        1.5
    """
    if not quantiles or not all(0 < level < 1 for level in quantiles):
        raise ValueError(
            f"quantiles: expected some, each above 0 and below 1, got {quantiles}"
        )

    def sums(predictions: Array, targets: Array, mask: Array | None = None) -> Sums:
        if predictions.shape != (*targets.shape, len(quantiles)):
            raise ValueError(
                f"predictions: expected shape {(*targets.shape, len(quantiles))} for "
                f"targets of shape {targets.shape}, got {predictions.shape}"
            )
        flat = predictions.reshape(*targets.shape[:-1], -1)
        repeated = jnp.repeat(targets, len(quantiles), axis=-1)
        entry_fn = functools.partial(_pinball, quantiles)
        return _forecast_sums(entry_fn, flat, repeated, mask)

    return sums


def _negative_log_likelihood(logits: Array, labels: Array) -> Array:
    # A negative index would count from the end: send it past the end, which is NaN.
    index = jnp.where(labels < 0, logits.shape[-1], labels)[..., None]
    log_probs = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_probs, index, axis=-1, mode="fill")[..., 0]


def _bits(logits: Array, labels: Array) -> Array:
    return _negative_log_likelihood(logits, labels) / jnp.log(2).astype(logits.dtype)


def _binary_negative_log_likelihood(logits: Array, targets: Array) -> Array:
    # ln σ(±z) as a whole: neither of both underflows.
    return -jnp.sum(jax.nn.log_sigmoid(jnp.where(targets > 0, logits, -logits)), -1)


def _squared_error(predictions: Array, targets: Array) -> Array:
    return jnp.mean(jnp.square(predictions - targets), axis=-1)


def _pinball(quantiles: tuple[float, ...], predictions: Array, targets: Array) -> Array:
    difference = targets - predictions
    levels = jnp.asarray(quantiles, difference.dtype)
    levels = jnp.tile(levels, difference.shape[-1] // len(quantiles))
    levels = jnp.broadcast_to(levels, difference.shape)
    return jnp.mean(
        jnp.maximum(levels * difference, (levels - 1) * difference), axis=-1
    )


def _within(predictions: Array, targets: Array) -> Array:
    return jnp.all(jnp.abs(predictions - targets) < TOLERANCE, axis=-1)


def _hit(logits: Array, labels: Array) -> Array:
    return jnp.argmax(logits, axis=-1).astype(labels.dtype) == labels


def _label_sums(
    entry_fn: Callable[[Array, Array], Array],
    logits: Array,
    labels: Array,
    mask: Array | None = None,
) -> Sums:
    _check_shape("labels", labels, logits.shape[:-1], logits)
    counted, weights, logits = _masked(logits, mask)
    return _sum(counted, weights, entry_fn(logits, jnp.where(counted, labels, 0)))


def _forecast_sums(
    entry_fn: Callable[[Array, Array], Array],
    predictions: Array,
    targets: Array,
    mask: Array | None = None,
) -> Sums:
    _check_shape("targets", targets, predictions.shape, predictions)
    counted, weights, predictions = _masked(predictions, mask)
    _, _, targets = _masked(targets.astype(predictions.dtype), mask)
    return _sum(counted, weights, entry_fn(predictions, targets))


def _ctc_sums(logits: Array, labels: Array, mask: Array | None = None) -> Sums:
    weights, real, logits, labels = _sequences(logits, labels, mask)
    values = -log_probability(logits, labels, real)
    return _sum(weights != 0, weights, values)


def _error_sums(logits: Array, labels: Array, mask: Array | None = None) -> Sums:
    weights, real, logits, labels = _sequences(logits, labels, mask)
    path = jnp.argmax(logits, axis=-1).astype(labels.dtype)
    errors = edit_distance(path, emitted(path, real), labels)
    num_labels = jnp.sum(labels != BLANK, axis=-1).astype(weights.dtype)
    total = jnp.sum(weights * errors.astype(weights.dtype))
    return Sums(total, jnp.sum(weights * num_labels))


def _sequences(
    logits: Array, labels: Array, mask: Array | None
) -> tuple[Array, Array, Array, Array]:
    """Weights of sequences, real steps, and logits and labels of those that count."""
    shape = (*logits.shape[:-2], *labels.shape[-1:])
    _check_shape("labels", labels, shape, logits)
    real, weights, logits = _masked(logits, mask)
    weights = jnp.max(weights, axis=-1)
    return weights, real, logits, jnp.where(weights[..., None] != 0, labels, BLANK)


def _masked(outputs: Array, mask: Array | None) -> tuple[Array, Array, Array]:
    """What counts, its weight, and the outputs with zeros where nothing counts.

    The zeros go in before a loss is applied: to mask its result alone would leave
    0 · NaN in the gradient.
    """
    dtype = outputs.dtype if jnp.finfo(outputs.dtype).bits > 32 else jnp.float32
    weights = jnp.ones(outputs.shape[:-1], dtype) if mask is None else mask
    _check_shape("mask", weights, outputs.shape[:-1], outputs)
    counted = weights != 0
    outputs = jnp.where(counted[..., None], outputs.astype(dtype), 0)
    return counted, weights.astype(dtype), outputs


def _sum(counted: Array, weights: Array, values: Array) -> Sums:
    weighted = weights * values.astype(weights.dtype)
    return Sums(jnp.sum(jnp.where(counted, weighted, 0)), jnp.sum(weights))


def _check_shape(
    name: str, array: Array, shape: tuple[int, ...], outputs: Array
) -> None:
    if array.shape != shape:
        raise ValueError(
            f"{name}: expected shape {shape} for outputs of shape {outputs.shape}, "
            f"got {array.shape}; align the leading axes"
        )


SUMS: Mapping[str, Callable[..., Sums]] = MappingProxyType(
    {
        "cross_entropy": functools.partial(_label_sums, _negative_log_likelihood),
        "bits_per_token": functools.partial(_label_sums, _bits),
        "binary_cross_entropy": functools.partial(
            _forecast_sums, _binary_negative_log_likelihood
        ),
        "mean_squared_error": functools.partial(_forecast_sums, _squared_error),
        "fraction_within": functools.partial(_forecast_sums, _within),
        "accuracy": functools.partial(_label_sums, _hit),
        "ctc_loss": _ctc_sums,
        "label_error_rate": _error_sums,
    }
)
"""What each loss and metric averages: `(outputs, targets, mask=None) -> Sums`."""
