"""Newton iterations that a whole trajectory takes, against its Lyapunov exponent."""

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.pictures import style
from experiments.pictures.parallel import draw_newton_errors, draw_newton_iterations
from experiments.studies.kit.study import Picture, Result
from seqjax import cells, newton_unroll, unroll
from seqjax.gradients.lyapunov import lyapunov_exponents

_SIZE, _DRIVE = 16, 0.1  # units; standard deviation of what the input adds to one
_GAINS = (0.5, 0.7, 0.9, 1.1, 1.3, 1.6, 2.0, 2.5)
_TOLERANCE = 1e-6
_FORGETS, _EDGE, _CHAOS = -0.3, -0.1, 0.02  # exponents that part the orbits


class _Orbits(NamedTuple):
    """Orbits of several networks at every gain.

    Attributes:
      exponents: the largest of each orbit, nats per step, `[network, gain]`.
      iterations: made by Newton's method, `[network, gain]`.
      converged: whether they sufficed, `[network, gain]`.
      changes: largest change of a carry in each iteration,
        `[network, gain, iteration]`; NaN for those not made.
      errors: of the outputs against those of one step after the other,
        `[network, gain]`.
    """

    exponents: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray
    changes: np.ndarray
    errors: np.ndarray


def measure(folder: Path, full: bool) -> Result:
    """Runs Newton's method and measures the exponent on the same orbits."""
    num_networks, length, limit = (8, 1024, 200) if full else (4, 256, 100)
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), num_networks)
        found = _measure(keys, jnp.asarray(_GAINS), length, limit)
    orbits = _Orbits(*map(np.asarray, found))
    np.savez(folder / "orbits.npz", gains=_GAINS, **orbits._asdict())
    exponents, counts = orbits.exponents, orbits.iterations
    forgetting = counts[exponents < _FORGETS]
    values = {
        "forgetting_iterations": np.median(forgetting),
        "forgetting_iterations_most": np.max(forgetting),
        "edge_iterations": np.median(counts[(exponents > _EDGE) & (exponents < 0)]),
        "chaotic_converged": np.mean(orbits.converged[exponents > _CHAOS]),
        "converged_error": np.max(orbits.errors[orbits.converged]),
    }
    values = {name: float(value) for name, value in values.items()}
    return Result(values, _pictures(folder, orbits, limit))


@functools.partial(jax.jit, static_argnums=(2, 3))
def _measure(
    keys: jax.Array, gains: jax.Array, length: int, limit: int
) -> tuple[jax.Array, ...]:
    """Measures what `_Orbits` holds."""
    cell = cells.elman(1, _SIZE, dtype=jnp.float64)

    def one(key: jax.Array, gain: jax.Array) -> tuple[jax.Array, ...]:
        recurrent_key, kernel_key, inputs_key = jax.random.split(key, 3)
        recurrent = jax.random.normal(recurrent_key, (_SIZE, _SIZE)) * _SIZE**-0.5
        kernel = _DRIVE * jax.random.normal(kernel_key, (1, _SIZE))
        params = cells.ElmanParams(kernel, gain * recurrent, jnp.zeros(_SIZE))
        xs = jax.random.normal(inputs_key, (length, 1))
        found = newton_unroll(
            cell, params, xs, max_iterations=limit, tolerance=_TOLERANCE
        )
        return (
            lyapunov_exponents(cell, params, xs, 1).exponents[0],
            found.num_iterations,
            found.converged,
            found.errors,
            jnp.max(jnp.abs(found.ys - unroll(cell, params, xs)[1])),
        )

    # One orbit after the other: together all would iterate as long as the slowest.
    return jax.lax.map(
        lambda key: jax.lax.map(lambda gain: one(key, gain), gains), keys
    )


def _pictures(folder: Path, orbits: _Orbits, limit: int) -> list[Picture]:
    first = zip(_GAINS, orbits.exponents[0], orbits.changes[0], strict=True)
    changes = {f"g = {gain:g}, λ = {rate:.2g}": row for gain, rate, row in first}
    counts = np.where(orbits.converged, orbits.iterations, limit)
    groups = {
        "gain below 1": np.asarray(_GAINS) < 1,
        "gain above 1": np.asarray(_GAINS) > 1,
    }
    scatter = draw_newton_iterations(
        {name: orbits.exponents[:, group].ravel() for name, group in groups.items()},
        {name: counts[:, group].ravel() for name, group in groups.items()},
        limit=limit,
    )
    curves = draw_newton_errors(changes, tolerance=_TOLERANCE)
    return [
        Picture(
            style.save(scatter, folder / "iterations.png"),
            "Newton iterations against the largest Lyapunov exponent",
            "The exponent that lets gradients vanish lets a trajectory be computed in "
            "parallel: where a network forgets, a few iterations settle all steps; "
            "towards zero, where memory is long, it takes many; chaos is not settled "
            "within the limit. Above a gain of 1 an orbit may end where it forgets and "
            "still take many: the first guess, zero, is where such a network expands.",
        ),
        Picture(
            style.save(curves, folder / "changes.png"),
            "What each iteration still changes, in one network",
            "Near the solution the change is squared in every iteration. Before, an "
            "iteration may settle little more than the first steps that the one before "
            "left open. λ in nats per step; first changes above 1e6 are left out.",
        ),
    ]
