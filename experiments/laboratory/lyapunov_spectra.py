"""Lyapunov spectra of cells: measured, checked against a second route, drawn."""

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.launch import BAD_FLAG, Exit
from experiments.common.out_dir import OutDir, print_table
from experiments.laboratory.kernel_spectra import (
    first_network,
    kernel_eigenvalues,
    run_snapshots,
)
from experiments.laboratory.subject_flags import GAUSSIAN, InputFlags, SubjectFlags
from experiments.laboratory.subjects import (
    Subject,
    build_subjects,
    random_carry,
    split_keys,
)
from experiments.pictures import spectra, style
from seqjax import unroll
from seqjax.array_types import Array, Key, PyTree
from seqjax.cell import Cell
from seqjax.gradients.jacobian import (
    carry_jacobians,
    log_condition_number,
    log_singular_values,
)
from seqjax.gradients.lyapunov import (
    LyapunovExponents,
    entropy_rate,
    kaplan_yorke_dimension,
    lyapunov_exponents,
    mean_log_determinant,
)
from seqjax.gradients.theory import mean_field

_NUM_PRODUCTS = 8
_BURN_IN, _NUM_BLOCKS = 0.1, 20
_COLUMNS = {
    "cell": "cell",
    "init": "parameters",
    "time": "steps",
    "largest": "largest, nats/step",
    "standard_error": "± s.e.",
    "theory": "mean-field",
    "half_life": "half-life, steps",
    "condition_growth": "ln κ growth, nats/step",
    "dimension": "KY dimension",
    "entropy": "entropy, nats/step",
    "sum": "sum",
    "log_determinant": "mean ln |det J|",
}


class Plan(NamedTuple):
    """What is measured of each subject.

    Attributes:
      num_exponents: None for all.
      qr_every: steps between two factorisations.
      product_length: longest product of Jacobians, 0 for none.
    """

    num_exponents: int | None
    qr_every: int
    product_length: int


class Spectrum(NamedTuple):
    """What was measured of one subject.

    Attributes:
      row: its line of the table.
      title: of the subject.
      exponents: nats per step, `[sequence, exponent]`.
      standard_errors: like `exponents`.
      product_lengths: `[product]`; empty for none.
      log_singular_values: `[product, value]`.
      eigenvalues: of the recurrent kernel; see `kernel_eigenvalues`.
    """

    row: dict[str, Any]
    title: str
    exponents: np.ndarray
    standard_errors: np.ndarray
    product_lengths: np.ndarray
    log_singular_values: np.ndarray
    eigenvalues: dict[str, np.ndarray]


def report(
    options: SubjectFlags, inputs: InputFlags, plan: Plan, folder: OutDir
) -> list[dict[str, Any]]:
    """Measures all subjects, prints the table, and writes all files.

    Args:
      options: which cells.
      inputs: what drives them.
      plan: what is measured.
      folder: where files go.

    Returns:
      The rows of the table, one per subject.
    """
    keys = jax.random.split(split_keys(inputs.seed).measure, inputs.num_sequences)
    snapshots = run_snapshots(Path(options.run_dir)) if options.run_dir else {}
    measured = [
        measure(
            subject,
            _carries(subject, keys, trained=bool(options.run_dir)),
            plan,
            _theory(subject, options, inputs),
            snapshots or first_network(subject),
        )
        for subject in build_subjects(options, inputs)
    ]
    rows = [{"spectrum": str(n)} | each.row for n, each in enumerate(measured)]
    folder.write_rows(rows)
    names = ("exponents", "standard_errors", "product_lengths", "log_singular_values")
    folder.write_arrays(
        {
            f"{number}.{name}": getattr(each, name)
            for number, each in enumerate(measured)
            for name in names
        }
        | {
            f"{number}.eigenvalues{gate and '.'}{gate}": values
            for number, each in enumerate(measured)
            for gate, values in each.eigenvalues.items()
        }
    )
    print_table("Lyapunov exponents, mean over the sequences", _COLUMNS, rows)
    _draw(measured, folder)
    _draw_eigenvalues(measured, list(snapshots), folder)
    return rows


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def batch_exponents(
    cell: Cell,
    num_exponents: int | None,
    qr_every: int,
    params: PyTree,
    xs: Array,
    carries: PyTree,
) -> LyapunovExponents:
    """Measures sequences with a network each; leaves `[sequence, exponent]`."""

    def one(params: PyTree, xs: Array, carry: PyTree) -> LyapunovExponents:
        return lyapunov_exponents(
            cell,
            params,
            xs,
            num_exponents,
            carry=carry,
            burn_in=_BURN_IN,
            qr_every=qr_every,
            num_blocks=_NUM_BLOCKS,
        )

    return jax.vmap(one)(params, xs, carries)


