"""Masked losses and metrics over any leading axes.

Every function reduces to one number over the entries that the mask counts. An entry is
one position of the leading axes `*axes`, for a batch of sequences `[batch, time]`; a
mask holds its weight, zero for what does not count. What stands at a masked entry, NaN
and labels out of range included, reaches neither the value nor the gradient.

Of `ctc_loss` and `label_error_rate` an entry is a sequence: the mask of its steps,
`[*axes, time]`, is its weight for the first steps, which are real, and zero behind.
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


def length_mask(lengths: Array, num_steps: int) -> Array:
    """Marks the real steps of padded sequences.

    Args:
        lengths: Real steps, `[*batch]`, integers.
        num_steps: Padded number of steps.

    Returns:
        1 where step < length, else 0: `[*batch, time]`, float32.

    Example:
        >>> import jax.numpy as jnp
        >>> print(length_mask(jnp.asarray([1, 3]), num_steps=3))
        [[1. 0. 0.]
         [1. 1. 1.]]
    """
    steps = jnp.arange(num_steps, dtype=lengths.dtype)
    steps = steps.reshape((1,) * lengths.ndim + (-1,))
    return (steps < lengths[..., None]).astype(jnp.float32)


def cross_entropy(logits: Array, labels: Array, mask: Array | None = None) -> Array:
    """Averages −ln softmax(logits)[label], in nats.

    Args:
        logits: `[*axes, classes]`, floating.
        labels: `[*axes]`, integers. A label outside [0, classes) that counts gives NaN.
        mask: Weights, `[*axes]`; None counts every entry.

    Returns:
        Scalar, float32 or wider; 0 where nothing counts.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> print(jnp.exp(cross_entropy(jnp.zeros((2, 8)), jnp.asarray([3, 5]))))
        8.0
    """
    return mean(SUMS["cross_entropy"](logits, labels, mask))


def mean_squared_error(
    predictions: Array, targets: Array, mask: Array | None = None
) -> Array:
    """Averages the squared difference over entries and features.

    Args:
        predictions: `[*axes, output]`, floating.
        targets: Same shape.
        mask: Weights, `[*axes]`; None counts every entry.

    Returns:
        Scalar, float32 or wider; 0 where nothing counts.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> print(mean_squared_error(jnp.zeros((2, 1)), jnp.asarray([[1.0], [3.0]])))
        5.0
    """
    return mean(SUMS["mean_squared_error"](predictions, targets, mask))


def fraction_within(
    predictions: Array, targets: Array, mask: Array | None = None
) -> Array:
    """Measures how many forecasts are off by less than `TOLERANCE` in every feature.

    Args:
        predictions: `[*axes, output]`, floating.
        targets: Same shape.
        mask: Weights, `[*axes]`; None counts every entry.

    Returns:
        Fraction, a scalar, float32 or wider; 0 where nothing counts.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> print(fraction_within(jnp.zeros((2, 1)), jnp.asarray([[0.03], [0.05]])))
        0.5
    """
    return mean(SUMS["fraction_within"](predictions, targets, mask))


def accuracy(logits: Array, labels: Array, mask: Array | None = None) -> Array:
    """Measures how often the largest logit is the label's; ties go to the lower class.

    Args:
        logits: `[*axes, classes]`, floating.
        labels: `[*axes]`, integers.
        mask: Weights, `[*axes]`; None counts every entry.

    Returns:
        Fraction, a scalar, float32 or wider; 0 where nothing counts.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> print(accuracy(jnp.eye(2), jnp.asarray([0, 0])))
        0.5
    """
    return mean(SUMS["accuracy"](logits, labels, mask))


def bits_per_token(logits: Array, labels: Array, mask: Array | None = None) -> Array:
    """Averages −log₂ of the softmax probability of the right labels.

    For characters these are the bits per character that compression is measured in.

    Args:
        logits: `[*axes, classes]`, floating.
        labels: `[*axes]`, integers.
        mask: Weights, `[*axes]`; None counts every entry.

    Returns:
        Bits, a scalar, float32 or wider; 0 where nothing counts.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> print(bits_per_token(jnp.zeros((1, 8)), jnp.asarray([3])))
        3.0
    """
    return mean(SUMS["bits_per_token"](logits, labels, mask))


def binary_cross_entropy(
    logits: Array, targets: Array, mask: Array | None = None
) -> Array:
    """Sums −ln of the probability of each feature, and averages over entries.

    Every feature is on or off by itself, as notes of a chord are:
    Σᵢ −tᵢ ln σ(zᵢ) − (1 − tᵢ) ln σ(−zᵢ)

    Args:
        logits: z, `[*axes, features]`, floating.
        targets: t, same shape, 0 or 1.
        mask: Weights, `[*axes]`; None counts every entry.

    Returns:
        Nats per entry, a scalar, float32 or wider; 0 where nothing counts.

    Raises:
        ValueError: If the shapes do not fit.

    References:
        Boulanger-Lewandowski, Bengio, Vincent (2012), Modeling temporal dependencies
        in high-dimensional sequences.

    Example:
        >>> import jax.numpy as jnp
        >>> print(f"{binary_cross_entropy(jnp.zeros((1, 2)), jnp.ones((1, 2))):.4f}")
        1.3863
    """
    return mean(SUMS["binary_cross_entropy"](logits, targets, mask))


def ctc_loss(logits: Array, labels: Array, mask: Array | None = None) -> Array:
    """Averages −ln P(labels) over sequences, whatever the alignment, in nats.

    Class 0 is the blank; `seqjax.ctc` says what an alignment stands for.

    Args:
        logits: `[*axes, time, classes]`, floating and finite.
        labels: `[*axes, labels]`, integers from 1 on, zeros behind the end. A sequence
            that counts gives NaN where a label is no class, and is infinite, without a
            gradient, where it is too short for its labels.
        mask: Weights, `[*axes, time]`; None counts every step.

    Returns:
        Scalar, float32 or wider; 0 where nothing counts.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> logits = jnp.log(jnp.array([[0.5, 0.5], [0.4, 0.6]]))  # 0.5 · 0.4 says 0 0
        >>> print(f"{jnp.exp(-ctc_loss(logits, jnp.asarray([1]))):.4f}")
        0.8000
    """
    return mean(SUMS["ctc_loss"](logits, labels, mask))


def label_error_rate(logits: Array, labels: Array, mask: Array | None = None) -> Array:
    """Divides the errors of all answers by the number of right labels.

    An answer are the labels that the likeliest class of every step stands for; its
    errors are the labels to insert, delete or replace. An empty answer has 1.

    Args:
        logits: `[*axes, time, classes]`, floating.
        labels: `[*axes, labels]`, integers from 1 on, zeros behind the end.
        mask: Weights, `[*axes, time]`; None counts every step.

    Returns:
        A scalar, float32 or wider, 0 where nothing counts; it may be above 1.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> logits = jnp.eye(4)[jnp.array([0, 3, 3, 0, 3])]  # says 3 3
        >>> print(label_error_rate(logits, jnp.asarray([3, 1, 3, 2])))
        0.5
    """
    return mean(SUMS["label_error_rate"](logits, labels, mask))


def pinball(
    predictions: Array,
    targets: Array,
    quantiles: tuple[float, ...],
    mask: Array | None = None,
) -> Array:
    """Averages the pinball loss over entries, features and quantiles.

    max(τ (y − q), (τ − 1) (y − q)) is least on average where q is the quantile τ of y.

    Args:
        predictions: q, `[*axes, output, quantile]`, floating.
        targets: y, `[*axes, output]`.
        quantiles: τ, each inside (0, 1).
        mask: Weights, `[*axes]`; None counts every entry.

    Returns:
        Scalar, float32 or wider; 0 where nothing counts.

    Raises:
        ValueError: If the shapes do not fit, or a quantile is not inside (0, 1).

    References:
        Koenker, Bassett (1978), Regression quantiles.

    Example:
        >>> import jax.numpy as jnp
        >>> forecast = jnp.zeros((1, 1, 2))
        >>> print(pinball(forecast, jnp.asarray([[4.0]]), quantiles=(0.25, 0.75)))
        2.0
    """
    return mean(pinball_sums(quantiles)(predictions, targets, mask))


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
