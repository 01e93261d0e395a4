"""Gradients of one step: finite at zero, and those of finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.contract.cases import INPUT_SIZE, make, one_step_case
from tests.helpers import random_like, weighted_sum

WIDTH = 1e-5
"""Of central differences: in float64 their error is about 1e-10 per unit of scale."""


def test_gradients_are_finite_at_zero_carry_and_zero_input(cell):
    params = cell.init(jax.random.key(0))
    carry = jax.tree.map(jnp.zeros_like, cell.initial_carry(params))

    def loss(params, carry, x):
        return sum(map(jnp.sum, jax.tree.leaves(cell.step(params, carry, x))))

    grad = jax.jit(jax.grad(loss, (0, 1, 2)))
    gradients = grad(params, carry, jnp.zeros(INPUT_SIZE))
    for leaf in jax.tree.leaves(gradients):
        assert np.all(np.isfinite(leaf))


@pytest.mark.usefixtures("x64")
def test_first_and_second_derivatives_agree_with_finite_differences(name):
    cell = make(name, dtype=jnp.float64)
    case = one_step_case(cell, jnp.float64)
    weights = random_like(cell.step(*case), seed=11)
    direction = random_like(case, seed=12)
    value_and_grad = jax.jit(
        jax.value_and_grad(lambda case: weighted_sum(cell.step(*case), weights))
    )

    @jax.jit
    def along(case):
        """The gradient, and how it changes along the direction, by double reverse."""

        def slope(case):
            return weighted_sum(value_and_grad(case)[1], direction)

        return jax.value_and_grad(slope)(case)

    plus, minus = (
        value_and_grad(jax.tree.map(lambda a, d, w=w: a + w * d, case, direction))
        for w in (WIDTH, -WIDTH)
    )
    differences = jax.tree.map(lambda a, b: (a - b) / (2 * WIDTH), plus, minus)
    for got, expected in zip(along(case), differences, strict=True):
        jax.tree.map(
            # Layer norms divide by a small deviation: third derivatives of 100.
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
            got,
            expected,
        )
