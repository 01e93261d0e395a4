"""One number per curve: the rate at which gradients shrink or grow per step of lag."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from seqjax.array_types import Array


class DecayRate(NamedTuple):
    """The slope of a log-norm curve.

    Attributes:
        rate: Change of ln ‖gradient‖ per step of lag, nats per step; negative means
            vanishing, positive exploding. NaN where there is too little to fit.
        standard_error: Of the rate, nats per step.
        half_life: Steps of lag in which the norm halves (or doubles, for a positive
            rate); NaN where |rate| < 3 standard errors.
    """

    rate: Array
    standard_error: Array
    half_life: Array


def decay_rate(
    log_norms: Array,
    *,
    burn_in: float = 0.1,
    num_blocks: int = 20,
    mask: Array | None = None,
) -> DecayRate:
    """Fits the decay of a log-norm curve per step of lag.

    The time axis less `burn_in` at both ends is cut into blocks; the rate is the
    least-squares slope through the block means against lag. Its standard error comes
    from the spread of the slopes inside the blocks: the increments of a log norm are
    nearly independent, so the curve is a random walk with drift, for which the error
    of a straight-line fit is badly too small. The least-squares slope of such a walk
    has 6/5 of the variance of its mean increment.

    Args:
        log_norms: ln ‖∂L/∂carryₜ‖ for t = 0 … time, `[time+1]`, as
            `log_gradient_norms` returns it for a loss at the end; batch with
            `jax.vmap`. Entries of -inf (exact zeros) are left out.
        burn_in: Share of the curve left out at each end, where the gradient has not
            yet aligned with its slowest direction.
        num_blocks: Blocks of equal length; fewer where the curve is short.
        mask: True where an entry counts, `[time+1]`: real steps of a padded sequence.

    Returns:
        Rate, standard error, half-life; scalars.

    Raises:
        ValueError: If `log_norms` is not a curve, or `burn_in` is not in [0, 0.5).

    References:
        Durlauf, Phillips (1988), Trends versus random walks in time series analysis.

    Example:
        >>> import jax.numpy as jnp
        >>> fit = decay_rate(jnp.log(0.9) * jnp.arange(100.0)[::-1])
        >>> print(f"{fit.rate:.4f} {fit.half_life:.2f}")
        -0.1054 6.58
    """
    if log_norms.ndim != 1 or log_norms.shape[0] < 3:
        raise ValueError(
            "log_norms: expected one curve [time+1] of at least 3 entries, got shape "
            f"{list(log_norms.shape)}; batch with jax.vmap"
        )
    if not 0 <= burn_in < 0.5:
        raise ValueError(f"burn_in: expected a share in [0, 0.5), got {burn_in}")
    if num_blocks < 2:
        raise ValueError(f"num_blocks: expected at least 2, got {num_blocks}")
    start, size, blocks = _window(log_norms.shape[0], burn_in, num_blocks)
    stop = start + size * blocks
    valid = jnp.isfinite(log_norms) if mask is None else mask & jnp.isfinite(log_norms)
    valid = valid[start:stop].reshape(blocks, size)
    curve = jnp.where(valid, log_norms[start:stop].reshape(blocks, size), 0)
    times = jnp.arange(start, stop, dtype=curve.dtype).reshape(blocks, size)
    slope = _block_mean_slope(curve, times, valid)
    standard_error = _block_slope_error(curve, times, valid)
    enough = jnp.sum(jnp.any(valid, axis=1)) >= 2
    # Lag runs against time.
    rate = jnp.where(enough, -slope, jnp.nan)
    known = jnp.abs(rate) >= 3 * standard_error
    speed = jnp.where(known & (rate != 0), jnp.abs(rate), jnp.nan)
    return DecayRate(rate, standard_error, math.log(2) / speed)


def _window(length: int, burn_in: float, num_blocks: int) -> tuple[int, int, int]:
    """First entry, block size and number of blocks that fit between the burn-ins."""
    skip = round(burn_in * length)
    inner = max(length - 2 * skip, 3)
    # A slope inside a block needs two entries, a slope across blocks two blocks.
    blocks = max(2, min(num_blocks, inner // 2))
    size = inner // blocks
    return min(skip, length - blocks * size), size, blocks


def _mean(values: Array, valid: Array, axis: int | None = None) -> Array:
    count = jnp.sum(valid, axis=axis, keepdims=True).astype(values.dtype)
    total = jnp.sum(jnp.where(valid, values, 0), axis=axis, keepdims=True)
    return total / jnp.maximum(count, 1)


def _slope(values: Array, times: Array, valid: Array, axis: int | None) -> Array:
    """Least-squares slope of values against times; 0 where they do not fix one."""
    offsets = jnp.where(valid, times - _mean(times, valid, axis), 0)
    heights = jnp.where(valid, values - _mean(values, valid, axis), 0)
    spread = jnp.sum(jnp.square(offsets), axis=axis)
    product = jnp.sum(offsets * heights, axis=axis)
    return jnp.where(spread > 0, product / jnp.where(spread > 0, spread, 1), 0)


def _block_mean_slope(curve: Array, times: Array, valid: Array) -> Array:
    alive = jnp.any(valid, axis=1)
    means = _mean(curve, valid, axis=1)[:, 0]
    centres = _mean(times, valid, axis=1)[:, 0]
    return _slope(means, centres, alive, None)


def _block_slope_error(curve: Array, times: Array, valid: Array) -> Array:
    """√(6/5) times the standard error of the mean of the blocks' own slopes."""
    alive = jnp.sum(valid, axis=1) >= 2
    slopes = _slope(curve, times, valid, 1)
    count = jnp.sum(alive).astype(curve.dtype)
    deviations = jnp.where(alive, slopes - _mean(slopes, alive)[0], 0)
    variance = jnp.sum(jnp.square(deviations)) / jnp.maximum(count - 1, 1)
    error = jnp.sqrt(1.2 * variance / jnp.maximum(count, 1))
    return jnp.where(count >= 2, error, jnp.nan)
