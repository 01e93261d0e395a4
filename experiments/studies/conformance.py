"""Gradient flow against exact answers: errors as shares of their tolerances."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from experiments.pictures import style
from experiments.pictures.rates import draw_errors
from experiments.studies.kit import systems
from experiments.studies.kit.study import Picture, Result
from seqjax import Cell, cells, tasks, unroll
from seqjax.gradients import log_gradient_norms, log_tangent_norms, truncation_error
from seqjax.gradients.estimators import bptt_gradient
from seqjax.gradients.influence import rtrl_gradient
from seqjax.gradients.jacobian import carry_jacobians, log_singular_values
from seqjax.gradients.lyapunov import lyapunov_exponents, mean_log_determinant
from seqjax.gradients.theory import diagonal_log_norms, newman_spectrum


class Case(NamedTuple):
    """One exact answer.

    Attributes:
      measured: what the library gives, any shape.
      exact: what it should be.
      tolerance: the largest error that is accepted.
    """

    measured: Any
    exact: Any
    tolerance: float

    def share(self) -> float:
        """Returns the largest error over the tolerance."""
        error = np.abs(np.asarray(self.measured) - np.asarray(self.exact))
        return float(np.max(error)) / self.tolerance


def measure(folder: Path, full: bool) -> Result:
    """Computes every case in float64."""
    with jax.enable_x64(True):
        cases = {name: case(full) for name, case in CASES.items()}
    shares = {name: case.share() for name, case in cases.items()}
    figure = draw_errors({name.replace("_", " "): s for name, s in shares.items()})
    picture = Picture(
        style.save(figure, folder / "conformance.png"),
        "Errors against exact answers",
        "Every case has an answer in closed form, and a tolerance that the flagfile "
        "explains: rounding where the answer is exact at finite length, statistics "
        "where it is an average. Errors below the left edge stand on it.",
    )
    return Result(shares, [picture])


def _last(ys: Any) -> jax.Array:
    return jnp.sum(ys[-1])


def _spectrum(cell: Cell[Any, Any], num_steps: int, params: Any = None) -> np.ndarray:
    """Returns all exponents of an autonomous cell."""
    params = cell.init(jax.random.key(0)) if params is None else params
    xs = systems.silence(num_steps)
    return np.asarray(lyapunov_exponents(cell, params, xs).exponents)


def _orthogonal_product(full: bool) -> Case:
    gain, steps = 0.9, 50
    matrix = gain * jax.random.orthogonal(jax.random.key(0), 8, dtype=jnp.float64)
    jacobians = carry_jacobians(systems.linear(matrix), matrix, systems.silence(steps))
    return Case(log_singular_values(jacobians), steps * math.log(gain), 1e-10)


def _diagonal_curve(full: bool) -> Case:
    moduli = jnp.linspace(0.5, 0.999, 16)
    cell, steps = systems.linear(jnp.diag(moduli)), 400
    norms = log_gradient_norms(cell, jnp.diag(moduli), systems.silence(steps), _last)
    # The carry that enters step t is steps − t steps away from the loss.
    lags = jnp.arange(steps, 0, -1)
    return Case(norms.joint[:-1], diagonal_log_norms(jnp.log(moduli), lags), 1e-9)


def _lstm_cell_path(full: bool) -> Case:
    cell = cells.lstm(1, 4, dtype=jnp.float64)
    params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0)))
    params = params._replace(bias=params.bias.at[4:8].set(1.0))
    jacobians = carry_jacobians(cell, params, jnp.zeros((100, 1)))
    cell_path = jnp.linalg.multi_dot(list(jacobians[:, -4:, -4:]))
    return Case(jnp.log(jnp.diag(cell_path)), -100 * math.log1p(math.exp(-1)), 1e-10)


def _gru_at_rest(full: bool) -> Case:
    cell = cells.gru(1, 6, dtype=jnp.float64)
    params = cell.init(jax.random.key(0))
    jacobian = carry_jacobians(cell, params, jnp.zeros((1, 1)))[0]
    exact = jnp.eye(6) / 2 + params.recurrent_kernel[:, -6:].T / 4
    return Case(jacobian, exact, 1e-12)


def _irnn_keeps(full: bool) -> Case:
    cell = cells.irnn(1, 6, dtype=jnp.float64)
    params = cell.init(jax.random.key(0))._replace(bias=jnp.ones(6))
    norms = log_gradient_norms(cell, params, jnp.zeros((300, 1)), _last)
    return Case(norms.joint[:-1], 0.5 * math.log(6), 1e-12)


def _network_at_rest(full: bool) -> Case:
    # Eigenvalues chosen apart, so that the rate settles at once.
    eigenvalues = jnp.array([-0.9, *np.linspace(-0.6, 0.6, 19)])
    basis = jax.random.orthogonal(jax.random.key(0), 20, dtype=jnp.float64)
    kernel = (basis * eigenvalues[None]) @ basis.T
    largest = _spectrum(systems.random_net(20), 2000, kernel)[0]
    return Case(largest, math.log(0.9), 1e-10)


def _antisymmetric_step(full: bool) -> Case:
    rate, damping = 0.1, 0.05
    draw = jax.random.normal(jax.random.key(0), (6, 6), jnp.float64)
    skew = draw - draw.T
    matrix = (1 - rate * damping) * jnp.eye(6) + rate * skew
    jacobian = carry_jacobians(systems.linear(matrix), matrix, systems.silence(1))
    frequency = np.linalg.eigvals(np.asarray(skew)).imag
    exact = 0.5 * np.log((1 - rate * damping) ** 2 + (rate * frequency) ** 2)
    return Case(log_singular_values(jacobian, num_sweeps=200), -np.sort(-exact), 1e-8)


def _oscillators(friction: float) -> tuple[Cell[Any, Any], jax.Array]:
    """Makes z′ = z + dt (tanh(W y) − y − friction z), y′ = y + dt z′, dt = 0.1."""

    def advance(kernel: jax.Array, carry: tuple[jax.Array, jax.Array]):
        y, z = carry
        z = z + 0.1 * (jnp.tanh(kernel @ y) - y - friction * z)
        return y + 0.1 * z, z

    kernel = jax.random.normal(jax.random.key(0), (5, 5), jnp.float64)
    return systems.autonomous((jnp.ones(5), jnp.zeros(5)), advance, kernel), kernel


def _damped_oscillators(full: bool) -> Case:
    cell, kernel = _oscillators(friction=2.0)
    rate = mean_log_determinant(cell, kernel, systems.silence(200))
    return Case(rate, 5 * math.log(1 - 0.1 * 2.0), 1e-10)


def _symplectic_oscillators(full: bool) -> Case:
    cell, kernel = _oscillators(friction=0.0)
    rate = mean_log_determinant(cell, kernel, systems.silence(200))
    return Case(rate, 0.0, 1e-10)


def _transient_growth(full: bool) -> Case:
    a, k, steps = 0.9, 5.0, 40
    matrix = jnp.array([[a, k], [0.0, a]])
    tangent = jnp.array([0.0, 1.0])
    norms = log_tangent_norms(
        systems.linear(matrix), matrix, systems.silence(steps), tangent
    )
    t = np.arange(steps + 1)
    exact = 0.5 * np.log((t * k * a ** (t - 1.0)) ** 2 + a ** (2.0 * t))
    return Case(norms.joint, exact, 1e-10)


def _torch_radius(full: bool) -> Case:
    size = 2048 if full else 512
    kernel = cells.elman(1, size, init="torch").init(jax.random.key(0)).recurrent_kernel
    radius = np.max(np.abs(np.linalg.eigvals(np.asarray(kernel))))
    norm = np.linalg.norm(np.asarray(kernel), 2)
    return Case([radius, norm], [1 / math.sqrt(3), 2 / math.sqrt(3)], 0.04)


def _truncated_linear(full: bool) -> Case:
    cell = cells.elman(1, 1, activation="identity", dtype=jnp.float64)
    one = jnp.ones((1, 1))
    params = cells.ElmanParams(one, 0.98 * one, jnp.zeros(1))
    start = cells.ElmanCarry(jnp.full(1, 50.0))
    error = truncation_error(cell, params, jnp.ones((2000, 1)), _last, [100], start)
    return Case(error.relative_error[0], 0.98**100, 1e-9)


def _rtrl(full: bool) -> Case:
    cell = cells.gru(2, 4, dtype=jnp.float64)
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (30, 2))
    targets = jnp.zeros((30, 4))

    def loss(y: jax.Array, target: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(y - target))

    exact, online = (
        ravel_pytree(gradient(cell, params, xs, targets, loss))[0]
        for gradient in (bptt_gradient, rtrl_gradient)
    )
    return Case(online, exact, 1e-10)


def _gaussian_products(full: bool) -> Case:
    size, steps = 8, 100_000 if full else 20_000
    cell = Cell(
        init=lambda key: (),
        initial_carry=lambda params: jnp.zeros(size),
        step=lambda params, s, x: (x @ s,) * 2,
        input_ndim=2,
    )
    xs = jax.random.normal(jax.random.key(0), (steps, size, size)) * size**-0.5
    exponents = lyapunov_exponents(cell, (), xs).exponents
    return Case(exponents, newman_spectrum(size, size**-0.5), 0.025)


def _sum_of_exponents(full: bool) -> Case:
    cell = cells.lstm(2, 4, dtype=jnp.float64)
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (500, 2))
    spectrum = lyapunov_exponents(cell, params, xs, burn_in=0, num_blocks=1)
    exact = mean_log_determinant(cell, params, xs, burn_in=0)
    return Case(jnp.sum(spectrum.exponents), exact, 1e-10)


def _time_reversal(full: bool) -> Case:
    cell, steps = cells.lstm(2, 16, dtype=jnp.float64), 4000
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (steps, 2))
    ones = jnp.ones(16)
    forward = log_tangent_norms(cell, params, xs, cells.LSTMCarry(ones, ones)).joint
    backward = log_gradient_norms(cell, params, xs, _last).joint
    rates = (
        (forward[-1] - forward[0]) / steps,
        (backward[0] - backward[-2]) / (steps - 1),
    )
    return Case(rates[1], rates[0], 2e-3)


def _logistic(full: bool) -> Case:
    cell = systems.autonomous(jnp.full(1, 0.3), lambda _, x: 4 * x * (1 - x))
    return Case(_spectrum(cell, 200_000 if full else 50_000)[0], math.log(2), 5e-4)


def _tent(full: bool) -> Case:
    cell = systems.autonomous(
        jnp.full(1, 0.3), lambda _, x: 1.9 * jnp.minimum(x, 1 - x)
    )
    return Case(_spectrum(cell, 2000)[0], math.log(1.9), 1e-10)


def _cat(full: bool) -> Case:
    matrix = jnp.array([[2.0, 1.0], [1.0, 1.0]])
    cell = systems.autonomous(
        jnp.array([0.1, 0.2]), lambda _, s: jnp.mod(matrix @ s, 1)
    )
    rate = math.log((3 + math.sqrt(5)) / 2)
    return Case(_spectrum(cell, 2000), [rate, -rate], 1e-10)


def _henon(full: bool) -> Case:
    cell = systems.autonomous(
        jnp.zeros(2),
        lambda _, s: jnp.stack([1 - 1.4 * jnp.square(s[0]) + s[1], 0.3 * s[0]]),
    )
    spectrum = _spectrum(cell, 200_000 if full else 50_000)
    # The sum is exact, the largest exponent is known to three digits: one scale each.
    return Case(
        [(spectrum[0] - 0.419) / 5e-3, (spectrum.sum() - math.log(0.3)) / 1e-9],
        [0.0, 0.0],
        1.0,
    )


def _lorenz(full: bool) -> Case:
    interval, steps = 0.01, 120_000 if full else 40_000

    def velocity(s: jax.Array) -> jax.Array:
        x, y, z = s
        return jnp.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

    def advance(_: Any, s: jax.Array) -> jax.Array:
        first = velocity(s)
        second = velocity(s + interval / 2 * first)
        third = velocity(s + interval / 2 * second)
        fourth = velocity(s + interval * third)
        return s + interval / 6 * (first + 2 * second + 2 * third + fourth)

    cell = systems.autonomous(jnp.array([1.0, 2.0, 20.0]), advance)
    spectrum = _spectrum(cell, steps) / interval
    exact = [0.9056, 0.0, -14.5723, -41 / 3]
    return Case([*spectrum, spectrum.sum()], exact, 0.03)


def _curse(full: bool) -> Case:
    cell = cells.elman(1, 1, activation="identity", dtype=jnp.float64)
    one = jnp.ones((1, 1))

    # E[(Σ k λᵏ⁻¹ x)²] without drawing: the response to a single 1, squared and added.
    steps, eigenvalue = 400, 0.9
    xs = jnp.zeros((steps, 1)).at[0].set(1.0)

    def responses(eigenvalue: jax.Array) -> jax.Array:
        params = cells.ElmanParams(one, eigenvalue * one, jnp.zeros(1))
        return unroll(cell, params, xs)[1][:, 0]

    slopes = jax.jacfwd(responses)(jnp.asarray(eigenvalue))
    exact = (1 + eigenvalue**2) / (1 - eigenvalue**2) ** 3
    return Case(jnp.sum(jnp.square(slopes)) / exact, 1.0, 1e-10)


def _baselines(full: bool) -> Case:
    lengths = (100, 200, 1000)
    measured = [tasks.copy_memory(length).baseline_loss for length in lengths]
    exact = [10 * math.log(8) / (length + 20) for length in lengths]
    adding = tasks.adding(100).baseline_loss
    return Case([*measured, adding], [*exact, 1 / 6], 1e-7)


CASES: Mapping[str, Callable[[bool], Case]] = {
    "orthogonal_product": _orthogonal_product,
    "diagonal_curve": _diagonal_curve,
    "lstm_cell_path": _lstm_cell_path,
    "gru_at_rest": _gru_at_rest,
    "irnn_keeps": _irnn_keeps,
    "network_at_rest": _network_at_rest,
    "antisymmetric_step": _antisymmetric_step,
    "damped_oscillators": _damped_oscillators,
    "symplectic_oscillators": _symplectic_oscillators,
    "transient_growth": _transient_growth,
    "torch_radius": _torch_radius,
    "truncated_linear": _truncated_linear,
    "online_gradient": _rtrl,
    "gaussian_products": _gaussian_products,
    "sum_of_exponents": _sum_of_exponents,
    "time_reversal": _time_reversal,
    "logistic_map": _logistic,
    "tent_map": _tent,
    "cat_map": _cat,
    "henon_map": _henon,
    "lorenz_flow": _lorenz,
    "curse_of_memory": _curse,
    "baselines": _baselines,
}
