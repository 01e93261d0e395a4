"""Every cell and option against its equations in NumPy float64, and its derivatives."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from seqjax import cells, unroll
from tests import numpy_cells
from tests.helpers import assert_trees_close, random_like

INPUT_SIZE, HIDDEN_SIZE, NUM_STEPS = 3, 4, 6


class Case(NamedTuple):
    """A cell's options, and the options of its NumPy twin."""

    cell: str
    options: dict[str, Any]
    numpy_options: dict[str, Any] | None = None

    def make(self, dtype: Any):
        factory = cells.CELLS[self.cell]
        return factory(INPUT_SIZE, HIDDEN_SIZE, dtype=dtype, **self.options)

    def twin(self) -> numpy_cells.Step:
        options = self.options if self.numpy_options is None else self.numpy_options
        return functools.partial(getattr(numpy_cells, self.cell), **options)


CASES = {
    "elman": Case("elman", {}),
    "elman_relu": Case("elman", {"activation": "relu"}),
    "elman_sigmoid": Case("elman", {"activation": "sigmoid"}),
    "elman_identity": Case("elman", {"activation": "identity"}),
    "elman_function": Case("elman", {"activation": jnp.tanh}, {"activation": "tanh"}),
    "exprnn": Case("exprnn", {}),
    "exprnn_tanh": Case("exprnn", {"activation": "tanh"}),
    "irnn": Case("irnn", {}),
    "jordan": Case("jordan", {}),
    "jordan_leak": Case(
        "jordan",
        {"output_size": 2, "leak": 0.7, "output_activation": "sigmoid"},
        {"leak": 0.7, "output_activation": "sigmoid"},
    ),
    "jordan_relu": Case(
        "jordan", {"output_size": 5, "activation": "relu"}, {"activation": "relu"}
    ),
    "lstm": Case("lstm", {}),
    "lstm_peephole": Case("lstm", {"peephole": True}),
    "lstm_coupled": Case("lstm", {"coupled": True}),
    "lstm_no_forget": Case("lstm", {"forget_gate": False}),
    "lstm_projection": Case("lstm", {"projection_size": 2}, {"projection": True}),
    "lstm_layer_norm": Case("lstm", {"layer_norm": True}, {"layer_normed": True}),
    "lstm_peephole_coupled": Case("lstm", {"peephole": True, "coupled": True}),
    "lstm_peephole_no_forget": Case("lstm", {"peephole": True, "forget_gate": False}),
    "lstm_all": Case(
        "lstm",
        {"peephole": True, "projection_size": 2, "layer_norm": True},
        {"peephole": True, "projection": True, "layer_normed": True},
    ),
    "lru": Case("lru", {}),
    "lru_tanh": Case(
        "lru",
        {"state_size": 6, "output_activation": "tanh"},
        {"output_activation": "tanh"},
    ),
    "gru": Case("gru", {}),
    "gru_reset_before": Case("gru", {"reset_after": False}),
}


def _inputs(case: Case, dtype: Any):
    cell = case.make(dtype)
    # Not the initial values: zero biases and peepholes would hide a wrong term.
    params = random_like(cell.init(jax.random.key(0)), seed=1)
    carry = random_like(cell.initial_carry(params), seed=2)
    xs = random_like(jax.ShapeDtypeStruct((NUM_STEPS, INPUT_SIZE), dtype), seed=3)
    return cell, params, xs, carry


def _both_routes(case: Case, dtype: Any):
    cell, params, xs, carry = _inputs(case, dtype)
    in_float64 = numpy_cells.in_float64
    expected = numpy_cells.unroll_numpy(
        case.twin(), in_float64(params), in_float64(xs), in_float64(carry)
    )
    return unroll(cell, params, xs, carry), expected


def _from_numpy(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Finite differences come as NumPy arrays; a jit would compile every order anew."""
    return lambda *args: fn(*jax.tree.map(jnp.asarray, args))


@pytest.mark.parametrize("name", CASES)
def test_float32_matches_numpy(name):
    actual, expected = _both_routes(CASES[name], jnp.float32)
    # Six steps of sums of up to eight products of order 1, each rounded to 6e-8; the
    # layer norms divide by deviations below 1, and the identity grows.
    assert_trees_close(actual, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("x64")
def test_float64_matches_numpy(name):
    actual, expected = _both_routes(CASES[name], jnp.float64)
    # Both are float64 and differ by the order of their sums.
    assert_trees_close(actual, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("x64")
def test_unroll_gradients_match_finite_differences(name):
    cell, params, xs, carry = _inputs(CASES[name], jnp.float64)
    run = jax.jit(functools.partial(unroll, cell))
    # Central differences of step 1e-5 miss by third derivatives times 1e-10, and by
    # roundings of 1e-16 over 1e-5.
    check_grads(
        run,
        (params, xs, carry),
        order=1,
        modes=["rev"],
        eps=1e-5,
        atol=1e-7,
        rtol=1e-7,
    )


# Among them they hold every gate, term and option.
@pytest.mark.parametrize(
    "name", ["jordan_leak", "lstm_all", "lstm_peephole_coupled", "gru_reset_before"]
)
@pytest.mark.usefixtures("x64")
def test_step_second_derivatives_match_finite_differences(name):
    cell, params, xs, carry = _inputs(CASES[name], jnp.float64)
    # Differences of gradients, whose third derivatives are of order 10.
    check_grads(
        _from_numpy(cell.step),
        (params, carry, xs[0]),
        order=2,
        modes=["rev"],
        eps=1e-4,
        atol=1e-6,
        rtol=1e-6,
    )


@pytest.mark.parametrize("name", CASES)
def test_bfloat16_goes_in_and_comes_out(name):
    cell, params, xs, carry = _inputs(CASES[name], jnp.bfloat16)
    new_carry, y = jax.eval_shape(cell.step, params, carry, xs[0])
    assert new_carry == jax.eval_shape(lambda carry: carry, carry)
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}


def test_elman_function_is_called():
    calls = []

    def phi(a):
        calls.append(a.shape)
        return jnp.sin(a)

    cell = cells.elman(INPUT_SIZE, HIDDEN_SIZE, activation=phi)
    params = cell.init(jax.random.key(0))
    _, y = cell.step(params, cell.initial_carry(params), jnp.ones(INPUT_SIZE))
    expected = np.sin(np.sum(np.asarray(params.kernel, np.float64), axis=0))
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    assert calls == [(HIDDEN_SIZE,)]
