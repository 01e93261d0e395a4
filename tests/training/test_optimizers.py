from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seqjax import cells
from seqjax.combinators import stack
from seqjax.training import OPTIMIZERS, make_optimizer, make_schedule

# Powers of two, exact in every float.
RATE, MOMENTUM, DECAY = 0.125, 0.75, 0.5


def _gradients(num_steps=6):
    rng = np.random.default_rng(0)
    return [
        {"bias": rng.standard_normal(3), "kernel": rng.standard_normal((2, 3))}
        for _ in range(num_steps)
    ]


def _start():
    return {"bias": np.arange(3.0), "kernel": np.ones((2, 3))}


def _run(optimizer, gradients, params) -> list[Any]:
    """Parameters after each update."""
    params = jax.tree.map(jnp.asarray, params)
    state, path = optimizer.init(params), []
    update = jax.jit(optimizer.update)
    for gradient in gradients:
        updates, state = update(jax.tree.map(jnp.asarray, gradient), state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return path


def _sgd_by_hand(p, gradients, decay):
    m = 0.0
    for g in gradients:
        m = MOMENTUM * m + g
        p = p - RATE * m
        yield p


def _rmsprop_by_hand(p, gradients, decay):
    v = m = 0.0
    for g in gradients:
        v = 0.99 * v + 0.01 * g**2
        m = MOMENTUM * m + g / (np.sqrt(v) + 1e-8)
        p = p - RATE * m
        yield p


def _adam_by_hand(p, gradients, decay):
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        direction = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        p = p - RATE * (direction + decay * p)
        yield p


@pytest.mark.parametrize(
    ("name", "options", "by_hand", "decay"),
    [
        ("sgd", {"momentum": MOMENTUM}, _sgd_by_hand, 0),
        ("momentum", {"momentum": MOMENTUM}, _sgd_by_hand, 0),
        ("rmsprop", {"momentum": MOMENTUM}, _rmsprop_by_hand, 0),
        ("adam", {}, _adam_by_hand, 0),
        ("adamw", {"weight_decay": DECAY}, _adam_by_hand, DECAY),
    ],
)
def test_optimizer_equals_its_equations_in_float64(name, options, by_hand, decay, x64):
    gradients, start = _gradients(), _start()
    path = _run(make_optimizer(name, RATE, **options), gradients, start)
    for leaf in ("bias", "kernel"):
        # Biases are not decayed.
        leaf_decay = decay if leaf == "kernel" else 0
        expected = by_hand(start[leaf], [g[leaf] for g in gradients], leaf_decay)
        for got, want in zip(path, expected, strict=True):
            assert got[leaf].dtype == jnp.float64
            np.testing.assert_allclose(got[leaf], want, rtol=1e-12)


def test_plain_sgd_is_the_gradient_times_the_rate():
    (params,) = _run(make_optimizer("sgd", RATE), _gradients(1), _start())
    expected = np.float32(_start()["bias"]) - RATE * np.float32(
        _gradients(1)[0]["bias"]
    )
    # One float32 rounding.
    np.testing.assert_allclose(params["bias"], expected, rtol=1e-6)


def test_rate_follows_the_schedule():
    schedule = make_schedule("step", 1.0, num_steps=9, decay_every=1)
    ones = {"w": np.ones(1)}
    path = _run(make_optimizer("sgd", schedule), [ones] * 4, {"w": np.zeros(1)})
    assert [float(p["w"][0]) for p in path] == [-1, -1.5, -1.75, -1.875]


def _norm(tree):
    squares = [
        np.square(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(tree)
    ]
    return np.sqrt(sum(map(np.sum, squares)))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 30.0, 1e15, 1e25, 1e37])
def test_clipping_limits_the_norm_and_keeps_the_direction(scale):
    gradient = jax.tree.map(lambda a: a * scale, _gradients(1)[0])
    (step,) = _run(make_optimizer("sgd", 1.0, clip_norm=0.5), [gradient], _zeros())
    factor = min(1, 0.5 / _norm(gradient))
    # Float32 rounding of a handful of operations; relative, at every scale.
    for leaf in gradient:
        np.testing.assert_allclose(step[leaf], -gradient[leaf] * factor, rtol=1e-6)


def _zeros():
    return jax.tree.map(np.zeros_like, _start())


def test_a_gradient_below_the_limit_keeps_every_bit():
    gradient = _gradients(1)[0]
    (clipped,) = _run(make_optimizer("sgd", 1.0, clip_norm=1e3), [gradient], _zeros())
    (plain,) = _run(make_optimizer("sgd", 1.0), [gradient], _zeros())
    jax.tree.map(np.testing.assert_array_equal, clipped, plain)


