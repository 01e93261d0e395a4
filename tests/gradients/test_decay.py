"""The decay rate: exact on lines, honest about its error on random walks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.gradients import decay_rate


def line(rate, length=201, offset=-3.0):
    """A log-norm curve with `rate` nats per step of lag."""
    return offset + rate * jnp.arange(length, dtype=jnp.float32)[::-1]


@pytest.mark.parametrize("rate", [-0.5, -1e-3, 0.25])
@pytest.mark.parametrize("length", [3, 7, 30, 201, 2001])
def test_straight_line_is_exact(rate, length):
    fit = decay_rate(line(rate, length))
    # Entries near -3 are rounded by up to 1.2e-7, a curve of 3 spans only 1 step.
    assert float(fit.rate) == pytest.approx(rate, rel=1e-4, abs=3e-7)


def test_half_life_is_ln_two_over_the_rate():
    assert float(decay_rate(line(-0.1)).half_life) == pytest.approx(
        math.log(2) / 0.1, rel=1e-4
    )


def test_flat_curve_has_no_half_life():
    fit = decay_rate(jnp.zeros(100))
    assert float(fit.rate) == 0
    assert math.isnan(float(fit.half_life))


def test_minus_infinity_is_left_out_and_too_little_is_nan():
    curve = line(-0.2).at[::3].set(-jnp.inf)
    assert float(decay_rate(curve).rate) == pytest.approx(-0.2, rel=1e-4)
    dead = decay_rate(jnp.full(100, -jnp.inf))
    assert all(math.isnan(float(part)) for part in (dead.rate, dead.half_life))


def test_mask_leaves_out_padding():
    curve = jnp.concatenate([line(-0.2, 100), jnp.full(101, 5.0)])
    mask = jnp.arange(201) < 100
    assert float(decay_rate(curve, mask=mask).rate) == pytest.approx(-0.2, rel=1e-4)
    assert float(decay_rate(curve).rate) != pytest.approx(-0.2, rel=0.1)


def test_burn_in_leaves_out_both_ends():
    curve = line(-0.2, 200).at[:15].add(30.0).at[-15:].add(-30.0)
    assert float(decay_rate(curve, burn_in=0.1).rate) == pytest.approx(-0.2, rel=1e-4)
    assert float(decay_rate(curve, burn_in=0.0).rate) != pytest.approx(-0.2, rel=0.1)


def test_standard_error_covers_random_walks():
    # ln-norm increments are nearly independent: the curve is a walk with drift. A
    # straight-line fit's own residual error would cover almost none of these.
    drift, noise, num_walks = -0.05, 0.3, 400
    steps = drift + noise * jax.random.normal(jax.random.key(0), (num_walks, 1000))
    curves = jnp.cumsum(steps, axis=1)[:, ::-1]
    fits = jax.vmap(decay_rate)(curves)
    inside = jnp.abs(fits.rate - drift) < 2 * fits.standard_error
    # Student's t with 19 degrees of freedom: 94.0 % inside 2 errors; 400 walks have
    # a standard error of 1.2 %. Three of them, plus room for the block approximation.
    assert 0.89 < float(jnp.mean(inside)) < 0.985
    expected = noise * math.sqrt(1.2 / 800)
    assert float(jnp.mean(fits.standard_error)) == pytest.approx(expected, rel=0.1)


def test_half_life_is_refused_on_driftless_walks():
    steps = jax.random.normal(jax.random.key(1), (200, 1000))
    fits = jax.vmap(decay_rate)(jnp.cumsum(steps, axis=1))
    # |t| >= 3 with 19 degrees of freedom happens in 0.7 % of cases.
    assert float(jnp.mean(jnp.isnan(fits.half_life))) > 0.95


def test_agrees_with_numpy_least_squares_on_block_means():
    rng = np.random.default_rng(0)
    curve = np.cumsum(rng.normal(size=220)).astype(np.float32)
    fit = decay_rate(jnp.asarray(curve), burn_in=0.0, num_blocks=20)
    blocks = curve.astype(np.float64).reshape(20, 11)
    centres = np.arange(220.0).reshape(20, 11).mean(1)
    slope = np.polyfit(centres, blocks.mean(1), 1)[0]
    assert float(fit.rate) == pytest.approx(-slope, rel=1e-4)
    inner = [np.polyfit(np.arange(11.0), block, 1)[0] for block in blocks]
    expected = math.sqrt(1.2) * np.std(inner, ddof=1) / math.sqrt(20)
    assert float(fit.standard_error) == pytest.approx(expected, rel=1e-3)


def test_errors():
    with pytest.raises(ValueError, match=r"one curve.*jax\.vmap"):
        decay_rate(jnp.zeros((3, 10)))
    with pytest.raises(ValueError, match="burn_in"):
        decay_rate(jnp.zeros(10), burn_in=0.5)
    with pytest.raises(ValueError, match="num_blocks"):
        decay_rate(jnp.zeros(10), num_blocks=1)
