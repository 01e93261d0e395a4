"""A long memory is sensitive to its own parameter, although no gradient explodes."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.pictures import style
from experiments.pictures.memory import draw_sensitivity
from experiments.studies.kit.study import Picture, Result
from seqjax import cells, unroll
from seqjax.gradients.theory import CurseOfMemory, curse_of_memory

# 1 − λ from 1/2 to 1/1000.
_EIGENVALUES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
_BURN_IN = 10  # memories 1 / (1 − λ)


class _Squares(NamedTuple):
    """Mean squares at every eigenvalue, `[eigenvalue]`.

    Attributes:
      state: E[h²].
      sensitivity: E[(dh/dλ)²].
      tamed: E[(dγh/dν)²] for λ = exp(−exp(ν)) and γ = √(1 − λ²), both functions of ν.
    """

    state: Any
    sensitivity: Any
    tamed: Any


def measure(folder: Path, full: bool) -> Result:
    """Simulates h′ = λ h + x with white x, and compares with the closed form."""
    num_sequences, length = (256, 100_000) if full else (64, 40_000)
    eigenvalues = jnp.asarray(_EIGENVALUES)
    squares = _simulate(jax.random.key(0), eigenvalues, num_sequences, length)
    squares = _Squares(*map(np.asarray, squares))
    np.savez(
        folder / "squares.npz",
        allow_pickle=False,
        eigenvalues=eigenvalues,
        **squares._asdict(),
    )
    theory = curse_of_memory(eigenvalues)
    state = squares.state / np.asarray(theory.state)
    sensitivity = squares.sensitivity / np.asarray(theory.sensitivity)
    at = {value: _EIGENVALUES.index(value) for value in (0.9, 0.99, 0.999)}
    steep = np.polyfit(
        -np.log1p(-np.asarray(_EIGENVALUES))[2:], np.log(squares.sensitivity)[2:], 1
    )
    values = {
        "state_ratio_0_99": float(state[at[0.99]]),
        "sensitivity_ratio_0_9": float(sensitivity[at[0.9]]),
        "sensitivity_ratio_0_99": float(sensitivity[at[0.99]]),
        "sensitivity_ratio_0_999": float(sensitivity[at[0.999]]),
        "power_of_memory": float(steep[0]),
        "tamed_sensitivity_0_999": float(squares.tamed[at[0.999]]),
    }
    return Result(values, [_picture(folder, squares, theory)])


@functools.partial(jax.jit, static_argnums=(2, 3))
def _simulate(
    key: jax.Array, eigenvalues: jax.Array, num_sequences: int, length: int
) -> _Squares:
    """Averages over time and sequences, one sequence after the other."""
    cell = cells.elman(1, 1, activation="identity")

    def states(eigenvalue: jax.Array, xs: jax.Array) -> jax.Array:
        one = jnp.ones((1, 1))
        params = cells.ElmanParams(one, eigenvalue.reshape(1, 1), jnp.zeros(1))
        return unroll(cell, params, xs)[1][:, 0]

    def one(eigenvalue: jax.Array, xs: jax.Array) -> _Squares:
        tangent = jnp.ones_like(eigenvalue)
        h, dh = jax.jvp(lambda value: states(value, xs), (eigenvalue,), (tangent,))
        # d(γ h)/dν = (dγ/dλ h + γ dh/dλ) dλ/dν.
        gamma = jnp.sqrt(1 - jnp.square(eigenvalue))
        slope = eigenvalue * jnp.log(eigenvalue)
        dg = (gamma * dh - eigenvalue / gamma * h) * slope
        late = jnp.arange(1.0, length + 1) > _BURN_IN / (1 - eigenvalue)
        share = jnp.mean(late.astype(h.dtype))
        return _Squares(
            *(
                jnp.mean(jnp.where(late, jnp.square(row), 0)) / share
                for row in (h, dh, dg)
            )
        )

    def sequence(key: jax.Array) -> _Squares:
        xs = jax.random.normal(key, (length, 1))
        return jax.vmap(one, in_axes=(0, None))(eigenvalues, xs)

    rows = jax.lax.map(sequence, jax.random.split(key, num_sequences))
    return jax.tree.map(lambda row: jnp.mean(row, axis=0), rows)


def _picture(folder: Path, squares: _Squares, theory: CurseOfMemory) -> Picture:
    figure = draw_sensitivity(
        np.asarray(_EIGENVALUES),
        {
            "E[(dh/dλ)²]": squares.sensitivity,
            "E[h²]": squares.state,
            "normalised, in ν": squares.tamed,
        },
        theory={
            "(1 + λ²)/(1 − λ²)³": np.asarray(theory.sensitivity),
            "1/(1 − λ²)": np.asarray(theory.state),
        },
    )
    return Picture(
        style.save(figure, folder / "curse_of_memory.png"),
        "The curse of memory",
        "Marks: simulation of h′ = λ h + x. The state grows with the memory, its "
        "sensitivity to λ with the third power, while |dh′/dh| = λ stays below one. "
        "Scaled by √(1 − λ²) and as a function of ν, λ = exp(−exp(ν)), it no longer "
        "grows.",
    )
