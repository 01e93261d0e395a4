"""What theory says before anything is run: mean field, random matrices, closed forms.

The mean-field functions are about two networks of many units, W iid N(0, 1/hidden):

    (a)  x′ = g W tanh(x) + u + b        (b)  h′ = tanh(g W h + u + b)

with inputs u iid N(0, input variance), fresh at every step, and biases b iid N(0, bias
variance), the same at all steps. In both q is the variance over units of what enters
tanh, and (a) and (b) have the same q and the same exponents: their Jacobians are the
same factors, g W and diag(tanh′), in another grouping.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, logsumexp

from seqjax.array_types import Array, ArrayLike
from seqjax.checks import check_positive

# The trapezoid rule, not Gauss–Hermite: tanh(√q z) has poles at iπ/(2√q), for which 32
# Hermite nodes are off by 15 % of E[sech⁴] at q = 6.3; 801 equal steps are right to
# rounding up to q = 50, and to 1e-5 of it at q = 400.
QUADRATURE_LIMIT = 10.0
QUADRATURE_NODES = 801
BISECTIONS = 64


class MeanField(NamedTuple):
    """A large random network of tanh units in its stationary state.

    Attributes:
        variance: q, of what enters tanh.
        chi: Growth of the squared norm of a gradient per step; 1 at the edge of chaos.
        largest_exponent: λ₁ = ½ ln χ, nats per step.
        mean_exponent: Mean of all exponents, nats per step.
        depth_scale: −1/ln χ, steps in which the squared norm falls by a factor of e;
            negative where it grows, inf at the edge.
    """

    variance: Array
    chi: Array
    largest_exponent: Array
    mean_exponent: Array
    depth_scale: Array


class CurseOfMemory(NamedTuple):
    """Variances of h′ = λ h + x for white x of variance 1.

    Attributes:
        state: E[h²].
        sensitivity: E[(∂h/∂λ)²].
    """

    state: Array
    sensitivity: Array


def mean_field(
    gain: ArrayLike, input_variance: ArrayLike = 0.0, bias_variance: ArrayLike = 0.0
) -> MeanField:
    """Predicts the gradient flow of a random tanh network with very many units.

    q = g² E[tanh²(√q z)] + input variance + bias variance,  z ~ N(0, 1)
    χ = g² E[sech⁴(√q z)],  λ₁ = ½ ln χ
    mean λ = ln g − ½ + E[ln sech²(√q z)]

    for the networks (a) and (b) at the head of this module; q is the largest solution,
    which is the stable one. λ₁ holds on both sides of the edge (without drive and with
    g ≤ 1 it is ln g, the logarithm of the spectral radius). Deviations at finite size
    are of order 1/√hidden for one matrix.

    Args:
        gain: g, of any shape.
        input_variance: Of the drive that is fresh at every step; a scalar, or shaped
            like `gain`.
        bias_variance: Of the drive that stays; likewise.

    Returns:
        Five arrays shaped like `gain`.

    References:
        Molgedey, Schuchhardt, Schuster (1992), Suppressing chaos in neural networks by
        noise. Poole, Lahiri, Raghu, Sohl-Dickstein, Ganguli (2016), Exponential
        expressivity in deep neural networks through transient chaos. Schoenholz,
        Gilmer, Ganguli, Sohl-Dickstein (2017), Deep information propagation. Chen,
        Pennington, Schoenholz (2018), Dynamical isometry and a mean field theory of
        RNNs. Engelken, Wolf, Abbott (2023), Lyapunov spectra of chaotic recurrent
        neural networks.

    Example:
        >>> flow = mean_field(2.0)
        >>> print(f"{flow.variance:.4f} {flow.largest_exponent:.4f}")
        2.1215 0.1547
    """
    gain = _float(gain)
    drive = _drive(gain, input_variance, bias_variance)

    def excess(q: Array) -> Array:
        return jnp.square(gain) * _normal_mean(_tanh2, q) + drive - q

    # tanh² < 1 bounds q; the right-hand side is concave, above q before the solution.
    variance = _bisect(excess, jnp.zeros_like(gain), jnp.square(gain) + drive)
    chi = jnp.square(gain) * _normal_mean(_sech4, variance)
    log_chi = jnp.log(chi)
    return MeanField(
        variance,
        chi,
        0.5 * log_chi,
        jnp.log(gain) - 0.5 + _normal_mean(_log_sech2, variance),
        jnp.where(log_chi == 0, jnp.inf, -1 / log_chi),
    )


def critical_gain(
    input_variance: ArrayLike = 0.0, bias_variance: ArrayLike = 0.0
) -> Array:
    """Finds the gain at the edge of chaos, where χ = 1.

    χ = 1 gives g² = 1/E[sech⁴(√q z)], and the equation of q then reads
    q − E[tanh²(√q z)] / E[sech⁴(√q z)] = input variance + bias variance,
    whose left-hand side grows with q. Without drive g = 1; drive moves the edge up.

    Args:
        input_variance: Of the drive that is fresh at every step, of any shape.
        bias_variance: Of the drive that stays; a scalar, or shaped alike.

    Returns:
        g, shaped like `input_variance`. For a drive below 1e-6 in float32 rounding
        leaves three digits of it.

    References:
        Molgedey, Schuchhardt, Schuster (1992), Suppressing chaos in neural networks by
        noise.

    Example:
        >>> print(f"{critical_gain():.3f} {critical_gain(0.1):.3f}")
        1.000 1.409
    """
    input_variance = _float(input_variance)
    drive = _drive(input_variance, input_variance, bias_variance)

    def lack(q: Array) -> Array:
        return drive - q + _normal_mean(_tanh2, q) / _normal_mean(_sech4, q)

    # For large q the left-hand side is q − 1.88 √q from below.
    variance = _bisect(lack, jnp.zeros_like(drive), 2 * drive + 8)
    variance = jnp.where(drive == 0, 0, variance)
    return jax.lax.rsqrt(_normal_mean(_sech4, variance))


def newman_spectrum(size: int, stddev: ArrayLike) -> Array:
    """Predicts the exponents of products of independent Gaussian matrices.

    λᵢ = ½ [ln(2 stddev²) + ψ((size − i + 1)/2)],  i = 1 … size,  ψ the digamma function

    for real square matrices with entries iid N(0, stddev²), fresh at every step; exact
    at any size. For entries of variance 1/size the spectrum of a wide network goes from
    0 down as ½ ln(1 − i/size), with mean −½.

    Args:
        size: Rows of the matrices.
        stddev: Of an entry, a scalar.

    Returns:
        Nats per step, `[size]`, descending.

    References:
        Newman (1986), The distribution of Lyapunov exponents: exact results for random
        matrices.

    Example:
        >>> print([f"{rate:.4f}" for rate in newman_spectrum(2, 1.0)])
        ['0.0580', '-0.6352']
    """
    check_positive(size=size)
    stddev = _float(stddev)
    halves = jnp.arange(size, 0, -1, dtype=stddev.dtype) / 2
    return 0.5 * (math.log(2) + 2 * jnp.log(stddev) + digamma(halves))


def curse_of_memory(eigenvalue: ArrayLike) -> CurseOfMemory:
    """Predicts how sensitive a long memory is to its own parameter.

    For h′ = λ h + x with white x of variance 1, in the stationary state
    E[h²] = 1/(1 − λ²),  E[(∂h/∂λ)²] = (1 + λ²)/(1 − λ²)³:
    near λ = 1 the state grows as the memory, the sensitivity as its cube, although no
    gradient explodes.

    Args:
        eigenvalue: λ, real, |λ| < 1, of any shape.

    Returns:
        Two arrays shaped like `eigenvalue`; inf at |λ| = 1.

    References:
        Zucchet, Orvieto (2024), Recurrent neural networks: vanishing and exploding
        gradients are not the end of the story.

    Example:
        >>> curse = curse_of_memory(0.9)
        >>> print(f"{curse.state:.3f} {curse.sensitivity:.1f}")
        5.263 263.9
    """
    eigenvalue = _float(eigenvalue)
    # (1 − λ)(1 + λ) keeps the digits that 1 − λ² loses near 1.
    gap = (1 - eigenvalue) * (1 + eigenvalue)
    return CurseOfMemory(1 / gap, (1 + jnp.square(eigenvalue)) / gap**3)


def diagonal_log_norms(
    log_moduli: Array, lags: Array, log_weights: Array | None = None
) -> Array:
    """Predicts the log-norm curve of a diagonal recurrence, h′ = λ ∘ h + ….

    ln ‖∂L/∂hₜ‖ = ½ ln Σᵢ |λᵢ|^(2 lag) |wᵢ|²,  w = ∂L/∂h at lag 0

    A mixture of straight lines: the slope is steep at first and tends to max ln |λᵢ|
    from below, as slow modes take over. No single number describes it.

    Args:
        log_moduli: ln |λᵢ|, `[hidden]`; −exp(ν) in an LRU. -inf for λᵢ = 0.
        lags: Steps between loss and carry, `[num_lags]`.
        log_weights: ln |wᵢ|, `[hidden]`; zeros if None.

    Returns:
        `[num_lags]`, -inf where nothing is left.

    Raises:
        ValueError: If `log_moduli` and `lags` are not vectors.

    References:
        Orvieto et al. (2023), Resurrecting recurrent neural networks for long
        sequences.

    Example:
        >>> import jax.numpy as jnp
        >>> curve = diagonal_log_norms(
        ...     jnp.log(jnp.array([0.5, 0.9])), jnp.array([0, 1, 1000])
        ... )
        >>> print([f"{value:.3f}" for value in curve])
        ['0.347', '0.029', '-105.361']
    """
    if log_moduli.ndim != 1 or lags.ndim != 1:
        raise ValueError(
            "log_moduli, lags: expected two vectors, got shapes "
            f"{list(log_moduli.shape)} and {list(lags.shape)}"
        )
    weights = jnp.zeros_like(log_moduli) if log_weights is None else log_weights
    lags = lags.astype(log_moduli.dtype)[:, None]
    # 0 · ln 0 is 0 here: nothing has been multiplied yet.
    decay = jnp.where(lags == 0, 0, lags * log_moduli[None])
    return 0.5 * logsumexp(2 * (decay + weights[None]), axis=1)


def _float(value: ArrayLike) -> Array:
    return jnp.asarray(value, jnp.result_type(float))


def _drive(like: Array, input_variance: ArrayLike, bias_variance: ArrayLike) -> Array:
    """The variance of all that enters from outside, shaped like `like`."""
    drive = _float(input_variance) + _float(bias_variance)
    return jnp.broadcast_to(drive, like.shape)


def _normal_mean(fn: Callable[[Array], Array], variance: Array) -> Array:
    """E[fn(√variance z)], z ~ N(0, 1), shaped like `variance`."""
    nodes = np.linspace(-QUADRATURE_LIMIT, QUADRATURE_LIMIT, QUADRATURE_NODES)
    weights = np.exp(-0.5 * nodes**2)
    weights = jnp.asarray(weights / weights.sum(), variance.dtype)
    points = jnp.multiply.outer(jnp.sqrt(variance), jnp.asarray(nodes, variance.dtype))
    return fn(points) @ weights


def _bisect(excess: Callable[[Array], Array], lower: Array, upper: Array) -> Array:
    """The place where a function goes from positive to negative, per entry."""

    def halve(_: Array, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        lower, upper = bracket
        middle = 0.5 * (lower + upper)
        above = excess(middle) > 0
        return jnp.where(above, middle, lower), jnp.where(above, upper, middle)

    lower, upper = jax.lax.fori_loop(0, BISECTIONS, halve, (lower, upper))
    return 0.5 * (lower + upper)


def _tanh2(a: Array) -> Array:
    return jnp.square(jnp.tanh(a))


def _log_sech2(a: Array) -> Array:
    size = jnp.abs(a)
    return 2 * (math.log(2) - size - jnp.log1p(jnp.exp(-2 * size)))


def _sech4(a: Array) -> Array:
    return jnp.exp(2 * _log_sech2(a))
