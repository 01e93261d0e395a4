"""Options that make no cell say so: the argument, what was expected, what came."""

import math

import jax
import jax.numpy as jnp
import pytest

from seqjax import cells
from seqjax.unroll import unroll


@pytest.mark.parametrize("make", cells.CELLS.values(), ids=cells.CELLS)
def test_sizes_below_one_are_refused(make):
    with pytest.raises(ValueError, match=r"^input_size: expected .* >= 1, got 0$"):
        make(0, 4)
    with pytest.raises(ValueError, match=r"^hidden_size: expected .* >= 1, got -2$"):
        make(3, -2)


@pytest.mark.parametrize("make", cells.CELLS.values(), ids=cells.CELLS)
def test_inputs_of_another_width_are_refused(make):
    cell = make(3, 4)
    params = cell.init(jax.random.key(0))
    for xs, shape in ((jnp.ones((5, 4)), 4), (jnp.ones((2, 5, 1)), 1)):
        words = rf"^x: expected 3 features .* got shape \[(5, )?{shape}\]; .*input_size"
        with pytest.raises(ValueError, match=words):
            unroll(cell, params, xs)
    with pytest.raises(ValueError, match=r"^x: .* got shape \[\]"):
        cell.step(params, cell.initial_carry(params), jnp.ones(()))


@pytest.mark.parametrize("name", sorted(set(cells.CELLS) - {"exprnn", "irnn", "lru"}))
def test_unknown_preset_suggests_the_nearest(name):
    with pytest.raises(ValueError, match=r"^init: .*'tourch' \(did you mean 'torch'\?"):
        cells.CELLS[name](3, 4, init="tourch")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: cells.elman(3, 4, activation="than"),
            r"^activation: expected one of .*'than' \(did you mean 'tanh'\?\)",
        ),
        (
            lambda: cells.jordan(3, 4, output_activation="soft"),
            r"^activation: expected one of .*'soft'",
        ),
        (
            lambda: cells.exprnn(3, 4, angles="caley"),
            r"^angles: expected one of .*'caley' \(did you mean 'cayley'\?\)",
        ),
        (
            lambda: cells.exprnn(3, 4, activation="modrely"),
            r"^activation: expected one of .*'modrely'",
        ),
        (
            lambda: cells.lru(3, 4, min_radius=0.9, max_radius=0.8),
            r"^min_radius and max_radius: expected 0 <= min.* got 0\.9 and 0\.8",
        ),
        (lambda: cells.lru(3, 4, max_radius=1.1), r"^min_radius and .* got 0.* 1\.1"),
        (lambda: cells.lru(3, 4, max_phase=0.0), r"^max_phase: .* above 0, got 0"),
        (lambda: cells.lru(3, 4, min_radius=math.nan), r"^min_radius: .* got nan"),
        (lambda: cells.lru(3, 4, state_size=0), r"^state_size: .* >= 1, got 0"),
        (
            lambda: cells.lru(3, 4, output_activation="gelu"),
            r"^activation: expected one of .*'gelu'",
        ),
        (lambda: cells.jordan(3, 4, output_size=0), r"^output_size: .* >= 1, got 0"),
        (
            lambda: cells.jordan(3, 4, leak=math.nan),
            r"^leak: .* finite number, got nan",
        ),
        (lambda: cells.irnn(3, 4, gain=math.inf), r"^gain: .* finite number, got inf"),
        (
            lambda: cells.lstm(3, 4, projection_size=0),
            r"^projection_size: .* >= 1, got 0",
        ),
        (
            lambda: cells.lstm(3, 4, forget_bias=math.inf),
            r"^forget_bias: .* finite number, got inf",
        ),
        (
            lambda: cells.lstm(3, 4, forget_bias=0.0, max_lag=9.0),
            r"^forget_bias and max_lag: expected at most one .* got 0\.0 and 9\.0",
        ),
        (
            lambda: cells.lstm(3, 4, forget_gate=False, coupled=True),
            r"^coupled: expected none without .* gate, got True; .*forget_gate=True",
        ),
        (
            lambda: cells.lstm(3, 4, forget_gate=False, forget_bias=1.0),
            r"^forget_bias: expected none without a forget gate, got 1\.0",
        ),
        (
            lambda: cells.lstm(3, 4, forget_gate=False, max_lag=9.0),
            r"^max_lag: expected none without a forget gate, got 9\.0",
        ),
        (lambda: cells.lstm(3, 4, max_lag=2.0), r"^max_lag: .* above 2, got 2\.0"),
        (lambda: cells.gru(3, 4, max_lag=math.nan), r"^max_lag: .* above 2, got nan"),
    ],
)
def test_bad_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make().init(jax.random.key(0))


def test_options_are_refused_when_the_cell_is_made():
    with pytest.raises(ValueError, match="max_lag"):
        cells.lstm(3, 4, max_lag=1.0)
    with pytest.raises(ValueError, match="max_lag"):
        cells.gru(3, 4, max_lag=1.0)


def test_zero_forget_bias_is_not_the_default():
    params = cells.lstm(3, 4, forget_bias=0.0).init(jax.random.key(0))
    assert jnp.all(params.bias == 0)
