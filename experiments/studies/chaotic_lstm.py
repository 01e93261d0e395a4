"""An LSTM of two units without input that is chaotic: its gradients explode."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.pictures import style
from experiments.pictures.phase import draw_attractors, draw_bifurcation
from experiments.studies.kit import systems
from experiments.studies.kit.study import Picture, Result
from seqjax import cells, unroll
from seqjax.gradients.lyapunov import (
    kaplan_yorke_dimension,
    lyapunov_exponents,
    mean_log_determinant,
)

_TRANSIENT = 1000
# Two programs that round differently follow one orbit for so many steps, then part.
_TOGETHER = 100


def measure(folder: Path, full: bool) -> Result:
    """Measures all four exponents, the attractor, and the way there."""
    with jax.enable_x64(True):
        return _measure(folder, full)


def _measure(folder: Path, full: bool) -> Result:
    length = 1_000_000 if full else 100_000
    cell = systems.chaotic_lstm()
    params = cell.init(jax.random.key(0))
    xs = jnp.zeros((length, 1))
    carry = unroll(cell, params, xs[:_TRANSIENT])[0]
    spectrum = jax.jit(lambda: lyapunov_exponents(cell, params, xs, carry=carry))()
    exponents = np.asarray(spectrum.exponents)
    values = {f"exponent_{i}": float(rate) for i, rate in enumerate(exponents, start=1)}
    values["sum"] = float(exponents.sum())
    values["sum_error"] = _sum_error(cell, params, xs[:_TOGETHER], carry)
    values["kaplan_yorke_dimension"] = float(kaplan_yorke_dimension(spectrum.exponents))
    orbit = np.asarray(unroll(cell, params, xs[:60_000], carry)[1])
    scales = np.linspace(0.4, 1.6, 900 if full else 450)
    orbits, rates = _scaled(cell, params, jnp.asarray(scales))
    np.savez(
        folder / "orbits.npz",
        allow_pickle=False,
        orbit=orbit,
        scales=scales,
        rates=rates,
    )
    return Result(values, _pictures(folder, orbit, scales, orbits, rates))


def _sum_error(
    cell: systems.Cell, params: cells.LSTMParams, xs: jax.Array, carry: cells.LSTMCarry
) -> float:
    """Compares the sum of all exponents with the mean of ln |det J|."""
    exponents = lyapunov_exponents(
        cell, params, xs, carry=carry, burn_in=0, num_blocks=1
    ).exponents
    determinant = mean_log_determinant(cell, params, xs, carry=carry, burn_in=0)
    return abs(float(jnp.sum(exponents) - determinant))


def _scaled(
    cell: systems.Cell, params: cells.LSTMParams, scales: jax.Array
) -> tuple[np.ndarray, np.ndarray]:
    """Scales all weights: late orbits `[scale, time]`, largest exponents `[scale]`."""
    xs = jnp.zeros((1500, 1))

    def one(scale: jax.Array) -> tuple[jax.Array, jax.Array]:
        scaled = jax.tree.map(lambda leaf: scale * leaf, params)
        ys = unroll(cell, scaled, xs)[1]
        spectrum = lyapunov_exponents(cell, scaled, xs, 1, burn_in=0.4)
        return ys[-300:, 0], spectrum.exponents[0]

    orbits, rates = jax.jit(jax.vmap(one))(scales)
    return np.asarray(orbits), np.asarray(rates)


def _pictures(
    folder: Path,
    orbit: np.ndarray,
    scales: np.ndarray,
    orbits: np.ndarray,
    rates: np.ndarray,
) -> list[Picture]:
    attractor = draw_attractors(
        {f"{len(orbit):,} steps, no input": orbit}, labels=("h₁", "h₂")
    )
    bifurcation = draw_bifurcation(
        scales,
        orbits,
        exponents=rates,
        parameter_label="factor on all weights (1: the published ones)",
        state_label="h₁",
    )
    return [
        Picture(
            style.save(attractor, folder / "attractor.png"),
            "The strange attractor of a two-unit LSTM",
            "Gates do not keep gradients from exploding: two nearby states move apart "
            "by 19 % per step.",
        ),
        Picture(
            style.save(bifurcation, folder / "bifurcation.png"),
            "From rest to chaos",
            "Late states (above) and largest exponent (below) when all weights are "
            "scaled. Where it is above zero, gradients explode, and a smooth change of "
            "the weights changes the orbit abruptly.",
        ),
    ]
