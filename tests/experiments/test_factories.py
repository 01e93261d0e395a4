"""From flags to optimisers and tasks, where a flag means one thing for one cell."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.common.launch import parse
from experiments.runs.factories import build_optimizer, build_source
from experiments.runs.options import Options
from seqjax import cells


def _options(*arguments: str) -> Options:
    return parse(["--run_dir=a", *arguments], Options)


@pytest.mark.parametrize(
    ("cell", "recurrent"),
    [
        ("exprnn", {"skew"}),
        ("elman", {"recurrent_kernel"}),
        ("lru", {"nu_log", "theta_log", "gamma_log"}),
    ],
)
def test_what_recurs_has_a_learning_rate_of_its_own(
    cell: str, recurrent: set[str]
) -> None:
    flags = ("--optimizer=sgd", "--clip_norm=0", "--recurrent_learning_rate=0.25")
    options = _options(f"--cell={cell}", "--learning_rate=0.5", *flags)
    optimizer = build_optimizer(options, optax.constant_schedule(0.5))
    params: Any = {"cell": cells.CELLS[cell](2, 3).init(jax.random.key(0))}
    ones: Any = jax.tree.map(jnp.ones_like, params)
    updates: Any = optimizer.update(ones, optimizer.init(params), params)[0]
    for name, update in updates["cell"]._asdict().items():
        expected = -0.25 if name in recurrent else -0.5
        np.testing.assert_array_equal(update, np.full(update.shape, expected))


def test_the_delay_reaches_the_task() -> None:
    flags = ("--task=delayed_xor", "--length=9", "--batch_size=1")
    for flag, first_answer in (("--delay=3", 6), ("--delay=none", 4)):
        source = build_source(_options(*flags, flag), seed=0)
        example = source.expand(source.train_batch(0))
        assert int(np.argmax(example.mask[0])) == first_answer
