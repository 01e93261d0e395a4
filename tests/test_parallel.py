"""Newton's method on the whole trajectory against running it step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import cells, unroll
from seqjax.combinators import bidirectional
from seqjax.parallel import newton_unroll
from tests.helpers import assert_trees_close, random_like, weighted_sum

TIME, INPUT, HIDDEN = 12, 3, 4
MAX_ITERATIONS = 40

newton = jax.jit(
    newton_unroll,
    static_argnames=("cell", "max_iterations", "tolerance", "diagonal"),
)


def _case(name, scale=0.7):
    cell = cells.CELLS[name](INPUT, HIDDEN, dtype=jnp.float64)
    params = random_like(cell.init(jax.random.key(0)), seed=1, scale=scale)
    carry = random_like(cell.initial_carry(params), seed=2)
    xs = random_like(jax.ShapeDtypeStruct((TIME, INPUT), jnp.float64), seed=3)
    return cell, params, xs, carry


def _run_net(gain, size=16, num_steps=128):
    """Runs h′ = tanh(g W h + x), W normal of variance 1/n, in both ways."""
    cell = cells.elman(1, size, dtype=jnp.float64)
    rng = np.random.default_rng(0)
    weights = gain * rng.standard_normal((size, size)) / size**0.5
    kernel = 0.1 * rng.standard_normal((1, size))
    params = cells.ElmanParams(*map(jnp.asarray, (kernel, weights, np.zeros(size))))
    xs = jnp.asarray(np.random.default_rng(1).standard_normal((num_steps, 1)))
    options = {"max_iterations": MAX_ITERATIONS, "tolerance": 1e-6}
    return newton(cell, params, xs, **options), unroll(cell, params, xs)[1]


@pytest.mark.parametrize("name", ["elman", "lstm", "gru"])
@pytest.mark.usefixtures("x64")
def test_values_and_gradients_are_those_of_the_unroll(name):
    cell, params, xs, carry = _case(name)
    start = jax.eval_shape(lambda: unroll(cell, params, xs, carry, return_carries=True))
    weights = random_like(start, seed=4)

    def parallel(params, xs, carry):
        result = newton_unroll(cell, params, xs, carry)
        return weighted_sum((result.carries, result.ys), weights), result

    def stepwise(params, xs, carry):
        both = unroll(cell, params, xs, carry, return_carries=True)
        return weighted_sum(both, weights), both

    args = params, xs, carry
    got, result = jax.jit(jax.grad(parallel, (0, 1, 2), has_aux=True))(*args)
    expected, both = jax.jit(jax.grad(stepwise, (0, 1, 2), has_aux=True))(*args)
    assert result.converged
    # Float64 on both sides; the scan multiplies in another order.
    assert_trees_close((result.carries, result.ys), both, rtol=1e-11, atol=1e-12)
    assert_trees_close(got, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_a_linear_recurrence_is_solved_by_the_first_iteration():
    cell = cells.elman(INPUT, HIDDEN, activation="identity", dtype=jnp.float64)
    result = newton(cell, *_case("elman", scale=0.3)[1:])
    assert result.errors[0] > 0.1
    assert result.errors[1] < 1e-14
    assert result.num_iterations == 2
    assert result.converged
    assert np.isnan(result.errors[2:]).all()


@pytest.mark.usefixtures("x64")
def test_iterations_grow_as_the_largest_exponent_rises_to_zero():
    counts = []
    # Largest exponents of these orbits: -1.02, -0.33, -0.19, -0.07 per step.
    for gain in (0.3, 0.6, 1.1, 1.3):
        result, ys = _run_net(gain)
        assert result.converged
        np.testing.assert_allclose(result.ys, ys, rtol=0, atol=1e-12)
        counts.append(int(result.num_iterations))
    assert counts == sorted(set(counts))
    assert counts[-1] > 3 * counts[0]


@pytest.mark.usefixtures("x64")
def test_chaos_does_not_converge_says_so_and_gains_a_step_each_time():
    result, ys = _run_net(4.0)
    assert not result.converged
    assert result.num_iterations == MAX_ITERATIONS
    assert np.all(np.asarray(result.errors) > 1e-6)
    # The iterations, and the one through which one differentiates. Roundings of 1e-16
    # grow with them: to 1e-10 or 2e-9, as the compiler orders the sums.
    right = MAX_ITERATIONS + 1
    np.testing.assert_allclose(result.ys[:right], ys[:right], rtol=0, atol=1e-7)
    assert np.abs(result.ys - ys).max() > 0.1


@pytest.mark.usefixtures("x64")
def test_the_diagonal_is_all_there_is_of_units_alone_and_less_of_a_network():
    cell, params, xs, carry = _case("elman")
    alone = params._replace(
        recurrent_kernel=params.recurrent_kernel * jnp.eye(HIDDEN, dtype=jnp.float64)
    )
    for case, same in ((alone, True), (params, False)):
        whole = newton(cell, case, xs, carry, tolerance=1e-10)
        part = newton(cell, case, xs, carry, tolerance=1e-10, diagonal=True)
        assert part.converged
        np.testing.assert_allclose(part.ys, whole.ys, rtol=0, atol=1e-9)
        assert (part.num_iterations == whole.num_iterations) == same
        assert part.num_iterations >= whole.num_iterations


def test_float32_stops_at_the_root_of_its_rounding_and_maps_over_a_batch():
    cell = cells.gru(INPUT, HIDDEN)
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (3, TIME, INPUT))
    result = jax.jit(jax.vmap(lambda xs: newton_unroll(cell, params, xs)))(xs)
    # Sums of the order of one, rounded to 6e-8 a few times.
    np.testing.assert_allclose(
        result.ys, unroll(cell, params, xs)[1], rtol=0, atol=1e-6
    )
    assert result.errors.dtype == jnp.float32
    for errors, count in zip(result.errors, result.num_iterations, strict=True):
        # √1.2e-7, and the first change within it.
        assert errors[count - 1] <= 3.46e-4 < errors[count - 2]


def test_overflow_is_reported_and_survived():
    cell = cells.elman(1, 2, activation="identity")
    params = cells.ElmanParams(jnp.ones((1, 2)), 100 * jnp.eye(2), jnp.zeros(2))
    result = newton(cell, params, jnp.ones((40, 1)), max_iterations=3)
    assert not result.converged
    assert np.isinf(result.errors).all()
    assert np.isfinite(result.ys[:15]).all()


def test_what_is_no_single_sequence_or_step_is_refused():
    cell = cells.gru(INPUT, HIDDEN)
    params = cell.init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"^xs: expected one sequence.* axes \[2\]"):
        newton_unroll(cell, params, jnp.ones((2, 5, INPUT)))
    with pytest.raises(ValueError, match=r"^max_iterations: .* >= 1, got 0"):
        newton_unroll(cell, params, jnp.ones((5, INPUT)), max_iterations=0)
    both = bidirectional(cell)
    with pytest.raises(ValueError, match="step"):
        newton_unroll(both, both.init(jax.random.key(0)), jnp.ones((5, INPUT)))