@functools.partial(jax.jit, static_argnums=(0, 1))
def batch_log_determinants(
    cell: Cell, qr_every: int, params: PyTree, xs: Array, carries: PyTree
) -> Array:
    """Measures mean ln |det J|, `[sequence]`, over the steps of `batch_exponents`."""
    num_steps = xs.shape[1]
    block = (num_steps - round(_BURN_IN * num_steps)) // (_NUM_BLOCKS * qr_every)
    counted = block * _NUM_BLOCKS * qr_every

    def one(params: PyTree, xs: Array, carry: PyTree) -> Array:
        return mean_log_determinant(
            cell, params, xs, carry=carry, burn_in=1 - counted / num_steps
        )

    return jax.vmap(one)(params, xs, carries)


def measure(
    subject: Subject,
    carries: PyTree,
    plan: Plan,
    theory: float,
    snapshots: Mapping[str, PyTree],
) -> Spectrum:
    """Returns the spectrum of one subject.

    Args:
      subject: what is measured.
      carries: what enters the first steps, leaves `[sequence, ...]`.
      plan: how.
      theory: the largest exponent that theory expects, or NaN.
      snapshots: parameters whose recurrent kernels are looked at.

    Raises:
      Exit: the cell cannot be measured so.
    """
    _, cell, params, xs = subject
    try:
        found = batch_exponents(
            cell, plan.num_exponents, plan.qr_every, params, xs, carries
        )
        whole = plan.num_exponents is None
        determinants = (
            batch_log_determinants(cell, plan.qr_every, params, xs, carries)
            if whole
            else None
        )
    except ValueError as error:
        raise Exit(BAD_FLAG, f"{subject.title}: {error}") from error
    exponents, errors = (np.asarray(part, float) for part in found)
    row = subject.labels | _summarise(exponents, errors, determinants)
    row |= {"time": xs.shape[1], "theory": theory}
    lengths = product_lengths(min(plan.product_length, xs.shape[1]))
    values = _products(subject, carries, lengths) if lengths else np.zeros((0, 0))
    return Spectrum(
        row,
        subject.title,
        exponents,
        errors,
        np.array(lengths, int),
        values,
        kernel_eigenvalues(subject, snapshots),
    )


def _summarise(
    exponents: np.ndarray, errors: np.ndarray, determinants: Array | None
) -> dict[str, Any]:
    """Returns means over the sequences; NaN for what needs the whole spectrum."""
    mean = exponents.mean(axis=0)
    error = np.sqrt(np.mean(np.square(errors[:, 0])) / len(errors))
    settled = abs(mean[0]) >= 3 * error and mean[0] != 0
    row = {
        "num_sequences": len(exponents),
        "num_exponents": len(mean),
        "largest": float(mean[0]),
        "standard_error": float(error),
        "spread": float(exponents[:, 0].std()),
        "half_life": math.log(2) / abs(float(mean[0])) if settled else math.nan,
        "entropy": _entropy(exponents),
        "condition_growth": math.nan,
        "dimension": math.nan,
        "sum": math.nan,
        "log_determinant": math.nan,
    }
    if determinants is None:
        return row
    dimensions = jax.vmap(kaplan_yorke_dimension)(jnp.asarray(exponents))
    return row | {
        "condition_growth": float(mean[0] - mean[-1]),
        "dimension": float(jnp.mean(dimensions)),
        "sum": float(exponents.sum(axis=1).mean()),
        "log_determinant": float(jnp.mean(determinants)),
    }


