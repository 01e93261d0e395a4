"""The backward pass of affine cells against plain autodiff of the same scan."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import cells, unroll
from tests.contract.cases import AFFINE, INPUT_SIZE, away_from_zero, make
from tests.helpers import random_like, weighted_sum

BATCH, TIME = 3, 7
LENGTHS = np.array([7, 4, 0])
RESETS = np.random.default_rng(0).random((BATCH, TIME)) < 0.3
OPTIONS = {
    "plain": {},
    "every carry": {"return_carries": True, "lengths": LENGTHS},
    "backwards": {"reverse": True, "lengths": LENGTHS, "resets": RESETS, "window": 3},
    "cut": {"resets": RESETS, "window": 2, "return_carries": True},
}
METHODS = ("auto", "checkpoint", "two_level")

pytestmark = pytest.mark.usefixtures("x64")


def gradients(cell, options):
    """By method: value and gradients with respect to params, carry and xs."""
    params = away_from_zero(cell)
    carry = cell.initial_carry(params)
    carry = jax.tree.map(lambda a: jnp.zeros((BATCH, *a.shape), a.dtype), carry)
    carry = random_like(carry, seed=3)
    xs = random_like(jnp.zeros((BATCH, TIME, INPUT_SIZE)), seed=4)
    shapes = jax.eval_shape(lambda: unroll(cell, params, xs, carry, **options))
    weights = random_like(shapes, seed=5)

    @functools.cache
    def run(method):
        def loss(params, carry, xs):
            results = unroll(cell, params, xs, carry, method=method, **options)
            return weighted_sum(results, weights)

        return jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(params, carry, xs)

    return run


@functools.cache
def named_gradients(name, options):
    """Shares the plain scan among the methods that are compared with it."""
    return gradients(make(name, dtype=jnp.float64), OPTIONS[options])


def assert_equal_gradients(run, method):
    jax.tree.map(
        # A few dozen sums in another order, in float64.
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12),
        run(method),
        run("scan"),
    )


@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize(
    ("options", "method"),
    [("plain", "auto"), ("backwards", "auto"), ("every carry", "checkpoint")],
)
def test_every_cell(name, options, method):
    assert_equal_gradients(named_gradients(name, options), method)


# The last mark varies slowest: the methods of one set of options follow one another.
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", OPTIONS)
def test_every_option(options, method):
    assert_equal_gradients(named_gradients("lstm_every_option", options), method)


@pytest.mark.parametrize("method", ["auto", "checkpoint"])
def test_resets_to_a_learned_carry(method):
    cell = cells.lstm(INPUT_SIZE, 4, dtype=jnp.float64)

    def initial_carry(params):
        return cells.LSTMCarry(jnp.tanh(params.bias[:4]), params.bias[4:8])

    learned = dataclasses.replace(cell, initial_carry=initial_carry)
    assert_equal_gradients(gradients(learned, OPTIONS["cut"]), method)
