"""How cells print, compare and hash, and that three functions make one."""

import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import cells, unroll
from seqjax.cell import Cell
from seqjax.combinators import bidirectional, stack
from seqjax.made import factory
from tests.helpers import count_traces


def _leak(rate: float) -> Cell:
    """carry′ = rate · carry + x, y = carry′; the parameter is the start."""
    return Cell(
        init=lambda key: jax.random.normal(key, (2,)),
        initial_carry=lambda params: params,
        step=lambda params, carry, x: (rate * carry + x,) * 2,
    )


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (cells.lstm(3, 16), "lstm(input_size=3, hidden_size=16)"),
        (cells.gru(hidden_size=4, input_size=3), "gru(input_size=3, hidden_size=4)"),
        (cells.lstm(3, 4, peephole=False), "lstm(input_size=3, hidden_size=4)"),
        (
            cells.lstm(3, 4, coupled=True, peephole=True),
            "lstm(input_size=3, hidden_size=4, peephole=True, coupled=True)",
        ),
        (
            cells.elman(3, 4, activation="relu", dtype=jnp.bfloat16),
            "elman(input_size=3, hidden_size=4, activation='relu', dtype=bfloat16)",
        ),
        (
            cells.elman(3, 4, activation=jnp.sin),
            "elman(input_size=3, hidden_size=4, activation=sin)",
        ),
        (
            stack(cells.irnn(3, 4), bidirectional(cells.gru(4, 5)), dropout=0.5),
            "stack(irnn(input_size=3, hidden_size=4), bidirectional("
            "gru(input_size=4, hidden_size=5)), dropout=0.5)",
        ),
    ],
)
def test_cells_print_as_the_call_that_made_them(cell, text):
    assert repr(cell) == text


def test_own_cells_print_their_functions():
    def nothing(_):
        return ()

    def advance(params, carry, x):
        return carry, x

    cell = Cell(init=nothing, initial_carry=nothing, step=advance)
    expected = "Cell(init=nothing, initial_carry=nothing, step=advance)"
    assert repr(cell) == expected


@pytest.mark.parametrize(
    ("make", "others"),
    [
        (
            lambda: cells.lstm(3, 4, forget_bias=2.0),
            [
                cells.lstm(3, 4),
                cells.lstm(3, 4, forget_bias=3.0),
                cells.lstm(3, 5, forget_bias=2.0),
                cells.gru(3, 4),
            ],
        ),
        (lambda: cells.elman(3, 4), [cells.elman(3, 4, activation="relu")]),
        (
            lambda: stack(cells.gru(3, 4), cells.gru(4, 4)),
            [
                stack(cells.gru(3, 4)),
                stack(cells.gru(3, 4), cells.gru(4, 4), dropout=0.1),
                stack(cells.gru(4, 4), cells.gru(3, 4)),
            ],
        ),
    ],
    ids=["lstm", "elman", "stack"],
)
def test_rebuilt_cells_are_equal_and_others_are_not(make, others):
    assert make() == make()
    assert hash(make()) == hash(make())
    assert make() is not make()
    for other in others:
        assert make() != other


def test_spelling_of_the_call_does_not_matter():
    cell = cells.lstm(3, 4, peephole=True, layer_norm=True)
    assert cell == cells.lstm(
        layer_norm=True, hidden_size=4, peephole=True, input_size=3, coupled=False
    )
    assert len({cell, cells.lstm(3, 4, layer_norm=True, peephole=True)}) == 1


def test_factories_of_one_name_make_unequal_cells():
    def make_factory(rate):
        @factory
        def leak(size=2):
            return _leak(rate)

        return leak

    first, second = make_factory(0.5), make_factory(0.6)
    assert repr(first()) == repr(second())
    assert first() != second()
    assert first() == first()


def test_own_cells_compare_by_their_functions():
    cell = _leak(0.5)
    same = Cell(init=cell.init, initial_carry=cell.initial_carry, step=cell.step)
    assert cell == same
    assert hash(cell) == hash(same)
    assert cell != _leak(0.5)


def test_a_cell_is_no_other_thing():
    cell = cells.gru(3, 4)
    assert cell != "gru(input_size=3, hidden_size=4)"
    assert cell != (cell.made_by, cell.arguments)


def test_a_replaced_function_makes_another_cell():
    cell = cells.gru(3, 4)
    other = dataclasses.replace(
        cell, initial_carry=lambda params: cells.GRUCarry(jnp.ones(4))
    )
    assert cell != other


def test_cells_are_frozen():
    cell = cells.gru(3, 4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        cell.step = lambda params, carry, x: (carry, x)  # pyright: ignore


def test_factory_keeps_name_signature_and_docstring():
    assert cells.lstm.__name__ == "lstm"
    assert "LSTM cell" in (inspect.getdoc(cells.lstm) or "")
    assert list(inspect.signature(cells.lstm).parameters)[:2] == [
        "input_size",
        "hidden_size",
    ]


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="hiden_size"):
        cells.CELLS["gru"](3, 4, hiden_size=4)


def test_three_functions_make_a_cell_that_unrolls():
    cell, xs = _leak(0.5), jnp.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    params = jnp.asarray([8.0, 16.0])
    carry, ys = unroll(cell, params, xs)
    # Sums of powers of two: exact.
    np.testing.assert_array_equal(ys, [[5, 10], [5.5, 9], [7.75, 10.5]])
    np.testing.assert_array_equal(carry, ys[-1])
    batched, _ = unroll(cell, params, jnp.stack([xs, xs]), lengths=jnp.asarray([3, 1]))
    np.testing.assert_array_equal(batched, [[7.75, 10.5], [5, 10]])
    start_gradient = jax.grad(lambda start: unroll(cell, start, xs)[0].sum())(params)
    np.testing.assert_array_equal(start_gradient, [0.125, 0.125])


def test_step_bound_to_params_is_a_scan_body():
    cell = cells.gru(3, 4)
    params, xs = cell.init(jax.random.key(0)), jnp.ones((5, 3))
    scanned = jax.lax.scan(
        functools.partial(cell.step, params), cell.initial_carry(params), xs
    )
    # The same step in the same order; fusion may round differently.
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7),
        scanned,
        unroll(cell, params, xs),
    )


def test_rebuilt_static_cell_does_not_trace_again():
    def last(cell, params, xs):
        return unroll(cell, params, xs)[1][-1]

    counted, traces = count_traces(last)
    run = jax.jit(counted, static_argnums=0)
    xs = jnp.ones((4, 3))
    rebuilt = [cells.lstm(3, 4), cells.lstm(3, 4), cells.lstm(3, 4, forget_bias=None)]
    for cell in rebuilt:
        run(cell, cell.init(jax.random.key(0)), xs)
    assert len(traces) == 1
    cell = cells.lstm(3, 4, coupled=True)
    run(cell, cell.init(jax.random.key(0)), xs)
    assert len(traces) == 2
