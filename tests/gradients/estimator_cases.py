"""What the tests of gradient estimators share: element-wise cells, and a loss."""

import jax
import jax.numpy as jnp

from seqjax import Cell, factory
from tests.helpers import random_like

NUM_STEPS = 7


@factory
def tanh_leak(input_size: int, hidden_size: int, dtype=jnp.float32) -> Cell:
    """h′ = tanh(a ∘ h + x W + b) from a learned start: an element-wise recurrence."""

    def step(params, carry, x):
        h = jnp.tanh(params["decay"] * carry + x @ params["kernel"] + params["bias"])
        return h, h

    return Cell(
        init=lambda key: {
            "decay": jnp.full(hidden_size, 0.5, dtype),
            "kernel": jnp.ones((input_size, hidden_size), dtype),
            "bias": jnp.zeros(hidden_size, dtype),
            "start": jnp.zeros(hidden_size, dtype),
        },
        initial_carry=lambda params: jnp.sin(params["start"]),
        step=step,
    )


@factory
def rotation(input_size: int, hidden_size: int, dtype=jnp.float32) -> Cell:
    """Pairs (p, q) turn by an angle of their own; y mixes the units by params of y."""

    def step(params, carry, x):
        p, q = carry
        sin, cos = jnp.sin(params["angle"]), jnp.cos(params["angle"])
        drive = (x @ params["kernel"]).reshape(2, hidden_size)
        p, q = cos * p - sin * q + drive[0], sin * p + cos * q + drive[1]
        return (p, q), jnp.tanh(p * q) @ params["readout"]

    return Cell(
        init=lambda key: {
            "angle": jnp.ones(hidden_size, dtype),
            "kernel": jnp.ones((input_size, 2 * hidden_size), dtype),
            "readout": jnp.ones((hidden_size, 2), dtype),
        },
        initial_carry=lambda params: (jnp.zeros(hidden_size, dtype),) * 2,
        step=step,
    )


def square_error(y, target):
    return jnp.sum(jnp.square(y - target))


def case(cell, dtype=jnp.float32, num_steps=NUM_STEPS):
    """Everything an estimator takes, with params and inputs away from zero."""
    params = random_like(cell.init(jax.random.key(0)), seed=1)
    xs = random_like(jnp.zeros((num_steps, 2), dtype), seed=2, scale=1.0)
    targets = random_like(jnp.zeros(num_steps, dtype), seed=3, scale=1.0)
    return cell, params, xs, targets, square_error


def gradients(case, carry=None, *estimators):
    cell, params, xs, targets, step_loss = case

    @jax.jit
    def run(params):
        return [
            estimate(cell, params, xs, targets, step_loss, carry)
            for estimate in estimators
        ]

    return run(params)
