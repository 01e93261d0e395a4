"""experiments.phase: a point of the map is a direct call of the library."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import phase
from experiments.common.launch import BAD_FLAG, Exit, parse
from experiments.laboratory.phase_axes import Axis, parse_axis
from experiments.laboratory.subjects import random_carry, split_keys
from experiments.phase import Options
from seqjax import cells
from seqjax.gradients.lyapunov import lyapunov_exponents
from seqjax.gradients.theory import critical_gain

SMALL = ("--hidden_size=3", "--num_sequences=2", "--length=40")


def run(folder: Path, *arguments: str) -> dict[str, np.ndarray]:
    """The arrays of a small map."""
    phase.main(parse([f"--out_dir={folder}", *SMALL, *arguments], Options))
    assert {path.suffix for path in folder.iterdir()} == {
        ".flags",
        ".jsonl",
        ".npz",
        ".png",
    }
    with np.load(folder / "phase.npz") as archive:
        return dict(archive)


def test_exponents_over_gain_and_amplitude(tmp_path: Path, capsys: Any) -> None:
    arrays = run(tmp_path, "--x=gain:0.5:2:3", "--y=amplitude:0:1:2")
    assert arrays["rates"].shape == (2, 3, 2)
    np.testing.assert_array_equal(arrays["median"], arrays["rates"].max(axis=2))
    assert len((tmp_path / "phase.jsonl").read_text().splitlines()) == 6
    assert "above 0 from gain" in capsys.readouterr().out
    curve = critical_gain(jnp.square(jnp.asarray(arrays["critical_y"])))
    np.testing.assert_allclose(arrays["critical_x"], curve, rtol=1e-5)

    # Row 1, column 2, second sequence: amplitude 1, gain 2.
    keys = split_keys(0)
    normal = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")
    zeros = jax.nn.initializers.zeros
    cell = cells.elman(
        2, 3, kernel_init=normal, recurrent_kernel_init=normal, bias_init=zeros
    )
    params = cell.init(jax.random.split(keys.params)[1])
    params = params._replace(recurrent_kernel=2 * params.recurrent_kernel)
    xs = jax.random.normal(keys.inputs, (2, 40, 2))[1]
    carry_key, _ = jax.random.split(jax.random.split(keys.measure)[1])
    carry = random_carry(cell, params, carry_key)
    found = lyapunov_exponents(cell, params, xs, 1, carry=carry).exponents[0]
    # Float32 in another compiled program.
    assert arrays["rates"][1, 2, 1] == pytest.approx(float(found), abs=1e-4)


def test_rates_over_forget_bias(tmp_path: Path) -> None:
    arrays = run(
        tmp_path,
        "--cell=lstm",
        "--init=torch",
        "--measure=rate",
        "--x=forget_bias:0:4:3",
        "--y=gain:0.5:1:2",
    )
    assert "critical_x" not in arrays
    # A wider open forget gate keeps more of the gradient.
    assert (np.diff(arrays["median"], axis=1) > 0).all()


def test_axes() -> None:
    axis = parse_axis("x", "gain:0.5:2:4")
    assert axis == Axis("gain", 0.5, 2.0, 4)
    np.testing.assert_array_equal(axis.values, np.array([0.5, 1, 1.5, 2], np.float32))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--x=foo:0:1:3"], "--x=foo:0:1:3: expected NAME:LOW:HIGH:COUNT"),
        (["--x=gain:0:1"], "expected NAME:LOW:HIGH:COUNT"),
        (["--x=gain:1:0:3"], "LOW < HIGH"),
        (["--x=gain:0:nan:3"], "LOW < HIGH"),
        (["--y=amplitude:-1:1:3"], "0 <= LOW"),
        (["--x=gain:0:1:2.5"], "a whole COUNT from 2 to 500"),
        (["--x=gain:0:1:1"], "a whole COUNT from 2 to 500"),
        (["--y=gain:0:1:3"], "--x, --y: expected two axes, got gain"),
        (["--gain=2"], "--gain: has no meaning with --x=gain:..."),
        (["--x=forget_bias:0:1:3"], "has a meaning only with --cell=lstm"),
        (["--cell=irnn", "--init=torch"], "--init=torch: has no meaning with"),
    ],
)
def test_wrong_flags_are_one_line(arguments: list[str], words: str) -> None:
    with pytest.raises(Exit) as caught:
        parse(["--out_dir=o", *arguments], Options)
    assert caught.value.code == BAD_FLAG
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
