"""experiments.lyapunov: two routes to the sum, and NumPy to the singular values."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import lyapunov
from experiments.common.launch import BAD_FLAG, Exit, parse
from experiments.laboratory.kernel_spectra import kernel_eigenvalues
from experiments.laboratory.lyapunov_spectra import product_lengths
from experiments.laboratory.subjects import Subject, random_carry, split_keys
from experiments.lyapunov import Options
from seqjax import cells, unroll
from seqjax.gradients.jacobian import carry_jacobians
from seqjax.gradients.theory import mean_field
from tests.helpers import random_like


def test_spectrum_sum_and_products(tmp_path: Path) -> None:
    arguments = [
        f"--out_dir={tmp_path}",
        "--cells=elman",
        "--inits=gaussian",
        "--gain=1.3",
        "--amplitude=0.5",
        "--hidden_size=3",
        "--num_sequences=2",
        "--lengths=100",
        "--product_length=4",
    ]
    lyapunov.main(parse(arguments, Options))
    (row,) = map(json.loads, (tmp_path / "lyapunov.jsonl").read_text().splitlines())
    with np.load(tmp_path / "lyapunov.npz") as archive:
        arrays = dict(archive)
    exponents = arrays["0.exponents"]
    assert exponents.shape == (2, 3)
    # Both routes skip a tenth of the steps; float32 over 90 steps.
    assert row["sum"] == pytest.approx(row["log_determinant"], abs=1e-4)
    assert row["sum"] == pytest.approx(exponents.sum(1).mean(), rel=1e-6)
    assert row["largest"] == pytest.approx(exponents[:, 0].mean(), rel=1e-6)
    growth = exponents[:, 0].mean() - exponents[:, -1].mean()
    assert row["condition_growth"] == pytest.approx(growth, rel=1e-6)
    expected = float(mean_field(1.3, 0.25).largest_exponent)
    assert row["theory"] == pytest.approx(expected, rel=1e-6)
    names = {path.name for path in tmp_path.iterdir()}
    pictures = (f"lyapunov{end}.png" for end in ("", "_products", "_conditions"))
    assert {*pictures, "lyapunov_eigenvalues.png", "lyapunov.flags"} < names

    # Products of the last four Jacobians of the first sequence, in float64.
    keys = split_keys(0)
    normal = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")
    zeros = jax.nn.initializers.zeros
    cell = cells.elman(
        2, 3, kernel_init=normal, recurrent_kernel_init=normal, bias_init=zeros
    )
    params = cell.init(jax.random.split(keys.params)[0])
    params = params._replace(recurrent_kernel=1.3 * params.recurrent_kernel)
    # A real matrix: the product of its eigenvalues is its determinant.
    determinant = np.linalg.det(np.asarray(params.recurrent_kernel, float))
    assert arrays["0.eigenvalues"].shape == (1, 3)
    assert np.prod(arrays["0.eigenvalues"]) == pytest.approx(determinant, rel=1e-5)
    xs = 0.5 * jax.random.normal(keys.inputs, (2, 100, 2))[0]
    carry = random_carry(cell, params, jax.random.split(keys.measure)[0])
    carry, _ = unroll(cell, params, xs[:96], carry)
    jacobians = np.asarray(carry_jacobians(cell, params, xs[96:], carry), float)
    assert arrays["0.product_lengths"].tolist() == [1, 2, 3, 4]
    product = np.eye(3)
    for jacobian, found in zip(jacobians, arrays["0.log_singular_values"], strict=True):
        product = jacobian @ product
        direct = np.log(np.linalg.svd(product, compute_uv=False))
        # Orthogonal iteration in float32, eight sweeps: see log_singular_values.
        np.testing.assert_allclose(found, direct, atol=0.02)


def test_product_lengths_are_even_by_ratio() -> None:
    assert product_lengths(0) == []
    assert product_lengths(1) == [1]
    assert product_lengths(128) == [1, 2, 4, 8, 16, 32, 64, 128]


def test_kernels_of_gates_rotations_and_projections() -> None:
    def found(name: str, **options: int) -> dict[str, np.ndarray]:
        cell = cells.CELLS[name](1, 4, **options)
        shapes = jax.eval_shape(cell.init, jax.random.key(0))
        params = random_like(shapes, 0, 0.5)
        subject = Subject({"cell": name}, cell, params, jax.numpy.zeros((1, 1, 1)))
        return kernel_eigenvalues(subject, {"untrained": params, "step 9": params})

    assert {
        gate: values.shape for gate, values in found("lstm").items()
    } == dict.fromkeys("ifgo", (2, 4))
    # The eigenvalues of a rotation have modulus one.
    np.testing.assert_allclose(abs(found("exprnn")[""]), 1, atol=1e-5)
    # Twice as many real parts of states as outputs: a square that is no recurrence.
    assert found("lru", state_size=2)[""].shape == (2, 2)
    assert np.all(abs(found("lru")[""]) < 1)
    assert found("lstm", projection_size=2) == {}


def test_too_short_a_sequence_is_one_line(tmp_path: Path) -> None:
    arguments = ["--cells=irnn", "--lengths=7", "--hidden_size=2"]
    options = parse([*arguments, f"--out_dir={tmp_path}"], Options)
    with pytest.raises(Exit, match="irnn: ") as caught:
        lyapunov.main(options)
    assert caught.value.code == BAD_FLAG
    assert "\n" not in str(caught.value)
