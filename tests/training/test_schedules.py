import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seqjax.training import SCHEDULES, make_schedule


def _rates(name, steps, **options):
    schedule = make_schedule(name, 0.5, **({"num_steps": 100} | options))
    return [float(schedule(step)) for step in steps]


def test_constant_is_the_learning_rate():
    assert _rates("constant", (0, 1, 99, 1000)) == [0.5] * 4


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_rises_in_equal_parts_and_never_stands_still(name):
    rates = _rates(name, range(5), warmup_steps=4, decay_every=10)
    # Rounding of float32.
    np.testing.assert_allclose(rates, [0.1, 0.2, 0.3, 0.4, 0.5], rtol=1e-6)


def test_step_decays_on_its_knots_counted_from_the_end_of_warm_up():
    options = {"warmup_steps": 3, "decay_every": 10, "decay_factor": 0.5}
    rates = _rates("step", (3, 12, 13, 22, 23, 33), **options)
    assert rates == [0.5, 0.5, 0.25, 0.25, 0.125, 0.0625]


def test_step_is_exact_at_a_late_knot():
    rates = _rates("step", (9_999_999, 10_000_000), decay_every=1_000_000)
    assert rates == [0.5 * 0.5**9, 0.5 * 0.5**10]


def test_cosine_ends_at_zero_and_stays_there():
    options = {"num_steps": 110, "warmup_steps": 10}
    rates = _rates("cosine", (10, 60, 110, 500), **options)
    # The cosine of a float32 π/2 and π.
    np.testing.assert_allclose(rates, [0.5, 0.25, 0.0, 0.0], atol=1e-7)


def test_cosine_agrees_with_optax():
    ours = make_schedule("cosine", 0.3, num_steps=40)
    theirs = optax.cosine_decay_schedule(0.3, 40)
    steps = range(0, 45, 3)
    # Two float32 formulas for one curve.
    expected = [np.asarray(theirs(s)) for s in steps]
    np.testing.assert_allclose([ours(s) for s in steps], expected, atol=1e-7)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_traced_step_gives_the_same_float32_rate(name):
    schedule = make_schedule(name, 0.1, num_steps=50, warmup_steps=5, decay_every=7)
    rate = jax.jit(schedule)(jnp.asarray(23, jnp.int32))
    assert rate.dtype == jnp.float32
    # Fused or not, within one rounding.
    np.testing.assert_allclose(rate, schedule(23), rtol=1e-6)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="schedule: expected one of constant, step, "):
        make_schedule("cosin", 0.1, num_steps=10)
    with pytest.raises(ValueError, match="warmup_steps: expected 0 to num_steps=10"):
        make_schedule("cosine", 0.1, num_steps=10, warmup_steps=11)
    with pytest.raises(ValueError, match="decay_every: expected a whole number"):
        make_schedule("step", 0.1, num_steps=10, decay_every=0)
