"""The carry that comes out has the structure, shapes and dtypes of what went in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import unroll
from tests.contract.cases import FACTORIES, make, one_step_case, sequence_case
from tests.helpers import assert_trees_close


def _description(tree):
    return jax.tree.map(lambda a: (a.shape, a.dtype.name, a.weak_type), tree)


def test_step_keeps_structure_shapes_and_dtypes(cell):
    params, carry, x = one_step_case(cell)
    initial = jax.eval_shape(cell.initial_carry, params)
    after, _ = jax.eval_shape(cell.step, params, initial, x)
    assert jax.tree.structure(after) == jax.tree.structure(initial)
    assert _description(after) == _description(initial)
    assert _description(carry) == _description(initial)


def test_every_part_of_the_carry_remembers_the_input(cell):
    params, carry, x = one_step_case(cell)
    step = jax.jit(cell.step)
    after, _ = step(params, carry, x)
    other, _ = step(params, step(params, carry, -x)[0], x)
    pairs = zip(jax.tree.leaves(after), jax.tree.leaves(other), strict=True)
    assert not any(np.array_equal(part, changed) for part, changed in pairs)


def test_the_initial_carry_is_a_function_of_params_alone(cell):
    params, _, _ = one_step_case(cell)
    assert_trees_close(cell.initial_carry(params), jax.jit(cell.initial_carry)(params))


@pytest.mark.parametrize(
    "name", [name for name in FACTORIES if make(name).output is not None]
)
def test_a_declared_output_is_the_output(cell):
    params, carry, x = one_step_case(cell)
    carry, y = cell.step(params, carry, x)
    np.testing.assert_array_equal(cell.output(carry), y)


def test_unroll_equals_a_loop_of_steps(cell):
    params, xs = sequence_case(cell, 4)
    step, carry = jax.jit(cell.step), cell.initial_carry(params)
    carries, ys = [], []
    for x in xs:
        carry, y = step(params, carry, x)
        carries.append(carry)
        ys.append(y)
    expected = jax.tree.map(lambda *a: jnp.stack(a), *carries), jnp.stack(ys)
    got = unroll(cell, params, xs, return_carries=True)
    # The compiler may fuse a multiply and an add in one of the two programs.
    assert_trees_close(got, expected, rtol=2e-6, atol=1e-6)
