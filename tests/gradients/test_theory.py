"""Theory against integrals, simulations and derivations of its own."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import psi

from seqjax.gradients import log_gradient_norms
from seqjax.gradients.theory import (
    critical_gain,
    curse_of_memory,
    diagonal_log_norms,
    mean_field,
    newman_spectrum,
)
from tests.gradients import systems

MEAN_FIELD = jax.jit(mean_field)


def normal_mean(fn, variance):
    """E[fn(√variance z)] by adaptive quadrature."""

    def integrand(z):
        return fn(math.sqrt(variance) * z) * math.exp(-z * z / 2)

    return quad(integrand, -12, 12, limit=400, points=[0])[0] / math.sqrt(2 * math.pi)


def log_sech2(a):
    return 2 * (math.log(2) - abs(a) - math.log1p(math.exp(-2 * abs(a))))


@pytest.mark.parametrize(
    ("gain", "variance", "largest"),
    [(1.5, 0.7934, 0.0652), (2.0, 2.1215, 0.1547), (3.0, 6.3054, 0.3102)],
)
def test_random_network_without_drive(gain, variance, largest):
    # Values of an independent computation, to its four digits.
    flow = MEAN_FIELD(gain, 0.0, 0.0)
    assert float(flow.variance) == pytest.approx(variance, abs=6e-5)
    assert float(flow.largest_exponent) == pytest.approx(largest, abs=6e-5)


@pytest.mark.parametrize(
    ("gain", "inputs", "biases"), [(0.7, 0.3, 0.0), (1.4, 0.05, 0.1), (6.0, 1.0, 0.5)]
)
def test_mean_field_solves_its_equations(gain, inputs, biases):
    flow = MEAN_FIELD(gain, inputs, biases)
    q = float(flow.variance)
    # Adaptive quadrature in float64 against 801 float32 nodes: 1e-6 of each integral.
    second_moment = normal_mean(lambda a: math.tanh(a) ** 2, q)
    assert q == pytest.approx(gain**2 * second_moment + inputs + biases, rel=3e-6)
    chi = gain**2 * normal_mean(lambda a: math.exp(2 * log_sech2(a)), q)
    assert float(flow.chi) == pytest.approx(chi, rel=3e-6)
    assert float(flow.largest_exponent) == pytest.approx(math.log(chi) / 2, abs=3e-6)
    assert float(flow.depth_scale) == pytest.approx(-1 / math.log(chi), rel=1e-4)
    mean = math.log(gain) - 0.5 + normal_mean(log_sech2, q)
    assert float(flow.mean_exponent) == pytest.approx(mean, rel=3e-6)


def test_below_the_edge_without_drive_the_network_is_silent():
    flow = mean_field(jnp.array([0.5, 0.9, 1.0]))
    # h = 0 is the fixed point; the spectral radius of g W is g.
    np.testing.assert_allclose(flow.variance, 0, atol=1e-12)
    np.testing.assert_allclose(
        flow.largest_exponent, np.log([0.5, 0.9, 1.0]), atol=1e-6
    )
    # A Gaussian matrix of unit gain has ln |det| = −size/2.
    np.testing.assert_allclose(
        flow.mean_exponent, np.log([0.5, 0.9, 1.0]) - 0.5, atol=1e-6
    )
    assert float(flow.depth_scale[2]) == math.inf
    assert float(flow.depth_scale[1]) == pytest.approx(-0.5 / math.log(0.9), rel=1e-4)


def test_driven_network_in_simulation():
    # Form (b), with fresh inputs and fixed biases, 1,500 units.
    size, gain, inputs, biases = 1500, 1.6, 0.2, 0.1
    rng = np.random.default_rng(0)
    kernel = gain * rng.normal(size=(size, size)) / math.sqrt(size)
    bias = math.sqrt(biases) * rng.normal(size=size)
    h, tangent, logs, variances = np.zeros(size), np.ones(size), [], []
    for _ in range(120):
        a = kernel @ h + math.sqrt(inputs) * rng.normal(size=size) + bias
        h = np.tanh(a)
        tangent = (1 - h**2) * (kernel @ tangent)
        logs.append(math.log(np.linalg.norm(tangent)))
        tangent /= np.linalg.norm(tangent)
        variances.append(np.mean(a**2))
    flow = MEAN_FIELD(gain, inputs, biases)
    # 100 steps of 1,500 units: 2 % in one variance, less in their mean; the bias is
    # drawn once, 4 % of 0.1. Exponents scatter by 1/√(1500 · 100) and the matrix.
    assert np.mean(variances[20:]) == pytest.approx(float(flow.variance), rel=0.02)
    assert np.mean(logs[20:]) == pytest.approx(float(flow.largest_exponent), abs=0.01)


def test_critical_gain_puts_chi_at_one():
    inputs, biases = jnp.array([0.0, 0.01, 1.0, 50.0]), 0.02
    gains = jax.jit(critical_gain)(inputs, biases)
    # Of a gain that is right to rounding.
    np.testing.assert_allclose(MEAN_FIELD(gains, inputs, biases).chi, 1, atol=1e-5)
    assert bool(jnp.all(jnp.diff(gains) > 0))
    assert float(critical_gain()) == 1


def test_newman_against_digamma_and_direct_simulation():
    size, stddev = 3, 0.7
    found = newman_spectrum(size, stddev)
    ranks = np.arange(1, size + 1)
    expected = 0.5 * (math.log(2 * stddev**2) + psi((size - ranks + 1) / 2))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # λ₁ + … + λₖ is the mean ln-volume of k independent Gaussian vectors, by QR.
    rng = np.random.default_rng(0)
    draws = stddev * rng.normal(size=(20_000, size, size))
    diagonals = np.abs(np.diagonal(np.linalg.qr(draws)[1], axis1=1, axis2=2))
    # Standard errors: up to 1.1/√20000 = 0.008.
    np.testing.assert_allclose(found, np.log(diagonals).mean(axis=0), atol=0.03)


def test_newman_of_wide_networks_has_mean_minus_half():
    found = newman_spectrum(2000, 2000**-0.5)
    assert float(found[0]) == pytest.approx(0, abs=1e-3)
    # The smallest exponents are off by ln(size)/size each.
    assert float(jnp.mean(found)) == pytest.approx(-0.5, abs=2e-3)


@pytest.mark.parametrize("eigenvalue", [0.0, 0.5, -0.8, 0.99])
def test_curse_of_memory_by_the_sum_over_lags(eigenvalue):
    # h = Σ λᵏ x and ∂h/∂λ = Σ k λ^(k−1) x, with independent x of variance 1.
    lags = np.arange(1, 20_000)
    powers = np.float64(eigenvalue) ** (lags - 1)
    curse = curse_of_memory(eigenvalue)
    # λ = 0.99 in float32 is off by 2e-8: 1e-6 of 1 − λ, three times for its cube.
    assert float(curse.state) == pytest.approx(np.sum(powers**2), rel=5e-6)
    expected = np.sum((lags * powers) ** 2)
    assert float(curse.sensitivity) == pytest.approx(expected, rel=1e-5)


def test_curse_of_memory_is_infinite_at_modulus_one():
    assert float(curse_of_memory(1.0).sensitivity) == math.inf


def test_diagonal_recurrence_curve_is_measured_by_the_adjoint():
    size, num_steps = 5, 1500
    cell = systems.diagonal_complex(size, 0.5, 0.999)
    params = cell.init(jax.random.key(0))
    weights = jnp.linspace(0.1, 1, size)

    def loss(ys):
        return jnp.sum(weights * ys[-1, 0])

    xs = jnp.zeros((num_steps, size))
    measured = jax.jit(
        lambda xs: log_gradient_norms(cell, params, xs, loss).joint[:-1]
    )(xs)
    lags = jnp.arange(num_steps, 0, -1)
    log_moduli = -jnp.exp(params[0])
    curve = diagonal_log_norms(log_moduli, lags, jnp.log(weights))
    # |λ| near 1 is rounded by 6e-8, the same at each of 1,500 steps.
    np.testing.assert_allclose(measured, curve, atol=1500 * 2e-7)
    # Finite lag: slopes per step approach the slowest mode's from below.
    slopes = np.diff(np.asarray(curve)[::-1])
    slowest = float(jnp.max(log_moduli))
    assert slopes[0] < slopes[100] < slopes[1400]
    assert slopes[1400] == pytest.approx(slowest, rel=0.05)
    assert slopes[0] < 3 * slowest


def test_diagonal_curve_far_beyond_float32_and_with_dead_modes():
    log_moduli = jnp.array([-0.5, -jnp.inf])
    curve = diagonal_log_norms(log_moduli, jnp.array([0, 1, 100_000]))
    # e^−50,000 is nowhere near float32; the dead mode counts at lag 0 only.
    expected = [0.5 * math.log(2), -0.5, -50_000.0]
    np.testing.assert_allclose(curve, expected, rtol=1e-6)
    dead = diagonal_log_norms(jnp.full(2, -jnp.inf), jnp.array([3]))
    assert float(dead[0]) == -math.inf


def test_errors():
    with pytest.raises(ValueError, match="two vectors"):
        diagonal_log_norms(jnp.zeros((2, 2)), jnp.arange(3))
    with pytest.raises(ValueError, match="size"):
        newman_spectrum(0, 1.0)
