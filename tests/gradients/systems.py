"""Systems whose gradient flow is known in closed form, as cells of three functions.

More of them, and the inputs of those that run by themselves: `experiments.systems`.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from experiments.studies.kit.systems import autonomous
from seqjax import Cell

# Linear systems ----------------------------------------------------------------------


def linear(matrix):
    """s′ = M s."""
    return autonomous(
        jnp.ones(matrix.shape[0], matrix.dtype), lambda params, s: matrix @ s
    )


def scaled_orthogonal(size, gain, dtype=jnp.float32):
    """s′ = g Q s, Q orthogonal: every singular value of t steps is gᵗ."""

    def init(key):
        return jax.random.orthogonal(key, size, dtype=dtype)

    cell = autonomous(jnp.ones(size, dtype), lambda q, s: gain * (q @ s))
    return dataclasses.replace(cell, init=init)


def diagonal_complex(size, smallest=0.5, largest=0.99, dtype=jnp.float32):
    """An LRU: h′ = λ ∘ h + x, λ = exp(−exp(ν) + iθ), as `[2, size]` real pairs.

    params are (ν, θ); |∂h_T/∂hₜ| of a unit is exp(−exp(ν) · lag).
    """

    def init(key):
        modulus_key, angle_key = jax.random.split(key)
        moduli = jax.random.uniform(modulus_key, (size,), dtype, smallest, largest)
        angles = jax.random.uniform(angle_key, (size,), dtype, 0, 2 * math.pi)
        return jnp.log(-jnp.log(moduli)), angles

    def step(params, carry, x):
        nu, theta = params
        modulus = jnp.exp(-jnp.exp(nu))
        real, imaginary = modulus * jnp.cos(theta), modulus * jnp.sin(theta)
        a, b = carry
        h = jnp.stack([real * a - imaginary * b + x, real * b + imaginary * a])
        return h, h

    return Cell(
        init=init,
        initial_carry=lambda params: jnp.zeros((2, size), dtype),
        step=step,
    )


def gaussian_products(size):
    """s′ = X s with the matrix X as the input of every step, `[time, size, size]`.

    The carry does not grow: only its tangent is of interest.
    """
    return Cell(
        init=lambda key: (),
        initial_carry=lambda params: jnp.zeros(size),
        step=lambda params, s, x: (x @ s,) * 2,
        input_ndim=2,
    )


# Recurrent networks ------------------------------------------------------------------


def random_tanh(size, gain, dtype=jnp.float32):
    """x′ = g W tanh(x), W iid N(0, 1/size): chaotic for g > 1."""

    def init(key):
        kernel = jax.random.normal(key, (size, size), dtype) / math.sqrt(size)
        return gain * kernel

    cell = autonomous(jnp.ones(size, dtype), lambda w, x: w @ jnp.tanh(x))
    return dataclasses.replace(cell, init=init)


def antisymmetric(size, rate, damping, dtype=jnp.float32):
    """h′ = h + ε tanh((A − γI) h + x) with Aᵀ = −A; at rest ∂h′/∂h = I + ε(A − γI)."""

    def init(key):
        a = jax.random.normal(key, (size, size), dtype)
        return a - a.T - damping * jnp.eye(size, dtype=dtype)

    def step(kernel, h, x):
        h = h + rate * jnp.tanh(kernel @ h + x)
        return h, h

    return Cell(
        init=init, initial_carry=lambda params: jnp.zeros(size, dtype), step=step
    )


def cornn(size, rate, frequency, damping, dtype=jnp.float32):
    """z′ = z + dt(tanh(W y + x) − γ y − ε z), y′ = y + dt z′: det = (1 − dt ε)ⁿ.

    The coRNN without the part of tanh that reads z.
    """

    def init(key):
        return jax.random.normal(key, (size, size), dtype) / math.sqrt(size)

    def step(kernel, carry, x):
        y, z = carry
        force = jnp.tanh(kernel @ y + x) - frequency * y - damping * z
        z = z + rate * force
        y = y + rate * z
        return (y, z), y

    zeros = jnp.zeros(size, dtype)
    return Cell(init=init, initial_carry=lambda params: (zeros, zeros), step=step)


def unicornn(size, rate, frequency, dtype=jnp.float32):
    """z′ = z − dt(tanh(w ∘ y + x) + α y), y′ = y + dt z′: symplectic, exponents ±λ."""

    def init(key):
        return jax.random.uniform(key, (size,), dtype)

    def step(weights, carry, x):
        y, z = carry
        z = z - rate * (jnp.tanh(weights * y + x) + frequency * y)
        y = y + rate * z
        return (y, z), y

    zeros = jnp.zeros(size, dtype)
    return Cell(init=init, initial_carry=lambda params: (zeros, zeros), step=step)


# Maps and flows ----------------------------------------------------------------------


def logistic(rate=4.0, dtype=jnp.float32):
    """x′ = r x (1 − x): λ = ln 2 at r = 4."""
    start = jnp.full(1, 0.3, dtype)
    return autonomous(start, lambda params, x: rate * x * (1 - x))


def tent(slope=1.9, dtype=jnp.float32):
    """x′ = μ min(x, 1 − x): λ = ln μ. A slope of 2 runs into 0 in binary numbers."""
    start = jnp.full(1, 0.3, dtype)
    return autonomous(start, lambda params, x: slope * jnp.minimum(x, 1 - x))


def arnold_cat(dtype=jnp.float32):
    """s′ = [[2, 1], [1, 1]] s mod 1: λ = ±ln((3 + √5)/2)."""
    matrix = jnp.array([[2, 1], [1, 1]], dtype)
    start = jnp.array([0.1, 0.2], dtype)
    return autonomous(start, lambda params, s: jnp.mod(matrix @ s, 1))


def henon(a=1.4, b=0.3, dtype=jnp.float32):
    """x′ = 1 − a x² + y, y′ = b x: λ₁ = 0.419, λ₁ + λ₂ = ln b."""

    def advance(params, s):
        return jnp.stack([1 - a * jnp.square(s[0]) + s[1], b * s[0]])

    return autonomous(jnp.zeros(2, dtype), advance)


def lorenz(interval, sigma=10.0, rho=28.0, beta=8 / 3, dtype=jnp.float32):
    """One Runge–Kutta step of the Lorenz system; exponents per step of `interval`."""

    def velocity(s):
        x, y, z = s
        return jnp.stack([sigma * (y - x), x * (rho - z) - y, x * y - beta * z])

    def advance(params, s):
        first = velocity(s)
        second = velocity(s + interval / 2 * first)
        third = velocity(s + interval / 2 * second)
        fourth = velocity(s + interval * third)
        return s + interval / 6 * (first + 2 * second + 2 * third + fourth)

    return autonomous(jnp.array([1, 2, 20], dtype), advance)
