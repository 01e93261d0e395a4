"""Cells are plain JAX: jit, vmap, static arguments, no leaks."""

import functools

import jax
import jax.numpy as jnp

from seqjax import unroll
from tests.contract.cases import FACTORIES, make, one_step_case, sequence_case
from tests.helpers import assert_trees_close, count_traces

# A step is a few dozen float32 sums of order one; fusion and the batched product
# change their order.
assert_close = functools.partial(assert_trees_close, rtol=2e-6, atol=1e-6)


def test_jit_equals_eager(cell):
    case = one_step_case(cell)
    assert_close(jax.jit(cell.step)(*case), cell.step(*case))


def test_vmap_equals_a_loop(cell):
    params, xs = sequence_case(cell, 3)
    carry = cell.initial_carry(params)
    run = jax.jit(jax.vmap(functools.partial(cell.step, params), (None, 0)))
    rows = [jax.jit(cell.step)(params, carry, x) for x in xs]
    assert_close(run(carry, xs), jax.tree.map(lambda *a: jnp.stack(a), *rows))


def test_a_rebuilt_cell_does_not_trace_again(name):
    counted, traces = count_traces(unroll)
    run = jax.jit(counted, static_argnums=0)
    params, xs = sequence_case(make(name), 3)
    first, again = (run(make(name), params, xs) for _ in range(2))
    assert len(traces) == 1
    assert_trees_close(again, first)


def test_cells_of_other_factories_or_options_differ(name):
    others = [make(other) for other in FACTORIES if other != name]
    assert make(name) not in others


def test_no_tracer_leaks(cell):
    params, xs = sequence_case(cell, 2, 3)

    def loss(params):
        return jnp.sum(unroll(cell, params, xs, lengths=jnp.array([3, 1]))[1])

    with jax.checking_leaks():
        jax.make_jaxpr(jax.grad(loss))(params)