def _entropy(exponents: np.ndarray) -> float:
    """Returns the mean entropy rate; NaN where positive exponents may be missing."""
    if np.any(exponents[:, -1] > 0):
        return math.nan
    return float(jnp.mean(jax.vmap(entropy_rate)(jnp.asarray(exponents))))


def _theory(subject: Subject, options: SubjectFlags, inputs: InputFlags) -> float:
    """Returns the largest exponent of mean-field theory, or NaN where it has none."""
    known = (subject.labels["cell"], subject.labels["init"]) == ("elman", GAUSSIAN)
    if not known or inputs.inputs != "normal":
        return math.nan
    return float(mean_field(options.gain, inputs.amplitude**2).largest_exponent)


def product_lengths(longest: int) -> list[int]:
    """Returns about eight lengths from 1 to the longest, evenly by ratio."""
    if not longest:
        return []
    return sorted({round(x) for x in np.geomspace(1, longest, _NUM_PRODUCTS)})


def _carries(subject: Subject, keys: Key, *, trained: bool) -> PyTree:
    """Returns what enters the first steps: random for networks without a task."""
    if trained:
        return jax.vmap(subject.cell.initial_carry)(subject.params)
    return jax.vmap(random_carry, (None, 0, 0))(subject.cell, subject.params, keys)


def _products(subject: Subject, carries: PyTree, lengths: list[int]) -> np.ndarray:
    """Returns ln σ of products over the last steps of the first sequence."""
    cell, xs = subject.cell, subject.xs[0]
    params, carry = jax.tree.map(lambda leaf: leaf[0], (subject.params, carries))
    start = len(xs) - lengths[-1]
    if start:
        carry, _ = unroll(cell, params, xs[:start], carry)
    jacobians = carry_jacobians(cell, params, xs[start:], carry)
    values = jax.jit(log_singular_values)
    return np.stack([np.asarray(values(jacobians[:n]), float) for n in lengths])


def _draw(measured: list[Spectrum], folder: OutDir) -> None:
    """Draws the spectra, and the products where there are any."""
    many = len({each.row["length"] for each in measured}) > 1
    named = {
        each.title + (f", T = {each.row['length']:,}" if many else ""): each
        for each in measured
    }
    figure = spectra.draw_lyapunov_spectra(
        {name: each.exponents.mean(axis=0) for name, each in named.items()},
        standard_errors={
            name: each.standard_errors.mean(axis=0) for name, each in named.items()
        },
        theory={
            name: each.row["theory"]
            for name, each in named.items()
            if math.isfinite(each.row["theory"])
        },
        dimensions={name: each.row["dimension"] for name, each in named.items()},
    )
    style.save(figure, folder.path(".png"))
    if all(len(each.product_lengths) > 1 for each in measured):
        # Lengths of sequences may differ, those of products then do, too.
        first = measured[0].product_lengths
        values = {
            name: each.log_singular_values
            for name, each in named.items()
            if np.array_equal(each.product_lengths, first)
        }
        figure = spectra.draw_singular_values(first, values)
        style.save(figure, folder.path("_products.png"))
        condition = jax.vmap(log_condition_number)
        figure = spectra.draw_condition_numbers(
            first, {name: condition(jnp.asarray(v)) for name, v in values.items()}
        )
        style.save(figure, folder.path("_conditions.png"))


def _draw_eigenvalues(
    measured: list[Spectrum], snapshots: list[str], folder: OutDir
) -> None:
    """Draws what is known of kernels; the same at every length of the sequences."""
    clouds = {
        ": ".join(
            filter(None, (each.row["cell"] if snapshots else each.title, gate))
        ): v
        for each in measured
        for gate, v in each.eigenvalues.items()
    }
    if clouds:
        figure = spectra.draw_eigenvalues(clouds, snapshots or [""])
        style.save(figure, folder.path("_eigenvalues.png"))
