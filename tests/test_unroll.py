"""Values of `unroll`: loops, batches, lengths, both directions, resets, carries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import Cell, cells, unroll
from tests.helpers import assert_trees_close
from tests.unroll_cases import (
    LENGTHS,
    LSTM,
    NUM_STEPS,
    PADDING,
    START,
    loop,
    run,
    run_sums,
    sequence_case,
    take,
    whole_numbers,
)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_scan_equals_a_loop_of_steps(batch, reverse):
    params, xs, carry = sequence_case(*batch)
    got = run(LSTM, params, xs, carry, reverse=reverse, return_carries=True)
    for index in np.ndindex(*batch):
        expected = loop(LSTM, params, xs[index], take(carry, index), reverse)
        # A product over the batch sums in another order than one of a single row.
        assert_trees_close(take(got, index), expected, rtol=2e-6, atol=1e-6)


def test_several_batch_axes_are_one_flat_axis():
    params, xs, carry = sequence_case(2, 3)
    flat = functools.partial(jax.tree.map, lambda a: a.reshape(6, *a.shape[2:]))
    lengths = jnp.asarray(LENGTHS)
    resets = jnp.zeros((2, 3, NUM_STEPS), bool).at[1, 2, 1].set(True)
    got = run(LSTM, params, xs, carry, lengths=lengths, resets=resets)
    expected = run(
        LSTM, params, flat(xs), flat(carry), lengths=flat(lengths), resets=flat(resets)
    )
    assert_trees_close(flat(got), expected)


def test_an_empty_batch_gives_empty_results():
    params, xs, _ = sequence_case(2)
    carry, ys = unroll(LSTM, params, xs[:0])
    assert ys.shape == (0, NUM_STEPS, 4)
    assert carry.cell.shape == (0, 4)


def test_pytree_inputs_of_every_rank():
    def step(params, carry, x):
        carry = carry + x["image"].sum() * x["weight"]
        return carry, {"double": 2 * carry, "token": x["token"]}

    cell = Cell(
        init=lambda key: (),
        initial_carry=lambda params: jnp.zeros(()),
        step=step,
        input_ndim={"image": 2, "weight": 0, "token": 0},
    )
    xs = {
        "image": whole_numbers(2, NUM_STEPS, 2, 3),
        "weight": whole_numbers(2, NUM_STEPS),
        "token": np.arange(10).reshape(2, NUM_STEPS),
    }
    lengths = np.array([5, 3])
    carry, ys = unroll(
        cell, (), jax.tree.map(jnp.asarray, xs), lengths=jnp.asarray(lengths)
    )
    sums = np.cumsum(np.sum(xs["image"], (2, 3)) * xs["weight"], 1)
    real = np.arange(NUM_STEPS) < lengths[:, None]
    np.testing.assert_array_equal(carry, sums[[0, 1], lengths - 1])
    np.testing.assert_array_equal(ys["double"], 2 * sums * real)
    np.testing.assert_array_equal(ys["token"], xs["token"] * real)


@pytest.mark.parametrize("method", ["scan", "checkpoint"])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_no_steps_return_the_carry_that_came_in(batch, method):
    params, xs, carry = sequence_case(*batch, num_steps=0)
    final, ys = unroll(LSTM, params, xs, carry, method=method, window=2)
    assert_trees_close(final, carry)
    assert ys.shape == (*batch, 0, 4)


@pytest.mark.parametrize("reverse", [False, True])
def test_lengths_cut_each_sequence_short(reverse):
    params, xs, carry = sequence_case(2, 3)
    final, ys = run(
        LSTM,
        params,
        jnp.where(PADDING[..., None], jnp.nan, xs),
        carry,
        lengths=jnp.asarray(LENGTHS),
        reverse=reverse,
    )
    assert not np.any(ys[PADDING])
    for index in np.ndindex(2, 3):
        start, end = take(carry, index), LENGTHS[index]
        if end == 0:
            assert_trees_close(take(final, index), start)
            continue
        carries, outputs = loop(LSTM, params, xs[index][:end], start, reverse)
        last = take(carries, 0 if reverse else -1)
        # Batched and single products sum in different orders.
        close = functools.partial(assert_trees_close, rtol=2e-6, atol=1e-6)
        close(ys[index][:end], outputs)
        close(take(final, index), last)


@pytest.mark.parametrize("reverse", [False, True])
def test_padding_reaches_no_gradient(reverse):
    params, xs, carry = sequence_case(2, 3)
    padding = PADDING[..., None]

    @jax.jit
    def gradients(params, xs, carry, lengths):
        def loss(params, xs, carry):
            final, ys = unroll(
                LSTM, params, xs, carry, lengths=lengths, reverse=reverse
            )
            return jnp.sum(ys) + jnp.sum(final.hidden * final.cell)

        return jax.grad(loss, (0, 1, 2))(params, xs, carry)

    clean, with_nan = (
        gradients(params, jnp.where(padding, rubbish, xs), carry, jnp.asarray(LENGTHS))
        for rubbish in (0, jnp.nan)
    )
    assert_trees_close(with_nan, clean)
    assert_trees_close(clean[1], jnp.where(padding, 0, clean[1]))
    # Where there is no step, the gradient of the carry is that of the loss on it.
    assert LENGTHS[0, 2] == 0
    np.testing.assert_array_equal(clean[2].hidden[0, 2], carry.cell[0, 2])


def test_lengths_may_be_known_inside_jit():
    xs, lengths = whole_numbers(3, NUM_STEPS, 2), jnp.asarray(LENGTHS[0])
    known = functools.partial(run_sums, lengths=lengths)
    assert_trees_close(jax.jit(known)(xs), known(xs))
    too_long = functools.partial(known, lengths=lengths + 1)
    with pytest.raises(ValueError, match="lengths: expected 0 to 5"):
        jax.jit(too_long)(xs)


def test_reverse_of_the_flipped_sequence_is_the_flipped_forward_run():
    params, xs, carry = sequence_case(2)
    final, ys = run(LSTM, params, xs, carry)
    flipped_final, flipped = run(LSTM, params, xs[:, ::-1], carry, reverse=True)
    assert_trees_close((flipped_final, flipped[:, ::-1]), (final, ys))


def test_reverse_with_lengths_starts_at_the_last_real_step():
    xs, lengths = whole_numbers(2, NUM_STEPS, 2), jnp.array([5, 3])
    final, ys = run_sums(xs, lengths=lengths, reverse=True)
    for row, end in enumerate((5, 3)):
        sums = START + np.cumsum(xs[row, :end][::-1], 0)[::-1]
        np.testing.assert_array_equal(ys[row, :end], sums)
        np.testing.assert_array_equal(final[row], sums[0])


@pytest.mark.parametrize("reverse", [False, True])
def test_a_reset_is_a_restart(reverse):
    params, xs, carry = sequence_case(2)
    params = params._replace(bias=params.bias + 1)
    resets = jnp.zeros((2, NUM_STEPS), bool).at[:, 2].set(True)
    final, ys = run(LSTM, params, xs, carry, resets=resets, reverse=reverse)
    parts, carries = (xs[:, :2], xs[:, 2:]), [carry, None]
    if reverse:
        # Both segments run backwards; the later one starts from the given carry.
        carries = [None, carry]
    halves = [
        run(LSTM, params, part, start, reverse=reverse)
        for part, start in zip(parts, carries, strict=True)
    ]
    expected = jnp.concatenate([ys for _, ys in halves], axis=1)
    last = halves[0 if reverse else 1][0]
    # Programs of different lengths may fuse a multiply and an add differently.
    assert_trees_close((final, ys), (last, expected), rtol=2e-6, atol=1e-6)


def test_a_reset_restores_the_initial_carry_of_params():
    xs = whole_numbers(NUM_STEPS, 2)
    carry = np.array([100, 200], np.float32)
    resets = jnp.array([False, False, True, False, True])
    final, ys = run_sums(xs, carry, resets=resets)
    segments = [(carry, xs[:2]), (START, xs[2:4]), (START, xs[4:])]
    expected = np.concatenate([s + np.cumsum(part, 0) for s, part in segments])
    np.testing.assert_array_equal(ys, expected)
    np.testing.assert_array_equal(final, expected[-1])
    first = jnp.zeros(NUM_STEPS, bool).at[0].set(True)
    _, ys = run_sums(xs, carry, resets=first)
    np.testing.assert_array_equal(ys, START + np.cumsum(xs, 0))


@pytest.mark.parametrize("reverse", [False, True])
def test_resets_inside_the_padding_do_nothing(reverse):
    params, xs, carry = sequence_case(2, 3)
    got, expected = (
        run(
            LSTM,
            params,
            xs,
            carry,
            lengths=jnp.asarray(LENGTHS),
            resets=jnp.asarray(resets),
            reverse=reverse,
        )
        for resets in (PADDING, np.zeros_like(PADDING))
    )
    assert_trees_close(got, expected)


def test_no_gradient_crosses_a_reset():
    params, xs, carry = sequence_case(2)
    resets = jnp.zeros((2, NUM_STEPS), bool).at[:, 3].set(True)

    def loss(xs, carry):
        return jnp.sum(unroll(LSTM, params, xs, carry, resets=resets)[1][:, 3:])

    xs_gradient, carry_gradient = jax.jit(jax.grad(loss, (0, 1)))(xs, carry)
    assert not np.any(xs_gradient[:, :3])
    assert np.all(np.any(xs_gradient[:, 3:], axis=-1))
    assert_trees_close(carry_gradient, jax.tree.map(jnp.zeros_like, carry))


@pytest.mark.parametrize("reverse", [False, True])
def test_returned_carries_are_held_after_the_end(reverse):
    xs, lengths = whole_numbers(2, NUM_STEPS, 2), jnp.array([5, 3])
    options = {"lengths": lengths, "reverse": reverse}
    carries, ys = run_sums(xs, return_carries=True, **options)
    final, _ = run_sums(xs, **options)
    np.testing.assert_array_equal(carries[0], ys[0])
    np.testing.assert_array_equal(carries[1, :3], ys[1, :3])
    held = START if reverse else carries[1, 2]
    np.testing.assert_array_equal(carries[1, 3:], np.stack([held, held]))
    np.testing.assert_array_equal(carries[:, 0 if reverse else -1], final)


@pytest.mark.parametrize("reverse", [False, True])
def test_split_in_two_equals_whole(reverse):
    params, xs, carry = sequence_case(2)
    final, ys = run(LSTM, params, xs, carry, reverse=reverse)
    early, late = xs[:, :2], xs[:, 2:]
    if reverse:
        carry, late_ys = run(LSTM, params, late, carry, reverse=True)
        carry, early_ys = run(LSTM, params, early, carry, reverse=True)
    else:
        carry, early_ys = run(LSTM, params, early, carry)
        carry, late_ys = run(LSTM, params, late, carry)
    got = carry, jnp.concatenate([early_ys, late_ys], axis=1)
    # Programs of different lengths may fuse a multiply and an add differently.
    assert_trees_close(got, (final, ys), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("reverse", [False, True])
def test_causality(reverse):
    params, xs, _ = sequence_case(2)
    _, ys = run(LSTM, params, xs, reverse=reverse)
    _, changed = run(LSTM, params, xs.at[:, 2].add(1), reverse=reverse)
    untouched = slice(3, None) if reverse else slice(0, 2)
    touched = slice(0, 3) if reverse else slice(2, None)
    np.testing.assert_array_equal(changed[:, untouched], ys[:, untouched])
    assert np.all(np.any(changed[:, touched] != ys[:, touched], axis=-1))


def test_permuting_the_batch_permutes_the_results():
    params, xs, carry = sequence_case(4)
    order = jnp.array([2, 0, 3, 1])
    lengths = jnp.array([5, 0, 2, 3])
    expected = take(run(LSTM, params, xs, carry, lengths=lengths), order)
    got = run(LSTM, params, xs[order], take(carry, order), lengths=lengths[order])
    assert_trees_close(got, expected)


BAD_CALLS = {
    r"xs: expected \[time, \.\.\.\].*got shape \(3,\)": {"xs": jnp.zeros(3)},
    r"lengths: expected whole numbers of shape \[2\], got int32\[3\]": {
        "lengths": jnp.ones(3, jnp.int32)
    },
    r"lengths: expected whole numbers of shape \[2\], got float32\[2\]": {
        "lengths": jnp.ones(2)
    },
    r"lengths: expected 0 to 5, .* got \[5, 6\]": {"lengths": jnp.array([5, 6])},
    r"lengths: expected 0 to 5, .* got \[-1, 5\]": {"lengths": jnp.array([-1, 5])},
    r"resets: expected bool\[2, 5\], one per step, got float32\[2, 5\]": {
        "resets": jnp.zeros((2, 5))
    },
    r"resets: expected bool\[2, 5\], one per step, got bool\[5\]": {
        "resets": jnp.zeros(5, bool)
    },
    r"carry: expected .*float32\[2, 4\].*got .*float32\[4\].*batch axes": {
        "carry": cells.LSTMCarry(jnp.zeros(4), jnp.zeros(4))
    },
    r"carry: expected .*float32\[2, 4\].*got .*bfloat16\[2, 4\]": {
        "carry": cells.LSTMCarry(*[jnp.zeros((2, 4), jnp.bfloat16)] * 2)
    },
    r"carry: expected LSTMCarry.*got \('float32": {"carry": (jnp.zeros((2, 4)),) * 2},
    r"probes: expected .*float32\[2, 6\].*got .*float32\[2, 5\]": {
        "probes": cells.LSTMCarry(*[jnp.zeros((2, 5))] * 2)
    },
    r"window: expected a whole number >= 1, got 0": {"window": 0},
    r"method: .*scan.*got 'checkpoints' \(did you mean 'checkpoint'\?\)": {
        "method": "checkpoints"
    },
}


@pytest.mark.parametrize("message", BAD_CALLS)
def test_bad_arguments_are_refused(message):
    arguments = {"xs": jnp.zeros((2, NUM_STEPS, 3)), **BAD_CALLS[message]}
    params, _, _ = sequence_case()
    with pytest.raises(ValueError, match=message):
        unroll(LSTM, params, **arguments)


def test_leaves_with_different_numbers_of_steps_are_refused():
    cell = Cell(
        init=lambda key: (),
        initial_carry=lambda params: jnp.zeros(1),
        step=lambda params, carry, x: (carry + x[0], x[1]),
    )
    with pytest.raises(ValueError, match=r"leaves that share.*\[\(5,\), \(4,\)\]"):
        unroll(cell, (), (jnp.zeros((5, 1)), jnp.zeros((4, 1))))
