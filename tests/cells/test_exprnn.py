"""The rotation inside expRNN, and what it promises for gradients."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from seqjax import cells, unroll
from seqjax.cells.exprnn import modrelu, rotation

SIZE = 7


def _skew_matrix(skew, size=SIZE):
    upper = np.zeros((size, size))
    upper[np.triu_indices(size, 1)] = skew
    return upper - upper.T


def _entries(scale, size=SIZE):
    return scale * np.random.default_rng(0).standard_normal(size * (size - 1) // 2)


# Row sums from 0.006 to 60 000: no squaring, a few, sixteen.
@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 30.0, 1e4])
def test_rotation_is_the_matrix_exponential(scale, x64):
    skew = _entries(scale)
    expected = scipy.linalg.expm(_skew_matrix(skew))
    got = rotation(jnp.asarray(skew), SIZE)
    # Each squaring doubles the error: as many roundings as the row sum.
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-14 * max(1, 10 * scale))


@pytest.mark.parametrize("angle", [0.0, 0.999, 3.0, 1000.0])
def test_one_plane_turns_by_the_angle(angle, x64):
    # 0.999 is the longest matrix that is not halved, and needs the most terms.
    c, s = np.cos(angle), np.sin(angle)
    got = rotation(jnp.asarray([angle]), 2)
    # As many roundings as radians.
    np.testing.assert_allclose(
        got, [[c, s], [-s, c]], rtol=0, atol=5e-16 * max(1, angle)
    )


@pytest.mark.parametrize("size", [1, 2, 65])
@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_rotation_keeps_lengths_and_orientation(size, scale):
    r = np.asarray(rotation(jnp.asarray(_entries(scale, size), jnp.float32), size))
    # Roundings of 6e-8 in sums of up to 64 products of size 1/8.
    np.testing.assert_allclose(r.T @ r, np.eye(size), rtol=0, atol=6e-7)
    assert np.linalg.det(r.astype(np.float64)) > 0


def test_rotation_beyond_all_digits_is_not_a_number():
    assert np.isnan(rotation(jnp.asarray([7e4]), 2)).all()


def test_gradient_of_the_rotation_is_the_derivative_of_the_exponential(x64):
    skew, direction = _entries(0.5), _entries(1.0)[::-1]
    primal, tangent = (jnp.asarray(skew),), (jnp.asarray(direction),)
    _, got = jax.jvp(lambda skew: rotation(skew, SIZE), primal, tangent)
    expected = scipy.linalg.expm_frechet(
        _skew_matrix(skew), _skew_matrix(direction), compute_expm=False
    )
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13)


def test_without_a_bias_every_jacobian_is_orthogonal():
    cell = cells.exprnn(2, SIZE)
    params = cell.init(jax.random.key(0))._replace(bias=jnp.zeros(SIZE))
    xs = np.random.default_rng(0).standard_normal((1000, 2), np.float32)
    xs[:2] = 0

    def final(hidden):
        return unroll(cell, params, jnp.asarray(xs), cells.ExpRNNCarry(hidden))[
            0
        ].hidden

    # From 0 with two steps of no input: z = 0 exactly, where modReLU has its corner.
    jacobian = jax.jit(jax.jacfwd(final))(jnp.zeros(SIZE))
    # A thousand products, each off by a few roundings.
    singular_values = np.linalg.svd(jacobian, compute_uv=False)
    np.testing.assert_allclose(singular_values, np.ones(SIZE), rtol=0, atol=1e-4)


def test_modrelu_shrinks_grows_and_has_slopes_of_zero_and_one():
    z = jnp.asarray([-2.0, -0.5, 0.0, 0.5, 2.0])
    cases = {
        -1.0: ([-1, 0, 0, 0, 1], [1, 0, 0, 0, 1], [-1, 0, 0, 0, 1]),
        0.0: ([-2, -0.5, 0, 0.5, 2], [1, 1, 1, 1, 1], [-1, -1, 0, 1, 1]),
        1.0: ([-3, -1.5, 0, 1.5, 3], [1, 1, 1, 1, 1], [-1, -1, 0, 1, 1]),
    }
    for bias, (value, by_z, by_bias) in cases.items():
        got, pull = jax.vjp(modrelu, z, jnp.full(5, bias))
        np.testing.assert_array_equal(got, value)
        np.testing.assert_array_equal(pull(jnp.ones(5)), [by_z, by_bias])


@pytest.mark.parametrize(("angles", "size"), [("henaff", 400), ("cayley", 401)])
def test_it_starts_by_turning_planes_of_neighbours(angles, size):
    params = cells.exprnn(300, size, angles=angles).init(jax.random.key(0))
    matrix = _skew_matrix(np.asarray(params.skew), size)
    first = np.arange(0, size - 1, 2)
    turned = matrix[first, first + 1]
    matrix[first, first + 1] = matrix[first + 1, first] = 0
    assert not matrix.any()
    assert turned.size == 200
    if angles == "henaff":
        uniform = scipy.stats.uniform(-np.pi, 2 * np.pi)
    else:  # −tan(u/2) with u uniform on (0, π/2)
        turned, uniform = -2 * np.arctan(turned), scipy.stats.uniform(0, np.pi / 2)
    assert scipy.stats.kstest(turned, uniform.cdf).pvalue > 1e-3
    kernel, bias = np.ravel(params.kernel), np.asarray(params.bias)
    normal = scipy.stats.norm(0, (2 / 300) ** 0.5)
    assert scipy.stats.kstest(kernel, normal.cdf).pvalue > 1e-3
    uniform = scipy.stats.uniform(-0.01, 0.02)
    assert scipy.stats.kstest(bias, uniform.cdf).pvalue > 1e-3


def test_an_initialiser_of_the_kernel_replaces_its_own():
    cell = cells.exprnn(3, SIZE, kernel_init=jax.nn.initializers.ones)
    assert np.all(cell.init(jax.random.key(0)).kernel == 1)


@pytest.mark.parametrize("method", ["auto", "scan"])
def test_the_exponential_is_taken_once_per_unroll(method, monkeypatch):
    runs = []

    def counted(skew, size):
        jax.debug.callback(lambda: runs.append(size))
        return rotation(skew, size)

    # The factory of the same name hides the module.
    module = importlib.import_module("seqjax.cells.exprnn")
    monkeypatch.setattr(module, "rotation", counted)
    cell = cells.exprnn(2, SIZE)
    params = cell.init(jax.random.key(0))

    def loss(params):
        return jnp.sum(unroll(cell, params, jnp.ones((5, 2)), method=method)[1])

    jax.block_until_ready(jax.jit(jax.grad(loss))(params))
    jax.effects_barrier()
    assert runs == [SIZE]