def test_values_are_clipped_before_the_norm():
    gradient = {"w": np.asarray([30.0, -0.4])}
    optimizer = make_optimizer("sgd", 1.0, clip_value=0.3, clip_norm=0.5)
    (step,) = _run(optimizer, [gradient], {"w": np.zeros(2)})
    # The norm √0.18 is below the limit by then.
    np.testing.assert_array_equal(step["w"], np.asarray([-0.3, 0.3], np.float32))


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_accumulated_gradients_act_as_their_mean(name):
    gradients = _gradients(6)
    means = [
        jax.tree.map(lambda *g: np.mean(g, axis=0), *gradients[i : i + 3])
        for i in (0, 3)
    ]
    schedule = make_schedule("step", RATE, num_steps=9, decay_every=1)
    accumulated = make_optimizer(name, schedule, accumulate_steps=3, clip_norm=1.0)
    path = _run(accumulated, gradients, _start())
    whole = _run(make_optimizer(name, schedule, clip_norm=1.0), means, _start())
    for index in (0, 1):
        jax.tree.map(np.testing.assert_array_equal, path[index], _start32())
    for got, want in ((path[2], whole[0]), (path[4], whole[0]), (path[5], whole[1])):
        # A running mean in float32 against one in float64.
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, want
        )


def _start32():
    return jax.tree.map(np.float32, _start())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_group_at_another_rate_is_as_if_trained_at_that_rate(name):
    gradients = _gradients()
    mixed = make_optimizer(name, RATE, rates={"kernel": 0.25})
    path = _run(mixed, gradients, _start())
    full = _run(make_optimizer(name, RATE), gradients, _start())
    slow = _run(make_optimizer(name, 0.25 * RATE), gradients, _start())
    np.testing.assert_array_equal(path[-1]["bias"], full[-1]["bias"])
    # The factor on the update against the factor on the rate.
    np.testing.assert_allclose(path[-1]["kernel"], slow[-1]["kernel"], rtol=1e-6)


def test_rate_zero_freezes_a_group():
    frozen = make_optimizer("adam", RATE, rates={"bias": 0})
    path = _run(frozen, _gradients(), _start())
    np.testing.assert_array_equal(path[-1]["bias"], _start32()["bias"])
    assert not np.array_equal(path[-1]["kernel"], _start32()["kernel"])


def test_parameters_of_cells_are_labelled_by_name_or_by_path():
    cell = stack(cells.gru(2, 3), cells.gru(3, 3))
    params = {"cell": cell.init(jax.random.key(0))}
    ones = jax.tree.map(jnp.ones_like, params)
    by_name = make_optimizer("sgd", 1.0, rates={"recurrent_kernel": 0.5})
    for layer in _update(by_name, ones, params)["cell"]:
        assert jnp.all(layer.recurrent_kernel == -0.5)
        assert jnp.all(layer.kernel == -1)
    by_path = make_optimizer("sgd", 1.0, rates={"first": 0.5}, label_fn=_layer)
    first, second = _update(by_path, ones, params)["cell"]
    assert jnp.all(first.kernel == -0.5)
    assert jnp.all(second.kernel == -1)


def _update(optimizer, gradients, params) -> Any:
    return optimizer.update(gradients, optimizer.init(params), params)[0]


def _layer(path):
    return "first" if path.startswith("cell/0/") else "other"


def test_a_label_of_no_parameter_is_refused():
    optimizer = make_optimizer("sgd", 1.0, rates={"recurent_kernel": 0.5})
    with pytest.raises(ValueError, match=r"rates: expected .*kernel, got recurent_ker"):
        optimizer.init({"bias": jnp.zeros(1), "kernel": jnp.zeros(1)})


@pytest.mark.parametrize(
    ("name", "option", "instead"),
    [
        ("adam", {"momentum": 0.9}, "sgd or rmsprop"),
        ("adamw", {"momentum": 0.9}, "sgd or rmsprop"),
        ("adam", {"weight_decay": 0.1}, "adamw"),
        ("sgd", {"weight_decay": 0.1}, "adamw"),
        ("rmsprop", {"weight_decay": 0.1}, "adamw"),
    ],
)
def test_an_option_of_another_optimizer_is_refused(name, option, instead):
    with pytest.raises(ValueError, match=f"{next(iter(option))}: .*use {instead}"):
        make_optimizer(name, RATE, **option)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match=r"optimizer: expected one of .*mean 'adam'"):
        make_optimizer("adma", RATE)


def test_momentum_without_a_value_is_nine_tenths():
    params, gradients = {"w": jnp.ones(3)}, {"w": jnp.arange(3.0)}

    def second_update(optimizer):
        _, state = optimizer.update(gradients, optimizer.init(params), params)
        return optimizer.update(gradients, state, params)[0]

    given = second_update(make_optimizer("sgd", 0.1, momentum=0.9))
    named = second_update(make_optimizer("momentum", 0.1))
    for one, other in zip(jax.tree.leaves(given), jax.tree.leaves(named), strict=True):
        assert bool(jnp.all(one == other))
