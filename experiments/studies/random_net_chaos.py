"""The transition to chaos of a large random network, against mean-field theory."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.pictures import style
from experiments.pictures.spectra import draw_exponent_curves, draw_lyapunov_spectra
from experiments.studies.kit import systems
from experiments.studies.kit.study import Picture, Result
from seqjax.gradients.lyapunov import (
    kaplan_yorke_dimension,
    lyapunov_exponents,
    mean_log_determinant,
)
from seqjax.gradients.theory import mean_field

_GAINS = (0.5, 0.7, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
_SPECTRUM_GAINS = (0.9, 1.5, 2.0, 3.0)
_SPECTRUM_SIZE = 100
# Two programs that round differently follow one chaotic orbit for so many steps.
_TOGETHER = 50


class _Spectra(NamedTuple):
    """Full spectra at every gain.

    Attributes:
      exponents: nats per step, `[gain, n]` descending.
      errors: standard errors, `[gain, n]`.
      sum_errors: sum of all exponents − mean ln |det J| over a few steps, `[gain]`.
      log_radius: ln of the spectral radius of g W, `[gain]`.
    """

    exponents: np.ndarray
    errors: np.ndarray
    sum_errors: np.ndarray
    log_radius: np.ndarray


def measure(folder: Path, full: bool) -> Result:
    """Measures the largest exponent over the gain, and full spectra at a few gains."""
    size, length, num_networks = (800, 4000, 5) if full else (400, 1500, 3)
    gains = jnp.asarray(_GAINS)
    keys = jax.random.split(jax.random.key(0), num_networks)
    largest = np.stack([_largest(key, gains, size, length) for key in keys])
    # In float64: a unit far out has a slope of tanh that rounds to 0 in float32.
    with jax.enable_x64(True):
        spectra = _spectra(jax.random.key(1), 8000 if full else 2000)
        mean_rate = _mean_exponent(jax.random.key(2), 2.0, 32 if full else 8)
    np.savez(
        folder / "exponents.npz", gains=gains, largest=largest, **spectra._asdict()
    )
    # The median: now and then the chaos of a finite network ends in a limit cycle.
    middle = np.median(largest, axis=0)
    at = {gain: float(middle[_GAINS.index(gain)]) for gain in (1.5, 2.0, 3.0)}
    rest = _SPECTRUM_GAINS.index(0.9)
    chaotic = spectra.exponents[_SPECTRUM_GAINS.index(2.0)]
    values = {
        "largest_at_gain_1_5": at[1.5],
        "largest_at_gain_2": at[2.0],
        "largest_at_gain_3": at[3.0],
        "mean_at_gain_2": mean_rate,
        "rest_error": abs(float(spectra.exponents[rest, 0] - spectra.log_radius[rest])),
        "sum_error": float(np.max(np.abs(spectra.sum_errors))),
        "gain_at_the_edge": _zero_crossing(middle),
        "dimension_at_gain_2": float(
            kaplan_yorke_dimension(jnp.asarray(chaotic, float))
        ),
    }
    return Result(values, _pictures(folder, largest, spectra, size))


def _largest(key: jax.Array, gains: jax.Array, size: int, length: int) -> np.ndarray:
    """Measures λ₁ of one network at every gain, `[gain]`."""
    cell = systems.random_net(size)
    kernel_key, start_key = jax.random.split(key)
    kernel = cell.init(kernel_key)
    start = jax.random.normal(start_key, (size,))

    def one(gain: jax.Array) -> jax.Array:
        return lyapunov_exponents(
            cell, gain * kernel, systems.silence(length), 1, carry=start, burn_in=0.3
        ).exponents[0]

    # One gain after the other: a single kernel stays in the cache.
    return np.asarray(jax.jit(lambda gains: jax.lax.map(one, gains))(gains))


def _spectra(key: jax.Array, length: int) -> _Spectra:
    cell = systems.random_net(_SPECTRUM_SIZE)
    kernel_key, start_key = jax.random.split(key)
    kernel = cell.init(kernel_key)
    start = jax.random.normal(start_key, (_SPECTRUM_SIZE,))
    xs = systems.silence(length)

    def one(gain: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        params = gain * kernel
        spectrum = lyapunov_exponents(cell, params, xs, carry=start, burn_in=0.2)
        few = xs[:_TOGETHER]
        first = lyapunov_exponents(
            cell, params, few, carry=start, burn_in=0, num_blocks=1
        )
        determinant = mean_log_determinant(cell, params, few, carry=start, burn_in=0)
        gap = jnp.sum(first.exponents) - determinant
        return spectrum.exponents, spectrum.standard_errors, gap

    gains = jnp.asarray(_SPECTRUM_GAINS)
    exponents, errors, gaps = jax.jit(lambda gains: jax.lax.map(one, gains))(gains)
    radius = np.max(np.abs(np.linalg.eigvals(np.asarray(kernel, float))))
    log_radius = np.log(radius * np.asarray(_SPECTRUM_GAINS))
    return _Spectra(
        np.asarray(exponents), np.asarray(errors), np.asarray(gaps), log_radius
    )


def _mean_exponent(key: jax.Array, gain: float, num_networks: int) -> float:
    """Averages all exponents of several networks, from their determinants."""
    cell = systems.random_net(_SPECTRUM_SIZE)

    def one(key: jax.Array) -> jax.Array:
        kernel_key, start_key = jax.random.split(key)
        start = jax.random.normal(start_key, (_SPECTRUM_SIZE,))
        return mean_log_determinant(
            cell, gain * cell.init(kernel_key), systems.silence(600), carry=start
        )

    rates = jax.lax.map(one, jax.random.split(key, num_networks))
    return float(jnp.mean(rates)) / _SPECTRUM_SIZE


def _zero_crossing(rates: np.ndarray) -> float:
    """Finds the gain where the largest exponent first exceeds 0.01, interpolated.

    Not 0: on a limit cycle, which lies between rest and chaos, the exponent is 0.
    """
    above = int(np.argmax(rates > 0.01))
    return float(
        np.interp(0.01, rates[above - 1 : above + 1], _GAINS[above - 1 : above + 1])
    )


def _pictures(
    folder: Path, largest: np.ndarray, spectra: _Spectra, size: int
) -> list[Picture]:
    theory = np.asarray(mean_field(jnp.asarray(_GAINS)).largest_exponent)
    curve = draw_exponent_curves(
        np.asarray(_GAINS),
        {f"measured, {size} units": largest},
        theory={"mean-field theory": theory},
        critical=1.0,
    )
    names = [f"g = {gain:g}" for gain in _SPECTRUM_GAINS]
    spectrum = draw_lyapunov_spectra(
        dict(zip(names, spectra.exponents, strict=True)),
        standard_errors=dict(zip(names, spectra.errors, strict=True)),
    )
    return [
        Picture(
            style.save(curve, folder / "transition.png"),
            "The transition to chaos of x′ = g W tanh(x)",
            "The largest Lyapunov exponent is the slope of a gradient over long lags: "
            "below g = 1 gradients vanish, above they explode, and the theory of "
            "infinitely many units says how fast. Just above the edge finite networks "
            "run in limit cycles, whose exponent is zero.",
        ),
        Picture(
            style.save(spectrum, folder / "spectra.png"),
            f"All {_SPECTRUM_SIZE} exponents",
            "Most directions shrink even where the largest ones explode: a gradient "
            "that survives lies in a few directions. Bands: two standard errors.",
        ),
    ]
