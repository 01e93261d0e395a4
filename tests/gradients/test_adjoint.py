"""Gradient norms: exact answers, float64, and independent routes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from seqjax import cells, tree, unroll
from seqjax.cell import Cell
from seqjax.combinators import bidirectional, stack
from seqjax.gradients import carry_gradients, decay_rate, log_gradient_norms
from tests.helpers import assert_trees_close


def last_sum(ys):
    return jnp.sum(ys[-1])


def measure(cell, params, xs, loss_fn):
    """`log_gradient_norms` in one compiled program."""
    return jax.jit(lambda p, x: log_gradient_norms(cell, p, x, loss_fn))(params, xs)


def scaled_orthogonal(gain, size=16):
    cell = cells.elman(1, size, activation="identity")
    params = cell.init(jax.random.key(1))
    kernel = gain * params.recurrent_kernel
    return cell, params._replace(recurrent_kernel=kernel)


@pytest.mark.parametrize("gain", [0.9, 1.1])
def test_scaled_orthogonal_recurrence_decays_at_ln_gain(gain):
    num_steps = 2000
    cell, params = scaled_orthogonal(gain)
    norms = measure(cell, params, jnp.zeros((num_steps, 1)), last_sum).joint
    lag = num_steps - np.arange(num_steps)
    # dL/dh_T is a vector of ones. Float32 orthogonality: the gain of each of the
    # 2,000 steps is off by about 1e-7, all in the same direction, and so their sum
    # by about 2e-4.
    expected = 0.5 * math.log(16) + lag * math.log(gain)
    np.testing.assert_allclose(norms[:-1], expected, rtol=0, atol=5e-4)
    assert norms[-1] == -jnp.inf
    fit = decay_rate(norms)
    assert float(fit.rate) == pytest.approx(math.log(gain), abs=5e-7)
    expected_half_life = math.log(2) / abs(math.log(gain))
    assert float(fit.half_life) == pytest.approx(expected_half_life, rel=1e-4)


def test_naive_float32_norm_reads_zero_where_the_truth_does_not():
    # The reason this module exists: at gain 0.9 the naive norm dies near lag 421.
    cell, params = scaled_orthogonal(0.9)
    xs = jnp.zeros((2000, 1))

    def from_carry(carry):
        return last_sum(unroll(cell, params, xs, carry)[1])

    gradient = jax.grad(from_carry)(cell.initial_carry(params))
    assert jnp.linalg.norm(gradient.hidden) == 0
    assert jnp.isfinite(measure(cell, params, xs, last_sum).joint[0])


def test_lstm_with_zero_recurrent_kernel_is_a_product_of_forget_gates():
    num_steps, forget_bias = 100, 1.0
    cell = cells.lstm(1, 4, forget_bias=forget_bias)
    params = cell.init(jax.random.key(0))
    zeros = jnp.zeros_like
    params = params._replace(
        kernel=zeros(params.kernel), recurrent_kernel=zeros(params.recurrent_kernel)
    )
    norms = measure(cell, params, jnp.zeros((num_steps, 1)), last_sum)
    forget = 1 / (1 + math.exp(-forget_bias))
    # With x = 0 and zero kernels c stays 0, so dh_T/dc_T = o = 1/2 exactly, and
    # dc_T/dc_t = f^(T-t); the loss sums four units.
    lag = num_steps - np.arange(num_steps)
    expected = 0.5 * math.log(4) + math.log(0.5) + lag * math.log(forget)
    # 100 factors, each rounded to float32: 1e-7 of each at the most.
    np.testing.assert_allclose(norms.parts.cell[:-1], expected, rtol=0, atol=1e-5)
    assert bool(jnp.all(norms.parts.hidden == -jnp.inf))
    # At lag 100 the constant in front is 1: sigmoid(1)^100 to the five digits.
    longest = math.exp(norms.parts.cell[0])
    assert longest == pytest.approx(2.4844e-14, rel=3e-5, abs=0)


def test_gru_jacobian_at_the_origin_is_half_identity_plus_quarter_kernel():
    cell = cells.gru(2, 5)
    params = cell.init(jax.random.key(3))
    jacobian = jax.jacrev(
        lambda h: cell.step(params, cells.GRUCarry(h), jnp.zeros(2))[0].hidden
    )(jnp.zeros(5))
    # r = z = 1/2 at the origin, and the transpose is the row-vector convention.
    kernel = params.recurrent_kernel[:, 10:]
    # Rounding of entries near 1 alone.
    np.testing.assert_allclose(jacobian.T, jnp.eye(5) / 2 + kernel / 4, atol=1e-7)


def test_identity_network_hands_gradients_on_unchanged():
    cell = cells.irnn(1, 4)
    params = cells.ElmanParams(jnp.zeros((1, 4)), jnp.eye(4), jnp.ones(4))
    norms = measure(cell, params, jnp.zeros((500, 1)), last_sum).joint
    # All units are on: J = I, and the four ones of the loss have norm 2.
    np.testing.assert_allclose(norms[:-1], math.log(2), rtol=2e-7)
    assert float(decay_rate(norms).rate) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_ten_thousand_steps_agree_with_float64(name, x64):
    num_steps, hidden = 10_000, 16
    narrow = cells.CELLS[name](2, hidden)
    wide = cells.CELLS[name](2, hidden, dtype=jnp.float64)
    params = narrow.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (num_steps, 2), jnp.float32)
    single = measure(narrow, params, xs, last_sum)
    double = measure(
        wide,
        jax.tree.map(lambda p: p.astype(jnp.float64), params),
        xs.astype(jnp.float64),
        last_sum,
    )
    assert single.joint.dtype == jnp.float32
    assert double.joint.dtype == jnp.float64
    # The curve falls to about -2,000 to -5,000: 1e-3 is near float32's own spacing
    # there (2.4e-4 to 4.9e-4) and holds only with compensated sums.
    assert float(double.joint[0]) < -1000
    for ours, truth in zip(
        jax.tree.leaves(single), jax.tree.leaves(double), strict=True
    ):
        np.testing.assert_allclose(ours[:-1], truth[:-1], rtol=0, atol=1e-3)


def carry_gradients_by_taps(cell, params, xs, loss_fn):
    """Every carry gradient by ordinary autodiff, of zeros added to the carries."""

    def step(carry, inputs):
        x, tap = inputs
        return cell.step(params, jax.tree.map(jnp.add, carry, tap), x)

    def loss(taps):
        return loss_fn(jax.lax.scan(step, cell.initial_carry(params), (xs, taps))[1])

    return jax.grad(loss)(
        jax.tree.map(
            lambda a: jnp.zeros((xs.shape[0], *a.shape)), cell.initial_carry(params)
        )
    )


CELLS = {
    "elman": cells.elman(3, 4),
    "lstm": cells.lstm(3, 4, peephole=True),
    "gru": cells.gru(3, 4),
    "jordan": cells.jordan(3, 4, leak=0.5),
    "stack": stack(cells.gru(3, 4), cells.lstm(4, 2)),
}


@pytest.mark.parametrize("name", CELLS)
def test_equals_ordinary_autodiff_with_respect_to_every_carry(name):
    cell = CELLS[name]
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (7, 3))

    def both_routes(mask):
        def loss_fn(ys):
            return jnp.sum(jnp.sin(ys) * mask[:, None])

        return (
            log_gradient_norms(cell, params, xs, loss_fn),
            carry_gradients(cell, params, xs, loss_fn),
            carry_gradients_by_taps(cell, params, xs, loss_fn),
        )

    # A loss at every step, at the last one, and in the middle.
    masks = jnp.stack([jnp.ones(7), jnp.eye(7)[6], jnp.eye(7)[2]])
    norms, vectors, expected = jax.jit(jax.vmap(both_routes))(masks)
    assert bool(jnp.all(norms.joint[:, -1] == -jnp.inf))
    log_norms = jax.vmap(jax.vmap(tree.log_norm))
    # Two routes through about ten float32 roundings per step; -inf must meet -inf.
    for rows in (norms.joint, vectors.log_norm):
        np.testing.assert_allclose(rows[:, :-1], log_norms(expected), atol=1e-5)
    parts = jax.tree.map(lambda rows: rows[:, :-1], norms.parts)
    assert_trees_close(parts, jax.tree.map(log_norms, expected), atol=1e-5)

    def stretch(unit):
        lengths = jnp.exp(vectors.log_norm).reshape(3, 8, *[1] * (unit.ndim - 2))
        return (unit * lengths)[:, :-1]

    assert_trees_close(jax.tree.map(stretch, vectors.direction), expected, atol=1e-5)


def test_last_output_alone_gives_the_same_rows():
    cell = CELLS["stack"]
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (7, 3))

    @jax.jit
    def both(xs):
        return (
            log_gradient_norms(cell, params, xs, jnp.sum, outputs="last"),
            log_gradient_norms(cell, params, xs, last_sum),
        )

    ours, expected = both(xs)
    assert_trees_close(ours, expected)


def test_a_million_steps_fit_into_a_hundred_megabytes():
    cell = cells.lstm(2, 32)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    xs = jax.ShapeDtypeStruct((1_000_000, 2), jnp.float32)

    def norms(params, xs):
        return log_gradient_norms(cell, params, xs, jnp.sum, outputs="last")

    memory = jax.jit(norms).lower(params, xs).compile().memory_analysis()
    assert memory is not None
    assert 0 < memory.temp_size_in_bytes < 100e6


def test_loss_in_the_middle_leaves_later_carries_at_minus_infinity():
    cell = CELLS["gru"]
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (6, 3))
    norms = measure(cell, params, xs, lambda ys: jnp.sum(jnp.square(ys[2]))).joint
    assert bool(jnp.all(jnp.isfinite(norms[:3])))
    assert bool(jnp.all(norms[3:] == -jnp.inf))


def test_exploding_loss_meets_a_tiny_one_without_overflow():
    # A late source of size 1 grows by 3 per step over 200 steps: far beyond float32.
    cell, params = scaled_orthogonal(3.0, size=4)
    xs = jnp.zeros((200, 1))
    norms = measure(
        cell, params, xs, lambda ys: jnp.sum(ys[-1]) + 1e-30 * jnp.sum(ys)
    ).joint
    lag = 200 - np.arange(200)
    expected = math.log(2) + lag * math.log(3)
    np.testing.assert_allclose(norms[:-1], expected, atol=2e-3)


def test_product_of_jacobians_is_the_same_number():
    cell = CELLS["lstm"]
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (7, 3))
    entering = [cell.initial_carry(params)]
    for x in xs:
        entering.append(cell.step(params, entering[-1], x)[0])
    flat, unflatten = ravel_pytree(entering[0])
    del flat

    def jacobian(carry, x):
        return jax.jacrev(
            lambda flat: ravel_pytree(cell.step(params, unflatten(flat), x)[0])[0]
        )(ravel_pytree(carry)[0])

    terminal = jax.grad(lambda carry: jnp.sum(carry.hidden))(entering[-1])
    row = ravel_pytree(terminal)[0]
    norms = measure(cell, params, xs, last_sum).joint
    for t in reversed(range(7)):
        row = row @ jacobian(entering[t], xs[t])
        assert float(norms[t]) == pytest.approx(
            float(jnp.log(jnp.linalg.norm(row))), abs=1e-5
        )


def test_dead_relu_is_exactly_minus_infinity():
    cell = cells.irnn(1, 3)
    params = cell.init(jax.random.key(0))
    params = params._replace(bias=jnp.full(3, -1.0))
    norms = measure(cell, params, jnp.zeros((5, 1)), last_sum)
    assert bool(jnp.all(norms.joint == -jnp.inf))
    assert not bool(jnp.any(jnp.isnan(norms.joint)))


def test_vmap_over_a_batch():
    cell = CELLS["gru"]
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (3, 6, 3))

    def norms(xs):
        return log_gradient_norms(cell, params, xs, last_sum).joint

    batched = jax.jit(jax.vmap(norms))(xs)
    one_by_one = jax.jit(lambda xs: jax.lax.map(norms, xs))(xs)
    np.testing.assert_allclose(batched, one_by_one, atol=1e-6)


def test_cell_made_of_three_functions():
    leak = Cell(
        init=lambda key: jnp.asarray(0.5),
        initial_carry=lambda params: jnp.zeros(2),
        step=lambda params, carry, x: (params * carry + x,) * 2,
    )
    norms = measure(leak, jnp.asarray(0.5), jnp.ones((4, 2)), last_sum)
    expected = 0.5 * math.log(2) + np.log(0.5) * np.array([4, 3, 2, 1])
    np.testing.assert_allclose(norms.joint[:-1], expected, rtol=1e-6)


def test_errors_say_what_to_do():
    cell = CELLS["gru"]
    params = cell.init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"one sequence.*jax\.vmap"):
        log_gradient_norms(cell, params, jnp.zeros((2, 5, 3)), last_sum)
    with pytest.raises(ValueError, match="at least one step"):
        log_gradient_norms(cell, params, jnp.zeros((0, 3)), last_sum)
    with pytest.raises(ValueError, match=r"outputs.*all, last.*first"):
        log_gradient_norms(cell, params, jnp.zeros((5, 3)), last_sum, outputs="first")
    both = bidirectional(cell)
    with pytest.raises(ValueError, match="use unroll"):
        log_gradient_norms(
            both,
            both.init(jax.random.key(0)),
            jnp.zeros((5, 3)),
            last_sum,
            outputs="last",
        )
