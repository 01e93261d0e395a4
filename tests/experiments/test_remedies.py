"""Remedies: a run minimises and limits what the library's functions say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common.launch import Exit, parse
from experiments.runs.flow import loss_of_outputs
from experiments.runs.loop import build
from experiments.runs.options import Options
from experiments.runs.remedies import add_remedies
from seqjax import cells, losses, tasks
from seqjax.gradients import remedies
from seqjax.models import Forecaster
from seqjax.training import make_objective

FLAGS = (
    *("--omega=0.5", "--orthogonal_penalty=2", "--spectral_limit=0.5"),
    *("--flossing=4", "--flossing_exponents=2", "--flossing_steps=3"),
    *("--hidden_size=3", "--run_dir=a"),
)


def test_penalties_and_limit_are_those_of_the_library() -> None:
    cell = cells.lstm(2, 3)
    model, generator = Forecaster(cell, 1), np.random.default_rng(0)
    batch = tasks.sample_batch(tasks.adding(6), jax.random.key(0), 2)
    shapes = jax.eval_shape(model.init, jax.random.key(1), batch.inputs)["params"]
    params = jax.tree.map(
        lambda s: jnp.asarray(generator.normal(size=s.shape), s.dtype), shapes
    )
    objective = add_remedies(
        make_objective("forecast", "mean_squared_error"), parse(FLAGS, Options), model
    )
    penalty, limit = objective.penalty, objective.constraint
    assert penalty is not None
    assert limit is not None

    @jax.jit
    def both(params):
        kernel = params["cell"].recurrent_kernel

        def omega(example):
            loss_fn = loss_of_outputs(
                model, params, losses.SUMS["mean_squared_error"], example
            )
            return remedies.omega_penalty(cell, params["cell"], example.inputs, loss_fn)

        def floss(xs):
            return remedies.flossing_penalty(cell, params["cell"], xs, 2)

        expected = (
            4 * jnp.mean(jax.vmap(floss)(batch.inputs)),
            0.5 * jnp.mean(jax.vmap(omega)(batch))
            + 2 * remedies.orthogonal_penalty(kernel, num_blocks=4),
        )
        found = [penalty(params, batch, step) for step in jnp.arange(2, 4)]
        return found, expected, limit(params)

    found, expected, limited = both(params)
    assert [float(share) for _, share in found] == [0, 1]
    # The same float32 sums, fused another way.
    np.testing.assert_allclose([value for value, _ in found], expected, rtol=1e-5)
    blocks = np.split(np.asarray(limited["cell"].recurrent_kernel), 4, axis=1)
    # Rounding of a singular value decomposition in float32.
    largest = [np.linalg.norm(block, 2) for block in blocks]
    np.testing.assert_allclose(largest, 0.5, rtol=1e-5)
    untouched = limited["cell"]._replace(
        recurrent_kernel=params["cell"].recurrent_kernel
    )
    jax.tree.map(
        np.testing.assert_array_equal, {**limited, "cell": untouched}, {**params}
    )


def test_without_flags_nothing_is_added() -> None:
    objective = make_objective("forecast", "mean_squared_error")
    model = Forecaster(cells.gru(2, 3), 1)
    assert add_remedies(objective, parse(["--run_dir=a"], Options), model) == objective


def test_more_exponents_than_the_carry_has_entries_are_refused() -> None:
    flags = (*FLAGS, "--flossing_exponents=7")
    with pytest.raises(Exit, match="--flossing_exponents=7: expected at most 6") as e:
        build(parse(flags, Options))
    assert e.value.code == 2
