"""Stacks, both directions, resets and learned starts against their parts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seqjax import Cell, cells, unroll
from seqjax.combinators import (
    Both,
    Wrapped,
    bidirectional,
    layer_norm,
    learned_carry,
    projection,
    residual,
    stack,
    variational_dropout,
    with_reset,
    zoneout,
)
from tests.helpers import assert_trees_close, random_like
from tests.unroll_cases import LENGTHS, loop, run, sequence_case, take

GRU = cells.gru(3, 4)
TWO_LAYERS = stack(GRU, cells.lstm(4, 2))
LENGTHS_OF_3 = jnp.asarray(LENGTHS[0])

# The same float32 sums, in other orders where a product over the batch or the
# fusion of a multiply and an add differ.
assert_close = functools.partial(assert_trees_close, rtol=5e-6, atol=2e-6)


def test_a_stack_runs_layer_by_layer():
    params, xs, carry = sequence_case(3, cell=TWO_LAYERS)
    options = {"lengths": LENGTHS_OF_3, "reverse": True}
    first, hidden = run(GRU, params[0], xs, carry[0], **options)
    second, expected = run(cells.lstm(4, 2), params[1], hidden, carry[1], **options)
    got = run(TWO_LAYERS, params, xs, carry, **options)
    assert_close(got, ((first, second), expected))


@pytest.mark.parametrize(
    "cell",
    [
        TWO_LAYERS,
        stack(TWO_LAYERS, cells.elman(2, 3)),
        residual(projection(GRU, 4, 3)),
        layer_norm(GRU, 4),
        learned_carry(TWO_LAYERS),
        zoneout(GRU, 0.25),
        variational_dropout(GRU, input=0.5),
        stack(zoneout(GRU, 0.25), layer_norm(cells.gru(4, 4), 4), dropout=0.5),
    ],
    ids=repr,
)
def test_steps_of_a_composite_equal_its_unroll(cell):
    params, xs, carry = sequence_case(cell=cell)
    got = run(cell, params, xs, carry, return_carries=True)
    assert_close(got, loop(cell, params, xs, carry))


def test_every_layer_draws_its_own_params():
    cell = stack(cells.gru(4, 4), cells.gru(4, 4))
    first, second = cell.init(jax.random.key(0))
    assert not np.any(first.kernel == second.kernel)
    both = bidirectional(cells.gru(4, 4)).init(jax.random.key(0))
    assert not np.any(both.forward.kernel == both.backward.kernel)


def test_a_stack_needs_a_cell():
    with pytest.raises(ValueError, match="stack: expected at least one cell"):
        stack()
    with pytest.raises(ValueError, match=r"dropout: .*\[0, 1\), got 1.0"):
        stack(GRU, dropout=1.0)


MERGED = {
    "concat": lambda ys, zs: jnp.concatenate([ys, zs], axis=-1),
    "sum": lambda ys, zs: ys + zs,
    "mean": lambda ys, zs: (ys + zs) / 2,
    "none": Both,
}


@pytest.mark.parametrize("merge", MERGED)
def test_bidirectional_is_two_unrolls(merge):
    cell = bidirectional(GRU, cells.lstm(3, 4), merge=merge)
    params, xs, carry = sequence_case(3, cell=cell)
    run_one = functools.partial(run, lengths=LENGTHS_OF_3)
    first, ys = run_one(GRU, params.forward, xs, carry.forward)
    second, zs = run_one(
        cells.lstm(3, 4), params.backward, xs, carry.backward, reverse=True
    )
    got = run_one(cell, params, xs, carry)
    assert_close(got, (Both(first, second), MERGED[merge](ys, zs)))


def test_reverse_of_bidirectional_swaps_the_directions():
    cell = bidirectional(GRU, merge="none")
    params, xs, carry = sequence_case(2, cell=cell)
    got = run(cell, params, xs, carry, reverse=True)
    final, ys = run(cell, Both(*params[::-1]), xs, Both(*carry[::-1]))
    assert_close(got, (Both(*final[::-1]), Both(*ys[::-1])))


def test_merging_needs_equal_widths():
    cell = bidirectional(GRU, cells.gru(3, 5))
    params, xs, _ = sequence_case(cell=cell)
    with pytest.raises(ValueError, match="equal width to concat, got 4 and 5"):
        unroll(cell, params, xs)
    with pytest.raises(ValueError, match="merge: expected one of concat"):
        bidirectional(GRU, merge="product")


def test_bidirectional_has_no_single_step():
    cell = stack(bidirectional(GRU))
    params, xs, carry = sequence_case(cell=cell)
    with pytest.raises(ValueError, match="whole sequence, got a single step"):
        cell.step(params, carry, xs[0])


@pytest.mark.parametrize("reverse", [False, True])
def test_with_reset_is_unroll_with_resets(reverse):
    params, xs, carry = sequence_case(3, cell=GRU)
    resets = jnp.zeros((3, 5), bool).at[0, 2].set(True).at[2, 0].set(True)
    got = run(with_reset(GRU), params, (xs, resets), carry, reverse=reverse)
    assert_close(got, run(GRU, params, xs, carry, resets=resets, reverse=reverse))


def test_with_reset_inside_a_stack_restarts_its_own_layer():
    cell = stack(with_reset(GRU), cells.lstm(4, 2))
    params, xs, carry = sequence_case(3, cell=TWO_LAYERS)
    resets = jnp.zeros((3, 5), bool).at[:, 2].set(True)
    first, hidden = run(GRU, params[0], xs, carry[0], resets=resets)
    second, ys = run(cells.lstm(4, 2), params[1], hidden, carry[1])
    assert_close(run(cell, params, (xs, resets), carry), ((first, second), ys))


def test_with_reset_adds_to_the_resets_of_unroll():
    params, xs, carry = sequence_case(2, cell=GRU)
    own = jnp.zeros((2, 5), bool).at[:, 1].set(True)
    given = jnp.zeros((2, 5), bool).at[:, 3].set(True)
    got = run(with_reset(GRU), params, (xs, own), carry, resets=given)
    assert_close(got, run(GRU, params, xs, carry, resets=own | given))


def test_steps_with_reset_equal_the_unroll():
    cell = with_reset(learned_carry(GRU))
    params, xs, carry = sequence_case(cell=learned_carry(GRU))
    resets = jnp.array([False, True, False, True, False])
    ys, step = [], jax.jit(cell.step)
    for pair in zip(xs, resets, strict=True):
        carry, y = step(params, carry, pair)
        ys.append(y)
    _, _, start = sequence_case(cell=learned_carry(GRU))
    assert_close(run(cell, params, (xs, resets), start), (carry, jnp.stack(ys)))


@pytest.mark.parametrize("cell", [GRU, TWO_LAYERS], ids=repr)
def test_a_learned_carry_is_the_carry(cell):
    learned = learned_carry(cell)
    params, xs, carry = sequence_case(cell=cell)
    wrapped = Wrapped(params, carry)
    assert_close(run(learned, wrapped, xs), run(cell, params, xs, carry))
    assert_trees_close(
        learned.init(jax.random.key(0)).outer, cell.initial_carry(params)
    )

    def loss(wrapped, resets):
        return jnp.sum(unroll(learned, wrapped, xs, resets=resets)[1])

    def loss_of_carry(carry, xs):
        return jnp.sum(unroll(cell, params, xs, carry)[1])

    gradient, expected = jax.jit(jax.grad(loss)), jax.jit(jax.grad(loss_of_carry))
    once = gradient(wrapped, jnp.zeros(5, bool)).outer
    assert_close(once, expected(carry, xs))
    # Five segments of one step each add their gradients.
    each = gradient(wrapped, jnp.ones(5, bool)).outer
    by_step = [expected(carry, xs[t : t + 1]) for t in range(5)]
    assert_close(each, jax.tree.map(lambda *a: sum(a), *by_step))


def test_a_learned_carry_around_a_stack_is_one_around_each_layer():
    params, xs, carry = sequence_case(2, cell=TWO_LAYERS)
    start = take(carry, 0)
    resets = jnp.zeros((2, 5), bool).at[:, 3].set(True)
    around = learned_carry(TWO_LAYERS)
    within = stack(learned_carry(GRU), learned_carry(cells.lstm(4, 2)))
    each = tuple(map(Wrapped, params, start))
    got = run(around, Wrapped(params, start), xs, resets=resets)
    assert_close(got, run(within, each, xs, resets=resets))


def test_returned_carries_of_a_composite():
    cell = learned_carry(layer_norm(TWO_LAYERS, 2))
    params, xs, carry = sequence_case(cell=cell)
    carries, ys = run(cell, params, xs, carry, return_carries=True)
    for t in range(5):
        until, expected = run(cell, params, xs[: t + 1], carry)
        assert_close(take(carries, t), until)
        assert_close(ys[: t + 1], expected)


@pytest.mark.parametrize("options", [{"method": "checkpoint"}, {"window": 2}])
def test_options_reach_every_layer(options):
    """Gradients of a stack are those of its layers run with the same options."""
    params, xs, _ = sequence_case(2, cell=TWO_LAYERS)

    def stacked(params):
        return jnp.sum(unroll(TWO_LAYERS, params, xs, **options)[1])

    def layered(params):
        _, ys = unroll(GRU, params[0], xs, **options)
        return jnp.sum(unroll(cells.lstm(4, 2), params[1], ys, **options)[1])

    got = jax.jit(jax.grad(stacked))(params)
    assert_close(got, jax.jit(jax.grad(layered))(params))
    full = jax.jit(jax.grad(lambda p: jnp.sum(unroll(TWO_LAYERS, p, xs)[1])))(params)
    same = np.allclose(got[0].kernel, full[0].kernel, rtol=1e-4)
    assert same == ("method" in options)


def _deep() -> Cell:
    """Three bidirectional LSTMs with dropout between, as one expression."""
    return stack(*(bidirectional(cells.lstm(n, 4)) for n in (3, 8, 8)), dropout=0.2)


def test_composites_print_and_compare_by_value():
    assert repr(_deep()) == (
        "stack(bidirectional(lstm(input_size=3, hidden_size=4)), "
        "bidirectional(lstm(input_size=8, hidden_size=4)), "
        "bidirectional(lstm(input_size=8, hidden_size=4)), dropout=0.2)"
    )
    assert _deep() == _deep()
    assert hash(_deep()) == hash(_deep())
    assert zoneout(GRU, 0.1) != zoneout(GRU, 0.2)
    assert stack(GRU) not in (GRU, stack(GRU, GRU), learned_carry(GRU))


def test_a_deep_network_with_dropout_trains():
    cell = _deep()
    params, xs, _ = sequence_case(4, cell=cell)
    targets = random_like(jnp.zeros((4, 5, 8)), seed=4)
    optimizer = optax.sgd(0.1)

    @jax.jit
    def train_step(params, key):
        def loss(params):
            lengths = jnp.array([5, 3, 1, 0])
            _, ys = unroll(cell, params, xs, lengths=lengths, key=key)
            return jnp.mean((ys - targets) ** 2)

        value, gradients = jax.value_and_grad(loss)(params)
        updates, _ = optimizer.update(gradients, optimizer.init(params))
        return optax.apply_updates(params, updates), value

    losses = []
    for _ in range(20):
        params, loss = train_step(params, jax.random.key(1))
        losses.append(float(loss))
    assert np.all(np.isfinite(losses))
    assert losses == sorted(losses, reverse=True)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params))
