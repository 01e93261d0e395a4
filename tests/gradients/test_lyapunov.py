"""Lyapunov exponents: maps, flows, random matrices and networks with known answers."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import polygamma

from experiments.studies.kit.systems import chaotic_lstm, silence
from seqjax import Cell, cells
from seqjax.gradients.lyapunov import (
    entropy_rate,
    finite_time_exponents,
    kaplan_yorke_dimension,
    lyapunov_exponents,
    mean_log_determinant,
)
from seqjax.gradients.theory import mean_field, newman_spectrum
from tests.gradients import systems
from tests.helpers import random_like


def drawn(cell, seed=0, scale=0.5):
    """Random parameters; initialisers take longer to compile than all that follows."""
    return random_like(jax.eval_shape(cell.init, jax.random.key(0)), seed, scale)


def spectrum(cell, params, xs, num_exponents=None, **options):
    @jax.jit
    def measure(xs):
        return lyapunov_exponents(cell, params, xs, num_exponents, **options)

    return jax.tree.map(np.asarray, measure(xs))


def exponents(cell, num_steps, num_exponents=None, params=(), **options):
    xs = silence(num_steps)
    return spectrum(cell, params, xs, num_exponents, **options).exponents


def exponents_and_determinant(cell, params, xs):
    @jax.jit
    def measure(xs):
        return (
            lyapunov_exponents(cell, params, xs),
            mean_log_determinant(cell, params, xs),
        )

    found, determinant = measure(xs)
    return jax.tree.map(np.asarray, found), float(determinant)


# Maps and flows ----------------------------------------------------------------------


def test_arnold_cat_map_is_exact():
    expected = math.log((3 + math.sqrt(5)) / 2)
    # The Jacobian is constant; the frame forgets its start by e^(−1.92) per step.
    found = exponents(systems.arnold_cat(), 400)
    np.testing.assert_allclose(found, [expected, -expected], rtol=3e-7)


def test_tent_map_is_ln_slope():
    # |slope| is the same everywhere: one float32 logarithm, and exact sums.
    assert exponents(systems.tent(), 400)[0] == pytest.approx(math.log(1.9), rel=2e-7)


def test_logistic_map_is_ln_two(x64):
    found = exponents(systems.logistic(dtype=jnp.float64), 200_000)
    # ln |f′| is ln 2 plus g(x′) − g(x) with g = ½ ln(x(1 − x)): what is left of the sum
    # is a difference of two such terms, each within 0 … −10 but for a share of 6e-5 of
    # all x.
    assert found[0] == pytest.approx(math.log(2), abs=10 / 180_000)


def test_henon_map_contracts_areas_by_b(x64):
    found = exponents(systems.henon(dtype=jnp.float64), 200_000)
    # det J = −b at every point: a few roundings of 1.6.
    assert float(found.sum()) == pytest.approx(math.log(0.3), abs=2e-15)
    # Published 0.419; over this length orbits scatter by 0.001.
    assert found[0] == pytest.approx(0.419, abs=0.004)


def test_henon_map_contracts_areas_by_b_in_float32():
    found = exponents(systems.henon(), 20_000)
    # b is right to 6e-8, the two exponents and their sum to a rounding of 1.6.
    assert float(found.sum()) == pytest.approx(math.log(0.3), abs=5e-7)


def test_lorenz_system_in_units_of_time(x64):
    interval = 0.01
    found = exponents(systems.lorenz(interval, dtype=jnp.float64), 60_000) / interval
    # Over 540 time units λ₁ scatters by about 0.005; published 0.9056, 0, −14.572.
    np.testing.assert_allclose(found, [0.9056, 0.0, -14.572], atol=0.02)
    # The flow's divergence is −σ − 1 − β everywhere; Runge–Kutta is off by 1e-4, the
    # same on all orbits.
    assert found.sum() == pytest.approx(-41 / 3, abs=2e-4)
    dimension = float(kaplan_yorke_dimension(jnp.asarray(found)))
    assert dimension == pytest.approx(2.062, abs=0.005)


def test_two_unit_lstm_is_chaotic(x64):
    cell = chaotic_lstm()
    params = cell.init(jax.random.key(0))
    found = spectrum(cell, params, jnp.zeros((40_000, 1)))
    # An independent computation over 2e5 steps gave .1706, −.3849, −1.6776, −4.6253 and
    # the sum −6.517247; standard errors are .0017, .0015, .004 and .006 here.
    expected = np.array([0.1706, -0.3849, -1.6776, -4.6253])
    errors = np.abs(found.exponents - expected)
    assert np.all(errors < [0.008, 0.008, 0.02, 0.025])
    assert found.exponents[0] > 10 * found.standard_errors[0]
    assert found.exponents.sum() == pytest.approx(-6.517247, abs=0.025)


# Networks ----------------------------------------------------------------------------


def test_tanh_network_at_rest_has_the_moduli_of_its_eigenvalues():
    size = 8
    cell = cells.elman(1, size)
    params = drawn(cell, scale=0.2)._replace(bias=jnp.zeros(size))
    found = spectrum(cell, params, jnp.zeros((4000, 1)))
    moduli = np.abs(np.linalg.eigvals(np.asarray(params.recurrent_kernel)))
    expected = np.sort(np.log(moduli))[::-1]
    # Complex pairs turn in a plane: both exponents of a pair swing by O(1) over the
    # whole length of 3,600 steps, and as much about a start that is not aligned.
    np.testing.assert_allclose(found.exponents, expected, atol=2 / 3600)


def test_tanh_network_at_rest_with_real_eigenvalues():
    # Nothing turns, so that all exponents come out at once. ln ρ = ln 0.9.
    eigenvalues = np.array([0.9, -0.7, 0.5, 0.35, -0.2])
    vectors = np.random.default_rng(0).normal(size=(5, 5)) + 3 * np.eye(5)
    kernel = vectors @ np.diag(eigenvalues) @ np.linalg.inv(vectors)
    # Far from normal: singular values would be others.
    assert np.linalg.norm(kernel, 2) > 1
    params = cells.ElmanParams(
        jnp.zeros((1, 5)), jnp.asarray(kernel, jnp.float32), jnp.zeros(5)
    )
    found = spectrum(cells.elman(1, 5), params, jnp.zeros((2000, 1)))
    # Float32 entries, times the condition of the eigenvectors, about 12.
    expected = np.log(np.abs(eigenvalues))
    np.testing.assert_allclose(found.exponents, expected, rtol=0, atol=3e-6)


# Rounding of a few logarithms of size 1.
PRECISIONS = [(jnp.float32, 2e-7), (jnp.float64, 2e-15)]


@pytest.mark.parametrize(("dtype", "atol"), PRECISIONS)
def test_cornn_contracts_volumes_at_a_known_rate(dtype, atol):
    size, rate, damping = 4, 0.1, 2.0
    with jax.enable_x64(dtype == jnp.float64):
        cell = systems.cornn(size, rate, frequency=1.0, damping=damping, dtype=dtype)
        xs = jax.random.normal(jax.random.key(2), (400, size), dtype)
        found = spectrum(cell, drawn(cell), xs).exponents
    total = float(found.sum())
    assert total == pytest.approx(size * math.log(1 - rate * damping), abs=atol)


@pytest.mark.parametrize(("dtype", "atol"), PRECISIONS)
def test_symplectic_cell_has_pairs_of_opposite_exponents(dtype, atol):
    size = 3
    with jax.enable_x64(dtype == jnp.float64):
        cell = systems.unicornn(size, rate=0.5, frequency=-0.5, dtype=dtype)
        weights = jnp.array([0.1, 0.3, 0.9], dtype)
        xs = jnp.zeros((2000, size), dtype)
        found = spectrum(cell, weights, xs).exponents
    assert found.dtype == dtype
    # At rest y″ = −(w + α) y: unstable where w < 1/2, or turning, whose exponents swing
    # by O(1) over 1,800 steps.
    assert found[0] > 0.1
    assert found.sum() == pytest.approx(0, abs=atol)
    np.testing.assert_allclose(found, -found[::-1], atol=2 / 1800)


def test_random_network_meets_mean_field_theory():
    size, gain = 128, 2.0
    cell = systems.random_tanh(size, gain)
    theory = mean_field(gain)

    @jax.jit
    def measure(params, xs):
        return (
            lyapunov_exponents(cell, params, xs, 1).exponents[0],
            mean_log_determinant(cell, params, xs[:60], burn_in=0.5) / size,
        )

    largest, mean = measure(cell.init(jax.random.key(1)), silence(1500))
    # Single matrices of this size scatter by about 0.015 and 0.03 about the limit.
    assert float(largest) == pytest.approx(float(theory.largest_exponent), abs=0.05)
    assert float(mean) == pytest.approx(float(theory.mean_exponent), abs=0.1)


def test_products_of_gaussian_matrices_follow_newman():
    size, num_steps = 4, 10_000
    rng = np.random.default_rng(3)
    xs = jnp.asarray(rng.normal(size=(num_steps, size, size)) / 2, jnp.float32)
    found = spectrum(systems.gaussian_products(size), (), xs)
    # ln R²ᵢᵢ is the logarithm of a χ² variable, independent from step to step.
    variance = polygamma(1, np.arange(size, 0, -1) / 2) / 4
    errors = np.sqrt(variance / (0.9 * num_steps))
    expected = newman_spectrum(size, 1 / math.sqrt(size))
    assert np.all(np.abs(found.exponents - expected) < 4 * errors)
    # 20 blocks fix a standard error to 16 %.
    np.testing.assert_allclose(found.standard_errors, errors, rtol=0.5)


# The sum of all exponents is the mean ln |det J| --------------------------------------

# Lengths whose nine tenths fill the 20 blocks: both sides count the same steps.

CELLS = {
    "elman": functools.partial(cells.elman, 2, 4),
    "jordan": functools.partial(cells.jordan, 2, 4),
    "lstm": functools.partial(cells.lstm, 2, 3, peephole=True),
    "gru": functools.partial(cells.gru, 2, 4),
}


@pytest.mark.parametrize("name", CELLS)
# An identity at any length; a few hundred roundings per step.
@pytest.mark.parametrize(("dtype", "atol"), [(jnp.float32, 5e-6), (jnp.float64, 1e-13)])
def test_sum_of_exponents_is_the_mean_log_determinant(name, dtype, atol):
    with jax.enable_x64(dtype == jnp.float64):
        cell = CELLS[name](dtype=dtype)
        xs = jax.random.normal(jax.random.key(0), (200, 2), dtype)
        found, determinant = exponents_and_determinant(cell, drawn(cell), xs)
    assert found.exponents[0] - found.exponents[-1] > 0.1
    assert found.exponents.dtype == dtype
    assert float(found.exponents.sum()) == pytest.approx(determinant, abs=atol)


def test_sum_of_exponents_is_the_mean_log_determinant_of_many_units():
    cell = cells.elman(2, 100)
    xs = jax.random.normal(jax.random.key(0), (67, 2))
    found, determinant = exponents_and_determinant(cell, drawn(cell, scale=0.1), xs)
    # 100 exponents down to −4, each right to some roundings of it.
    assert float(found.exponents.sum()) == pytest.approx(determinant, abs=5e-5)


def test_sum_of_exponents_is_the_mean_log_determinant_in_chaos(x64):
    cell = chaotic_lstm()
    params = cell.init(jax.random.key(0))
    found, determinant = exponents_and_determinant(cell, params, jnp.zeros((44, 1)))
    # In 44 steps the two programs' roundings grow by e^(44 · 0.17) = 2e3.
    assert float(found.exponents.sum()) == pytest.approx(determinant, abs=1e-12)


# Estimator ---------------------------------------------------------------------------


def test_long_float32_sums_keep_their_digits():
    # λ = ln 0.3 at every step: a running float32 sum of 1e5 is off by 1e-3 of it.
    cell = systems.linear(jnp.full((1, 1), 0.3))
    found = exponents(cell, 100_000)
    assert found[0] == pytest.approx(math.log(np.float32(0.3)), rel=3e-7)


def test_fewer_columns_and_factorisations_give_the_first_exponents():
    # Eigenvalues on the diagonal; columns shear by O(1).
    matrix = np.triu(np.ones((4, 4)), 1) + np.diag([0.5, 2.0, 0.9, 1.2])
    cell = systems.linear(jnp.asarray(matrix, jnp.float32))
    found = exponents(cell, 1000, 3, qr_every=5)
    # Aligned after 100 steps by (0.9/1.2)^100; float32 rounding of five steps.
    np.testing.assert_allclose(found, np.log([2.0, 1.2, 0.9]), atol=2e-5)


def test_windows_average_to_the_exponents():
    cell = systems.random_tanh(3, 0.9)
    xs = silence(1010)
    params = cell.init(jax.random.key(0))

    @jax.jit
    def measure(xs):
        return (
            finite_time_exponents(cell, params, xs, 45),
            lyapunov_exponents(cell, params, xs),
        )

    rates, found = measure(xs)
    assert rates.shape == (20, 3)
    means = np.mean(rates, axis=0)
    np.testing.assert_allclose(np.sort(means)[::-1], found.exponents, atol=1e-5)
    errors = np.std(rates, axis=0, ddof=1) / math.sqrt(20)
    np.testing.assert_allclose(errors, found.standard_errors, rtol=1e-3)


def test_burn_in_is_left_out_of_both():
    # Doubling for the first half, halving after.
    cell = Cell(
        init=lambda key: (),
        initial_carry=lambda params: jnp.ones(2),
        step=lambda params, carry, x: (carry * x, carry),
        input_ndim=0,
    )
    xs = jnp.concatenate([jnp.full(50, 2.0), jnp.full(50, 0.5)])

    @jax.jit
    def measure(xs):
        return [
            (
                lyapunov_exponents(cell, (), xs, burn_in=burn_in).exponents,
                mean_log_determinant(cell, (), xs, burn_in=burn_in),
            )
            for burn_in in (0.5, 0.0)
        ]

    (late, late_determinant), (all_, determinant) = measure(xs)
    # 50 steps hold 20 blocks of 2: the rest is left out at the start.
    np.testing.assert_allclose(late, -math.log(2), rtol=1e-6)
    assert float(late_determinant) == pytest.approx(-2 * math.log(2), rel=1e-6)
    np.testing.assert_allclose(all_, 0, atol=1e-6)
    assert determinant == pytest.approx(0, abs=1e-6)


def test_key_draws_the_frame_and_vmap_runs_a_batch():
    matrix = np.array([[1.0, 2.0], [-0.5, 1.5]])
    cell = systems.linear(jnp.asarray(matrix, jnp.float32))

    @jax.jit
    @jax.vmap
    def measure(key):
        xs = silence(30)
        return lyapunov_exponents(cell, (), xs, key=key, burn_in=0.0).exponents

    batch = measure(jax.random.split(jax.random.key(1), 2))
    expected = math.log(np.linalg.det(matrix))
    np.testing.assert_allclose(np.sum(batch, axis=1), expected, rtol=1e-6)
    # Thirty steps are too few to forget the start.
    assert np.max(np.abs(batch[0] - batch[1])) > 1e-4


def test_dead_directions_are_minus_infinity_without_nan():
    cell = systems.linear(jnp.zeros((2, 2)))
    found = spectrum(cell, (), silence(100))
    assert np.all(found.exponents == -np.inf)
    assert np.all(found.standard_errors == 0)
    assert mean_log_determinant(cell, (), silence(100)) == -math.inf
    assert float(kaplan_yorke_dimension(jnp.asarray(found.exponents))) == 0
    assert float(entropy_rate(jnp.asarray(found.exponents))) == 0


# Summaries ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "dimension"),
    [
        ([0.5, -0.25, -1.0], 2.25),  # 2 + (0.5 − 0.25) / 1
        ([0.0, -1.0], 1.0),
        ([-0.1, -1.0], 0.0),
        ([1.0, 0.5], 2.0),
        ([0.5, -jnp.inf], 1.0),
    ],
)
def test_kaplan_yorke_dimension_by_hand(values, dimension):
    assert float(kaplan_yorke_dimension(jnp.array(values))) == dimension


def test_entropy_rate_sums_positive_exponents():
    assert float(entropy_rate(jnp.array([-0.5, 0.5, 0.25]))) == 0.75


def test_errors():
    cell = cells.gru(1, 2)
    params = drawn(cell)
    xs = jnp.zeros((100, 1))
    with pytest.raises(ValueError, match=r"one sequence.*jax\.vmap"):
        lyapunov_exponents(cell, params, xs[None])
    with pytest.raises(ValueError, match=r"num_exponents: expected at most 2.*3"):
        lyapunov_exponents(cell, params, xs, 3)
    with pytest.raises(ValueError, match=r"got 100 steps; give more"):
        lyapunov_exponents(cell, params, xs, num_blocks=91)
    with pytest.raises(ValueError, match="burn_in"):
        mean_log_determinant(cell, params, xs, burn_in=1.0)
    with pytest.raises(ValueError, match="got 100 steps"):
        finite_time_exponents(cell, params, xs, 91)
