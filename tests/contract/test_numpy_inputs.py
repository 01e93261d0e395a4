"""NumPy arrays do wherever JAX arrays do.

Signatures say `jax.Array`, and the suite checks them, so this runs as users run it: in
a process of its own without these checks.
"""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import Cell, cells, unroll
from tests.contract.cases import make, sequence_case
from tests.helpers import assert_trees_close, random_like


def test_numpy_inputs_give_the_same_results():
    command = [sys.executable, "-m", "tests.contract.test_numpy_inputs"]
    subprocess.run(command, check=True)


def _numpy(tree):
    return jax.tree.map(np.asarray, tree)


def _check_step(cell: Cell) -> None:
    params, x = sequence_case(cell)
    case = params, cell.initial_carry(params), x
    # NumPy's own product sums in another order.
    assert_trees_close(cell.step(*_numpy(case)), cell.step(*case), rtol=2e-6, atol=1e-6)


def _check_unroll(cell: Cell) -> None:
    params, xs = sequence_case(cell, 2, 4)
    carry = jax.vmap(lambda _: cell.initial_carry(params))(xs)
    case = params, xs, random_like(carry, seed=8)
    resets = np.array([[False, True, False, False], [False, False, True, False]])
    options = {"lengths": np.array([4, 2]), "resets": resets}
    got = unroll(cell, *_numpy(case), **options)
    assert_trees_close(got, unroll(cell, *case, **jax.tree.map(jnp.asarray, options)))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(got))


if __name__ == "__main__":
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    for name in cells.CELLS:
        _check_step(make(name))
        _check_unroll(make(name))
