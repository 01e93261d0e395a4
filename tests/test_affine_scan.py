"""What JAX's transformations make of the rule for affine cells."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from seqjax import cells, unroll
from tests.contract.cases import hand_made
from tests.helpers import assert_trees_close, random_like
from tests.unroll_cases import temporary_bytes

CELL = cells.lstm(3, 4)
PARAMS = random_like(CELL.init(jax.random.key(0)), seed=1)
XS = random_like(jnp.zeros((5, 6, 3)), seed=2)
# Sums of a few dozen float32 products of order one, in another order.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def loss(method="auto", **options):
    def fn(params, xs):
        _, ys = unroll(CELL, params, xs, method=method, **options)
        return jnp.sum(jnp.sin(3 * ys))

    return fn


def mapped_loss(method="auto"):
    return lambda params, xs: jnp.sum(jax.vmap(loss(method), (None, 0))(params, xs))


DERIVATIVES = {
    "jvp": lambda fn: jax.jvp(fn, (PARAMS, XS), (PARAMS, XS)),
    "forward over reverse": lambda fn: jax.jvp(
        jax.grad(fn), (PARAMS, XS), (PARAMS, XS)
    ),
    "reverse over reverse": lambda fn: jax.grad(
        lambda xs: jnp.sum(jnp.square(jax.grad(fn, 1)(PARAMS, xs)))
    )(XS),
    "reverse over forward": lambda fn: jax.grad(
        lambda xs: jax.jvp(lambda xs: fn(PARAMS, xs), (xs,), (xs,))[1]
    )(XS),
    "forward over forward": lambda fn: jax.jvp(
        lambda xs: jax.jvp(lambda xs: fn(PARAMS, xs), (xs,), (XS,))[1], (XS,), (XS,)
    ),
    "linearize": lambda fn: jax.linearize(fn, PARAMS, XS)[1](PARAMS, XS),
    "remat": lambda fn: jax.grad(jax.checkpoint(fn))(PARAMS, XS),
    "jacfwd": lambda fn: jax.jacfwd(fn, 1)(PARAMS, XS),
}


@pytest.mark.parametrize("derivative", DERIVATIVES.values(), ids=DERIVATIVES)
def test_every_kind_of_derivative_is_that_of_plain_autodiff(derivative):
    got, expected = (
        jax.jit(lambda m=m: derivative(loss(m)))() for m in ("auto", "scan")
    )
    assert_trees_close(got, expected, **CLOSE)


def test_mapping_over_sequences_is_the_batched_call():
    got = jax.jit(jax.grad(mapped_loss(), (0, 1)))(PARAMS, XS)
    assert_trees_close(got, jax.jit(jax.grad(loss(), (0, 1)))(PARAMS, XS), **CLOSE)


def test_gradients_of_single_examples_stay_apart():
    """What a batching rule that sums weight gradients would get silently wrong."""
    each = jax.jit(jax.vmap(jax.grad(loss()), (None, 0)))(PARAMS, XS)
    rows = [jax.jit(jax.grad(loss("scan")))(PARAMS, x) for x in XS]
    assert_trees_close(each, jax.tree.map(lambda *a: jnp.stack(a), *rows), **CLOSE)


@pytest.mark.parametrize("axes", [(0, None), (0, 0)])
@pytest.mark.parametrize("order", ["vmap of grad", "grad of vmap"])
def test_mapping_over_parameters(axes, order):
    stacked = jax.tree.map(lambda a: jnp.stack([a, 2 * a, -a]), PARAMS)
    xs = XS[:3] if axes[1] == 0 else XS

    def run(method):
        if order == "vmap of grad":
            return jax.vmap(jax.grad(loss(method), (0, 1)), axes)(stacked, xs)
        total = jax.vmap(loss(method), axes)
        return jax.grad(lambda *a: jnp.sum(total(*a)), (0, 1))(stacked, xs)

    got, expected = jax.jit(run, static_argnums=0)("auto"), run("scan")
    assert_trees_close(got, expected, **CLOSE)


@pytest.mark.parametrize("reverse", [False, True])
def test_mapping_over_lengths_with_windows(reverse):
    """The cuts of windows may be shared by a batch or not, and the map adds an axis."""
    lengths = jnp.array([6, 1, 0, 4, 5])

    def run(method):
        def one(params, x, length):
            options = {"lengths": length, "window": 2, "reverse": reverse}
            return loss(method, **options)(params, x)

        total = jax.vmap(one, (None, 0, 0))
        return jax.grad(lambda p: jnp.sum(total(p, XS, lengths)))(PARAMS)

    got, expected = jax.jit(run, static_argnums=0)("auto"), run("scan")
    assert_trees_close(got, expected, **CLOSE)


def compiled(fn, *shape):
    xs = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.jit(jax.grad(fn)).lower(PARAMS, xs).compile()


def test_memory_of_every_method():
    """In carries, `[batch, time, hidden]` floats, of which autodiff saves 14."""
    shape = (8, 1024, 3)
    unit = 4 * 8 * 1024 * 4
    carries = {
        method: temporary_bytes(compiled(loss(method), *shape)) / unit
        for method in ("scan", "auto", "checkpoint", "two_level")
    }
    # h, c and the cotangents of the outputs; and a chunk on top.
    assert carries["scan"] > 12
    assert 3 < carries["auto"] < 4
    # The outputs and their cotangents alone are 2.
    assert carries["two_level"] < carries["checkpoint"] < 2.5


def test_mapping_needs_no_more_memory_than_the_batched_call():
    batched, mapped = (
        temporary_bytes(compiled(fn, 64, 128, 3)) for fn in (loss(), mapped_loss())
    )
    assert mapped < 1.1 * batched


def test_cost_grows_with_the_steps_and_not_with_their_square():
    """As jaxlib 0.11.1 did. 16 times the steps: 16 times the cost, not 256 times."""

    def seconds(num_steps):
        program = compiled(loss(), 1, num_steps, 3)
        xs = jnp.zeros((1, num_steps, 3))
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            jax.block_until_ready(program(PARAMS, xs))
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds(32_000) < 80 * seconds(2_000)


@pytest.mark.parametrize("method", ["auto", "checkpoint", "scan"])
def test_a_shared_parameter_is_summed_over_a_mesh(method):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    spread = jax.shard_map(
        jax.grad(loss(method)), mesh=mesh, in_specs=(P(), P("data")), out_specs=P()
    )
    expected = jax.jit(jax.grad(loss()))(PARAMS, XS)
    assert_trees_close(jax.jit(spread)(PARAMS, XS), expected, **CLOSE)


@pytest.mark.parametrize("method", ["auto", "checkpoint", "scan"])
def test_rounded_products_change_three_digits(method):
    exact = jax.jit(jax.grad(loss()))(PARAMS, XS)
    rounded = jax.jit(jax.grad(loss(method, product_dtype=jnp.bfloat16)))(PARAMS, XS)
    for got, expected in zip(*map(jax.tree.leaves, (rounded, exact)), strict=True):
        assert got.dtype == jnp.float32
        error = np.linalg.norm(got - expected) / np.linalg.norm(expected)
        # bfloat16 has 8 bits: 2⁻⁹ per operand, more through 6 steps.
        assert 1e-5 < error < 0.02


def test_rounded_products_need_products():
    cell = hand_made(3, 4)
    params = cell.init(jax.random.key(0))
    with pytest.raises(ValueError, match="product_dtype: expected None for hand_made"):
        unroll(cell, params, XS, product_dtype=jnp.bfloat16)
