"""What the tests of `unroll` run: an LSTM, exact running sums, plain loops."""

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import Cell, cells, factory, unroll
from tests.helpers import random_like

LSTM = cells.lstm(3, 4)
NUM_STEPS = 5
START = np.array([1, -2], np.float32)
LENGTHS = np.array([[5, 3, 0], [1, 4, 2]])
PADDING = np.arange(NUM_STEPS) >= LENGTHS[..., None]

# Many calls share one program: the cell is a static argument.
run = jax.jit(
    unroll,
    static_argnums=0,
    static_argnames=("reverse", "window", "method", "return_carries"),
)


@factory
def summing(size: int = 2) -> Cell:
    """Running sums from params: exact in float32 for small whole numbers."""
    return Cell(
        init=lambda key: jnp.zeros(size),
        initial_carry=lambda params: params,
        step=lambda params, carry, x: (carry + x,) * 2,
    )


def sequence_case(*batch: int, cell: Cell = LSTM, num_steps: int = NUM_STEPS):
    """Params, xs, and a carry away from the initial one."""
    params = random_like(cell.init(jax.random.key(0)), seed=1)
    xs = jnp.zeros((*batch, num_steps, 3))
    initial = cell.initial_carry(params)
    carry = jax.tree.map(lambda a: jnp.zeros((*batch, *a.shape)), initial)
    return params, random_like(xs, seed=2, scale=1.0), random_like(carry, seed=3)


def whole_numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-9, 9, shape).astype(np.float32)


def run_sums(xs, carry=None, **options):
    """Running sums that begin at START."""
    return unroll(summing(), *jax.tree.map(jnp.asarray, (START, xs, carry)), **options)


def temporary_bytes(program: jax.stages.Compiled) -> int:
    """Memory that a compiled program needs besides its arguments and results."""
    analysis = program.memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


def take(tree, index):
    return jax.tree.map(lambda a: a[index], tree)


def loop(cell, params, xs, carry, reverse=False):
    """The plainest unroll of one sequence: every carry and output in input order."""
    order = range(len(xs))[::-1] if reverse else range(len(xs))
    step, results = jax.jit(cell.step), {}
    for t in order:
        carry, y = step(params, carry, xs[t])
        results[t] = carry, y
    return jax.tree.map(lambda *a: jnp.stack(a), *(results[t] for t in range(len(xs))))
