"""Masked losses and metrics over any leading axes.

Every function reduces to one number over the entries that the mask counts. An entry is
one position of the leading axes `*axes`, for a batch of sequences `[batch, time]`; a
mask holds its weight, zero for what does not count. What stands at a masked entry, NaN
and labels out of range included, reaches neither the value nor the gradient.

Of `ctc_loss` and `label_error_rate` an entry is a sequence: the mask of its steps,
`[*axes, time]`, is its weight for the first steps, which are real, and zero behind.
"""

import jax.numpy as jnp

from seqjax.array_types import Array
from seqjax.loss_sums import SUMS, TOLERANCE, Sums, mean, pinball_sums

__all__ = [
    "SUMS",
    "TOLERANCE",
    "Sums",
    "accuracy",
    "binary_cross_entropy",
    "bits_per_token",
    "cross_entropy",
    "ctc_loss",
    "fraction_within",
    "label_error_rate",
    "length_mask",
    "mean",
    "mean_squared_error",
    "pinball",
    "pinball_sums",
]


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
