"""Jacobians and singular values of long products: closed forms and second routes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from experiments.studies.kit.systems import silence
from seqjax import Cell, cells
from seqjax.combinators import bidirectional, stack
from seqjax.gradients.frames import random_frame, ravel_carry, scan_sum
from seqjax.gradients.jacobian import (
    carry_jacobians,
    log_condition_number,
    log_singular_values,
    one_step_bound,
)
from tests.gradients import systems
from tests.helpers import random_like

NUM_STEPS = 400  # of six entries: one compiled program serves most tests here
VALUES = jax.jit(log_singular_values, static_argnames="num_sweeps")


def drawn(cell, seed=0, scale=0.5):
    """Random parameters; initialisers take longer to compile than all that follows."""
    shapes = jax.eval_shape(cell.init, jax.random.key(0))
    return random_like(shapes, seed, scale)


def jacobians_of(cell, params, xs):
    return jax.jit(lambda xs: carry_jacobians(cell, params, xs))(xs)


# The carry's Jacobian ----------------------------------------------------------------


def test_rows_are_the_later_carry_and_parts_follow_the_tree():
    cell = stack(cells.lstm(2, 3), cells.gru(3, 2))
    params = drawn(cell)
    xs = jax.random.normal(jax.random.key(1), (3, 2))
    flat, unflatten = ravel_pytree(cell.initial_carry(params))

    def step(flat, x):
        return ravel_pytree(cell.step(params, unflatten(flat), x)[0])[0]

    backward = jax.jit(lambda flat, x: (step(flat, x), jax.jacrev(step)(flat, x)))
    jacobians = jacobians_of(cell, params, xs)
    assert jacobians.shape == (3, 8, 8)
    for x, jacobian in zip(xs, jacobians, strict=True):
        flat, expected = backward(flat, x)
        # Forward against backward mode: about ten float32 roundings of values near 1.
        np.testing.assert_allclose(jacobian, expected, atol=1e-6)


def test_given_carry_enters_the_first_step():
    cell = systems.logistic()
    jacobians = carry_jacobians(cell, (), silence(2), jnp.full(1, 0.25))
    # r (1 − 2 x) at x = 1/4 and at 4 · 1/4 · 3/4 = 3/4: exact in binary.
    np.testing.assert_array_equal(jacobians[:, 0, 0], [2.0, -2.0])


def test_gru_at_the_origin_is_half_identity_plus_quarter_kernel():
    cell = cells.gru(2, 5)
    params = drawn(cell)
    zeros = jax.tree.map(jnp.zeros_like, params)
    params = zeros._replace(recurrent_kernel=params.recurrent_kernel)
    jacobian = jacobians_of(cell, params, jnp.zeros((1, 2)))[0]
    # r = z = 1/2 at the origin; kernels multiply from the right, hence the transpose.
    kernel = np.asarray(params.recurrent_kernel)[:, 10:]
    # Rounding of entries near 1 alone.
    np.testing.assert_allclose(jacobian, np.eye(5) / 2 + kernel.T / 4, atol=1e-7)


def test_identity_network_has_identity_jacobians():
    cell = cells.irnn(1, 4)
    params = cells.ElmanParams(jnp.zeros((1, 4)), jnp.eye(4), jnp.ones(4))
    jacobians = jacobians_of(cell, params, jnp.zeros((20, 1)))
    np.testing.assert_array_equal(jacobians, np.broadcast_to(np.eye(4), (20, 4, 4)))


def test_counters_are_left_out_and_narrow_parts_are_widened():
    def step(params, carry, x):
        count, half = carry
        # The counter decides: doubling at even steps only.
        factor = jnp.where(count % 2 == 0, 2, 1).astype(half.dtype)
        return (count + 1, half * factor), half

    start = (jnp.zeros((), jnp.int32), jnp.ones(2, jnp.bfloat16))
    cell = Cell(lambda key: (), lambda params: start, step)
    jacobians = carry_jacobians(cell, (), silence(3))
    assert jacobians.dtype == jnp.float32
    expected = np.array([2.0, 1.0, 2.0])[:, None, None] * np.eye(2)[None]
    np.testing.assert_array_equal(jacobians, expected)


# Singular values of long products ----------------------------------------------------


def orthogonal(size):
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(size, size)))
    return jnp.asarray(q, jnp.result_type(float))


@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_orthogonal_recurrence_keeps_all_values_equal(gain):
    cell = systems.scaled_orthogonal(6, gain)
    jacobians = jacobians_of(cell, orthogonal(6), silence(NUM_STEPS))
    # The plain product is 0 in float32, or inf.
    assert abs(NUM_STEPS * math.log(gain)) > 200
    values = VALUES(jacobians)
    # Every step's Q is orthonormal to float32 rounding, 1e-7, the same for all steps.
    expected = NUM_STEPS * math.log(gain)
    np.testing.assert_allclose(values, expected, rtol=0, atol=NUM_STEPS * 3e-7)
    assert float(log_condition_number(values)) < NUM_STEPS * 6e-7


def test_orthogonal_recurrence_in_float64(x64):
    cell = systems.scaled_orthogonal(6, 0.9, jnp.float64)
    jacobians = jacobians_of(cell, orthogonal(6), silence(50))
    # 50 products and factorisations, each right to about 2e-16.
    expected = np.full(6, 50 * math.log(0.9))
    np.testing.assert_allclose(VALUES(jacobians), expected, rtol=0, atol=2e-14)


def test_diagonal_recurrence_has_each_modulus_twice():
    cell = systems.diagonal_complex(3)
    params = cell.init(jax.random.key(1))
    jacobians = jacobians_of(cell, params, jnp.zeros((NUM_STEPS, 3)))
    expected = np.repeat(np.sort(-np.exp(params[0]))[::-1], 2) * NUM_STEPS
    # Beyond float32: its smallest number is e^−103.
    assert expected[-1] < -103
    # Rounding of |λ| near 1 is 6e-8 per step.
    np.testing.assert_allclose(VALUES(jacobians), expected, atol=NUM_STEPS * 3e-7)


def check_antisymmetric_cell(dtype, error_per_step):
    size, rate, damping = 6, 0.1, 0.5
    cell = systems.antisymmetric(size, rate, damping, dtype)
    kernel = cell.init(jax.random.key(1))
    jacobians = jacobians_of(cell, kernel, jnp.zeros((NUM_STEPS, size), dtype))
    skew = np.asarray(kernel, np.float64) + damping * np.eye(size)
    frequencies = np.sort(np.abs(np.linalg.eigvals(skew).imag))[::-1]
    one_step = np.sqrt((1 - rate * damping) ** 2 + (rate * frequencies) ** 2)
    # I + ε(A − γI) is normal: its powers have the powers of its singular values.
    expected = NUM_STEPS * np.log(one_step)
    atol = NUM_STEPS * error_per_step
    np.testing.assert_allclose(VALUES(jacobians), expected, rtol=0, atol=atol)


def test_antisymmetric_cell_at_rest():
    check_antisymmetric_cell(jnp.float32, 1e-7)  # one rounding


def test_antisymmetric_cell_at_rest_in_float64(x64):
    check_antisymmetric_cell(jnp.float64, 6e-16)  # a few roundings


@pytest.mark.parametrize("num_steps", [9, 2000])
def test_shear_grows_before_it_decays(num_steps, x64):
    modulus, shear = 0.9, 5.0
    cell = systems.linear(jnp.array([[modulus, shear], [0, modulus]]))
    jacobians = jacobians_of(cell, (), silence(num_steps))
    # The power is aᵗ [[1, tk/a], [0, 1]], whose singular values are e^(±asinh(tk/2a)).
    growth = math.asinh(num_steps * shear / modulus / 2)
    expected = num_steps * math.log(modulus) + np.array([growth, -growth])
    # Rounding splits the double eigenvalue by √(5 · 1e-16) = 2e-8 per step.
    atol = num_steps * 3e-8
    np.testing.assert_allclose(VALUES(jacobians), expected, rtol=0, atol=atol)


def test_shear_peaks_at_step_nine():
    matrix = jnp.array([[0.9, 5.0], [0.0, 0.9]])
    steps = np.array([8, 9, 10])
    real = (np.arange(10)[None] < steps[:, None])[..., None, None]
    powers = jnp.where(real, matrix[None, None], jnp.eye(2)[None, None])
    norms = np.exp(jax.jit(jax.vmap(log_singular_values))(powers)[:, 0])
    # The corner t k a^(t−1) is largest at t = 9; the norm there is 19.379.
    assert np.argmax(norms) == 1
    assert norms[1] == pytest.approx(19.379, abs=1e-3)


def test_agrees_with_numpy_on_a_short_product():
    rng = np.random.default_rng(0)
    jacobians = rng.normal(size=(5, 4, 4))
    product = functools.reduce(lambda total, j: j @ total, jacobians)
    expected = np.log(np.linalg.svd(product, compute_uv=False))
    # 40 sweeps leave nothing of neighbours that differ by more than a tenth; float32
    # rounding is 1e-7 times the condition of single steps, about 30.
    values = log_singular_values(jnp.asarray(jacobians, jnp.float32), num_sweeps=40)
    np.testing.assert_allclose(values, expected, atol=2e-5)
    transposed = jnp.asarray(np.swapaxes(jacobians, 1, 2)[::-1], jnp.float32)
    np.testing.assert_allclose(
        log_singular_values(transposed, num_sweeps=40), expected, atol=2e-5
    )


def test_error_of_close_neighbours_is_what_the_docstring_says():
    # σ₂/σ₁ = e^(−1/(4m)) is the worst ratio after m sweeps.
    num_sweeps = 8
    log_ratio = -1 / (4 * num_sweeps)
    pair = jnp.diag(jnp.array([1.0, math.exp(log_ratio)]))[None]
    values = VALUES(pair, num_sweeps=num_sweeps)
    frame = random_frame(jax.random.key(0), 2, 2, jnp.float32)
    tangent = float(frame[1, 0] / frame[0, 0])
    # The tangent shrinks by the ratio in each of the 2m − 1 ways before the last one.
    left = (tangent * math.exp(log_ratio * (2 * num_sweeps - 1))) ** 2
    error = 0.5 * math.log((1 + math.exp(2 * log_ratio) * left) / (1 + left))
    assert -error < 1.1 * tangent**2 / (4 * math.e * num_sweeps)
    # A few float32 roundings per way.
    np.testing.assert_allclose(values, [error, log_ratio - error], atol=1e-5)


def test_float32_agrees_with_float64_where_products_underflow():
    with jax.enable_x64(True):
        cell = cells.lstm(2, 3, dtype=jnp.float64)
        xs = jax.random.normal(jax.random.key(1), (NUM_STEPS, 2), jnp.float64)
        jacobians = np.asarray(jacobians_of(cell, drawn(cell), xs))
        truth = np.asarray(VALUES(jacobians))
    values = VALUES(jnp.asarray(jacobians, jnp.float32))
    assert values.dtype == jnp.float32
    assert truth[-1] < -300
    # Single steps have a condition of about 30, which multiplies the rounding of each
    # of 400 steps, 1e-7.
    np.testing.assert_allclose(values, truth, atol=1e-3)


def test_exact_zeros_are_minus_infinity():
    values = VALUES(jnp.zeros((NUM_STEPS, 6, 6)))
    assert bool(jnp.all(values == -jnp.inf))
    assert log_condition_number(values) == jnp.inf
    halves = jnp.broadcast_to(jnp.diag(jnp.arange(6) / 2), (NUM_STEPS, 6, 6))
    values = VALUES(halves)
    expected = NUM_STEPS * np.log(np.arange(5, 0, -1) / 2)
    np.testing.assert_allclose(values[:5], expected, atol=NUM_STEPS * 3e-7)
    # The columns that meet the dead direction are rounding noise beside the others.
    assert values[5] < NUM_STEPS * -10


def test_vmap_runs_a_batch():
    cell = cells.gru(1, 3)
    params = drawn(cell)
    xs = jax.random.normal(jax.random.key(1), (2, 5, 1))

    @jax.jit
    @jax.vmap
    def measure(xs):
        jacobians = carry_jacobians(cell, params, xs)
        return jacobians, log_singular_values(jacobians)

    for jacobians, values in zip(*measure(xs), strict=True):
        product = functools.reduce(lambda total, j: j @ total, np.asarray(jacobians))
        expected = np.log(np.linalg.svd(product, compute_uv=False))
        # Five steps of condition 5 in float32; neighbours are far apart.
        np.testing.assert_allclose(values, expected, atol=1e-3)


# Bounds and errors -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "slope"),
    [("tanh", 1), ("sigmoid", 0.25), ("relu", 1), (lambda a: 3 * jnp.sin(a), 3)],
)
def test_one_step_bound_is_norm_times_steepest_slope(activation, slope):
    kernel = jnp.array([[3.0, 0.0], [4.0, 0.0]])
    bound = float(one_step_bound(kernel, activation))
    assert bound == pytest.approx(5 * slope, rel=1e-5)


def test_one_step_bound_holds_and_is_reached_at_rest():
    xs = jax.random.normal(jax.random.key(1), (20, 1)).at[0].set(0)
    cell = cells.elman(1, 4)
    params = drawn(cell)._replace(bias=jnp.zeros(4))
    norms = np.linalg.norm(np.asarray(jacobians_of(cell, params, xs)), 2, axis=(1, 2))
    bound = float(one_step_bound(params.recurrent_kernel, "tanh"))
    assert np.max(norms) <= bound * (1 + 1e-6)
    assert norms[0] == pytest.approx(bound, rel=1e-5)


def test_uniform_initialisation_has_norm_two_over_root_three():
    size = 512
    cell = cells.elman(1, size, init="torch")
    kernel = cell.init(jax.random.key(0)).recurrent_kernel
    # The square of an entry has 2/√5 of its mean for standard deviation.
    variance, scatter = 1 / (3 * size), 2 / math.sqrt(5) / size
    assert np.var(kernel) == pytest.approx(variance, rel=4 * scatter)
    # Spectral radius 1/√3 and norm 2/√3 for many units. At n = 512 the norm scatters by
    # n^(−2/3) = 1.6 %, the radius by n^(−1/2) = 4.4 %.
    assert float(one_step_bound(kernel, "tanh")) == pytest.approx(2 / 3**0.5, rel=0.03)
    radius = np.max(np.abs(np.linalg.eigvals(np.asarray(kernel))))
    assert radius == pytest.approx(1 / 3**0.5, rel=0.09)


def test_sum_of_a_scan_keeps_float32_precision():
    terms = jnp.full(200_000, 0.7)
    _, total = jax.jit(lambda xs: scan_sum(lambda state, x: (state, x), None, xs))(
        terms
    )
    # A plain running sum is off by 1,000 spacings here.
    assert float(total) == pytest.approx(200_000 * float(terms[0]), rel=1e-7)


def test_errors():
    cell = cells.gru(1, 2)
    params = drawn(cell)
    with pytest.raises(ValueError, match=r"one sequence.*jax\.vmap"):
        carry_jacobians(cell, params, jnp.zeros((3, 4, 1)))
    with pytest.raises(ValueError, match=r"jacobians.*\[3, 2, 4\]"):
        log_singular_values(jnp.zeros((3, 2, 4)))
    with pytest.raises(ValueError, match="num_sweeps"):
        log_singular_values(jnp.zeros((3, 2, 2)), num_sweeps=0)
    with pytest.raises(ValueError, match="complex"):
        ravel_carry(jnp.zeros(2, jnp.complex64))
    with pytest.raises(ValueError, match="floating-point part"):
        ravel_carry(jnp.zeros(2, jnp.int32))
    both = bidirectional(cells.gru(1, 2))
    with pytest.raises(ValueError, match="step"):
        carry_jacobians(both, drawn(both), jnp.zeros((3, 1)))
