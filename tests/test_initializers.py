"""Presets against what the frameworks really draw, and each initialiser's own law.

The frameworks' parameters come through the converters of the weight tests, so that
every block compared here is the block that their equations use.
"""

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import equinox
import flax.linen as nn
import haiku
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import scipy.stats
import torch

from seqjax import cells
from seqjax.initializers import (
    PRESETS,
    chrono_bias,
    identity,
    per_block,
    preset,
    summed,
    symmetric_uniform,
)
from tests import converters
from tests.helpers import implicit_promotion

INPUT_SIZE, HIDDEN_SIZE, NUM_DRAWS = 64, 128, 8
# The deviation of a unit normal cut at ±2, which variance scaling divides out.
CUT_STDDEV = scipy.stats.truncnorm(-2, 2).std()
Draw = Callable[[int], Any]
GATES = {"elman": "h", "lstm": "ifgo", "gru": "rzn"}
FACTORIES: dict[str, Callable[..., Any]] = {
    "elman": cells.elman,
    "lstm": cells.lstm,
    "gru": cells.gru,
}


def _torch(kind: str) -> Draw:
    make = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind]

    def draw(seed: int) -> Any:
        torch.manual_seed(seed)
        module = make(INPUT_SIZE, HIDDEN_SIZE)
        return converters.from_torch(dict(module.named_parameters()), "l0")

    return draw


def _keras(kind: str) -> Draw:
    name = {"elman": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}[kind]
    convert = getattr(converters, f"{kind}_from_keras")

    def draw(seed: int) -> Any:
        keras.utils.set_random_seed(seed)
        layer = getattr(keras.layers, name)(HIDDEN_SIZE)
        with implicit_promotion():
            layer.build((1, 1, INPUT_SIZE))
        return convert([variable.value for variable in layer.trainable_variables])

    return draw


def _flax(kind: str) -> Draw:
    make = {"elman": nn.SimpleCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}[kind]
    convert = getattr(converters, f"{kind}_from_linen")

    @jax.jit
    def draw(seed: int) -> Any:
        module, x, key = make(HIDDEN_SIZE), jnp.zeros(INPUT_SIZE), jax.random.key(seed)
        carry = module.initialize_carry(key, x.shape)
        return convert(module.init(key, carry, x)["params"])

    return draw


def _haiku(kind: str) -> Draw:
    make = {"elman": haiku.VanillaRNN, "lstm": haiku.LSTM, "gru": haiku.GRU}[kind]
    convert = getattr(converters, f"{kind}_from_haiku")

    def run(x: jax.Array) -> Any:
        core = make(HIDDEN_SIZE)
        return core(x, core.initial_state(1))

    @jax.jit
    def draw(seed: int) -> Any:
        # Haiku's keys are of the untyped kind.
        key = jax.random.key_data(jax.random.key(seed))
        return convert(haiku.transform(run).init(key, jnp.zeros((1, INPUT_SIZE))))

    return draw


def _equinox(kind: str) -> Draw:
    make = {"lstm": equinox.nn.LSTMCell, "gru": equinox.nn.GRUCell}[kind]
    convert = getattr(converters, f"{kind}_from_equinox")

    @jax.jit
    def draw(seed: int) -> Any:
        return convert(make(INPUT_SIZE, HIDDEN_SIZE, key=jax.random.key(seed)))

    return draw


FRAMEWORKS: dict[str, Callable[[str], Draw]] = {
    "torch": _torch,
    "keras": _keras,
    "flax": _flax,
    "haiku": _haiku,
    "equinox": _equinox,
}
PAIRS = [
    (name, kind)
    for name in FRAMEWORKS
    for kind in FACTORIES
    if (name, kind) != ("equinox", "elman")  # it has no such cell
]


def _cell(name: str, kind: str) -> Any:
    # Haiku's GRU is of the other form, and so has no second bias of n.
    options = {"reset_after": False} if (name, kind) == ("haiku", "gru") else {}
    return FACTORIES[kind](INPUT_SIZE, HIDDEN_SIZE, init=name, **options)


def _blocks(kind: str, draws: list[Any]) -> dict[str, np.ndarray]:
    """Every leaf of all draws, cut into its gates: `[draws, ..., hidden]` by name."""
    leaves = {
        field: np.stack([getattr(draw, field) for draw in draws])
        for field in draws[0]._fields
        if getattr(draws[0], field) is not None
    }
    recurrent_bias = leaves.pop("recurrent_bias", None)
    gates = GATES[kind]
    blocks = {
        f"{field}_{gate}": block
        for field, leaf in leaves.items()
        for gate, block in zip(gates, np.split(leaf, len(gates), axis=-1), strict=True)
    }
    return blocks | ({} if recurrent_bias is None else {"second_n": recurrent_bias})


def _bound(name: str, kind: str, block: str) -> float:
    """Where the support of a block ends; inf for an orthogonal one."""
    field, gate = block.rsplit("_", 1)
    fused = len(GATES[kind]) * HIDDEN_SIZE
    fan_in = INPUT_SIZE if field == "kernel" else HIDDEN_SIZE
    if name in ("torch", "equinox"):
        single = field != "bias" or (kind, gate) == ("gru", "n") or name == "equinox"
        return (1 if single else 2) / math.sqrt(HIDDEN_SIZE)
    if field == "recurrent_kernel" and name in ("keras", "flax"):
        return math.inf
    if name == "keras":
        return math.sqrt(6 / (INPUT_SIZE + fused))
    if name == "flax" or kind == "gru":
        return 2 / CUT_STDDEV / math.sqrt(fan_in)
    return 2 / math.sqrt(INPUT_SIZE + HIDDEN_SIZE if kind == "lstm" else fan_in)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_preset_has_the_distribution_of_the_framework(name, kind):
    init = jax.jit(_cell(name, kind).init)
    ours = _blocks(kind, [init(jax.random.key(100 + k)) for k in range(NUM_DRAWS)])
    draw = FRAMEWORKS[name](kind)
    theirs = _blocks(kind, [draw(seed) for seed in range(NUM_DRAWS)])
    assert ours.keys() == theirs.keys()
    for block, expected in theirs.items():
        _assert_same_distribution(ours[block], expected, _bound(name, kind, block))
    for blocks in (ours, theirs) if name in ("keras", "flax") else ():
        kernels = [blocks[f"recurrent_kernel_{gate}"] for gate in GATES[kind]]
        if name == "keras":  # the rows of the fused kernel
            kernels = [np.concatenate(kernels, axis=-1)]
        for kernel in kernels:
            _assert_orthogonal(kernel)


def _assert_same_distribution(a: np.ndarray, b: np.ndarray, bound: float) -> None:
    if np.ptp(b) == 0:  # a constant: zeros, or the forget gate's 1
        np.testing.assert_array_equal(a, b)
        return
    for entries in (a, b) if bound < math.inf else ():
        # The sum of two uniforms comes within √(2/n) of its end, the rest closer.
        assert 0.93 * bound < np.abs(entries).max() <= bound * (1 + 1e-6)
    # 16 384 entries tell distributions apart whose functions differ by 0.02.
    a, b = a.ravel()[:16_384], b.ravel()[:16_384]
    # The comparisons are 70 and their seeds are fixed: expect no p-value this small.
    comparison: Any = scipy.stats.ks_2samp(a, b)
    assert comparison.pvalue > 1e-3
    # A sample variance of n entries, of kurtosis 3 or less, deviates by √(2/n).
    np.testing.assert_allclose(a.var(), b.var(), rtol=4 * math.sqrt(4 / a.size))


def _assert_orthogonal(kernels: np.ndarray) -> None:
    # QR in float32: roundings of 6e-8, summed over up to 512 products.
    eye = np.broadcast_to(np.eye(HIDDEN_SIZE), (len(kernels), HIDDEN_SIZE, HIDDEN_SIZE))
    np.testing.assert_allclose(kernels @ kernels.swapaxes(1, 2), eye, atol=5e-6)


@pytest.mark.parametrize("kind", FACTORIES)
def test_seqjax_preset_is_flax_with_a_forget_bias(kind):
    key = jax.random.key(0)
    ours, flax = (FACTORIES[kind](8, 8, init=i).init(key) for i in ("seqjax", "flax"))
    for field, leaf in ours._asdict().items():
        expected = np.array(getattr(flax, field))
        if (kind, field) == ("lstm", "bias"):
            assert np.all(expected == 0)
            expected[8:16] = 1
        np.testing.assert_array_equal(leaf, expected, err_msg=field)


@pytest.mark.parametrize("init", PRESETS)
@pytest.mark.parametrize("forget_bias", [-2.0, 0.0, 2.5])
def test_forget_bias_replaces_the_presets_own(init, forget_bias):
    key = jax.random.key(0)
    default = cells.lstm(3, 4, init=init).init(key)
    params = cells.lstm(3, 4, init=init, forget_bias=forget_bias).init(key)
    own = {"seqjax": 1.0, "keras": 1.0, "haiku": 1.0}.get(init, 0.0)
    expected = np.array(default.bias)
    expected[4:8] += forget_bias - own
    # One float32 rounding of values up to 3.
    np.testing.assert_allclose(params.bias, expected, atol=3e-7)
    np.testing.assert_array_equal(params.kernel, default.kernel)


@pytest.mark.parametrize("max_lag", [2.5, 1000.0])
def test_chrono_time_constants_are_uniform(max_lag):
    draws = chrono_bias(max_lag)(jax.random.key(0), (20_000,), jnp.float32)
    spread = np.exp(np.asarray(draws, np.float64))
    # One float32 rounding of the logarithm, up to 4e-7 for values up to 7.
    assert spread.min() >= 1 - 1e-6
    assert spread.max() <= (max_lag - 1) * (1 + 1e-6)
    uniform = scipy.stats.uniform(1, max_lag - 2)
    assert scipy.stats.kstest(spread, uniform.cdf).pvalue > 1e-3


@pytest.mark.parametrize("init", ["seqjax", "torch"])
def test_chrono_fills_the_gates_that_hold_the_past(init):
    max_lag, key = 50.0, jax.random.key(0)
    plain = cells.lstm(3, 64, init=init, forget_bias=0.0).init(key).bias
    i, f, g, o = np.split(
        cells.lstm(3, 64, init=init, max_lag=max_lag).init(key).bias, 4
    )
    np.testing.assert_array_equal(i, -f)
    np.testing.assert_array_equal(np.concatenate([g, o]), plain[128:])
    coupled = cells.lstm(3, 64, init=init, max_lag=max_lag, coupled=True).init(key)
    z = np.split(cells.gru(3, 64, init=init, max_lag=max_lag).init(key).bias, 3)[1]
    for bias in (f, np.split(coupled.bias, 3)[0], z):
        # 64 draws from U(1, 49) leave no tenth of it empty.
        counts, _ = np.histogram(np.exp(bias), bins=10, range=(1, max_lag - 1))
        assert counts.sum() == 64
        assert counts.min() > 0


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((2, 2), [[0.5, 0], [0, 0.5]]), ((2, 3), [[0.5, 0, 0], [0, 0.5, 0]])],
)
def test_identity(shape, expected):
    actual = identity(0.5)(jax.random.key(0), shape, jnp.float32)
    np.testing.assert_array_equal(actual, expected)
    assert actual.dtype == jnp.float32


def test_irnn_starts_at_the_identity():
    params = cells.irnn(200, 100, gain=0.25).init(jax.random.key(0))
    np.testing.assert_array_equal(params.recurrent_kernel, 0.25 * np.eye(100))
    np.testing.assert_array_equal(params.bias, np.zeros(100))
    kernel = np.asarray(params.kernel).ravel()
    assert scipy.stats.kstest(kernel, scipy.stats.norm(0, 0.001).cdf).pvalue > 1e-3


def test_per_block_orthogonal_blocks_are_orthogonal_and_different():
    init = per_block(jax.nn.initializers.orthogonal(), 3)
    fused = init(jax.random.key(0), (16, 48), jnp.float32)
    blocks = np.stack(np.split(fused, 3, axis=1))
    # QR in float32: roundings of 6e-8, summed over 16 products.
    eye = np.broadcast_to(np.eye(16), (3, 16, 16))
    np.testing.assert_allclose(blocks @ blocks.swapaxes(1, 2), eye, atol=2e-6)
    assert not np.any(blocks[0] == blocks[1])
    assert not np.any(blocks[1] == blocks[2])


def test_no_two_parts_share_their_draws():
    params = [
        factory(8, 8, init="torch").init(jax.random.key(0))
        for factory in (*FACTORIES.values(), cells.jordan)
    ]
    for leaves in params:
        entries = np.concatenate([leaf.ravel() for leaf in leaves if leaf is not None])
        # Uniform float32 draws have 2²³ values: no two of 800 agree by chance.
        assert len(np.unique(entries)) >= len(entries) - 1


def test_replaced_initialisers_act_on_each_block_of_their_own_parameter():
    shapes = []

    def record(name):
        def init(key, shape, dtype):
            shapes.append((name, shape))
            return jnp.full(shape, len(shapes), dtype)

        return init

    cell = cells.gru(
        3,
        4,
        kernel_init=record("kernel"),
        recurrent_kernel_init=record("recurrent_kernel"),
        bias_init=record("bias"),
    )
    params = cell.init(jax.random.key(0))
    assert sorted(shapes) == sorted(
        [("kernel", (3, 4)), ("recurrent_kernel", (4, 4))] * 3 + [("bias", (4,))] * 4
    )
    for leaf in jax.tree.leaves(params):
        for block in np.split(leaf, leaf.shape[-1] // 4, axis=-1):
            assert np.ptp(block) == 0


@pytest.mark.parametrize(
    ("cell", "leaf"),
    [
        (
            lambda **options: cells.lstm(3, 4, projection_size=2, **options),
            "projection",
        ),
        (
            lambda **options: cells.jordan(3, 4, output_size=2, **options),
            "output_kernel",
        ),
    ],
    ids=["lstm", "jordan"],
)
def test_replacing_the_input_kernel_leaves_the_output_kernel(cell, leaf):
    key = jax.random.key(0)
    params = cell(kernel_init=jax.nn.initializers.ones).init(key)
    np.testing.assert_array_equal(params.kernel, np.ones_like(params.kernel))
    np.testing.assert_array_equal(
        getattr(params, leaf), getattr(cell().init(key), leaf)
    )


@pytest.mark.parametrize("init", ["seqjax", "keras", "haiku"])
def test_output_kernels_follow_the_rule_of_their_own_fan(init):
    hidden_size, output_size = 256, 128
    cell = cells.jordan(8, hidden_size, output_size=output_size, init=init)
    params = jax.jit(cell.init)(jax.random.key(0))
    expected = {
        "seqjax": 1 / hidden_size,
        "keras": 2 / (hidden_size + output_size),
        "haiku": CUT_STDDEV**2 / hidden_size,
    }[init]
    # A variance of 32 768 entries deviates by √(2/n), below 0.8 %.
    np.testing.assert_allclose(np.var(params.output_kernel), expected, rtol=0.04)


def test_summed_uniforms_are_triangular():
    draws = summed(symmetric_uniform(0.5), 2)(jax.random.key(0), (20_000,), jnp.float32)
    triangle = scipy.stats.triang(0.5, loc=-1, scale=2)
    assert scipy.stats.kstest(np.asarray(draws), triangle.cdf).pvalue > 1e-3


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("init", PRESETS)
def test_params_have_the_dtype_asked_for(init, dtype):
    for kind, factory in (*FACTORIES.items(), ("jordan", cells.jordan)):
        params = jax.eval_shape(
            factory(3, 4, init=init, dtype=dtype).init, jax.random.key(0)
        )
        dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(params)}
        assert dtypes == {dtype}, kind


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_orthogonal_kernels_are_rounded_orthogonal_ones(dtype):
    kernel = cells.lstm(3, 16, dtype=dtype).init(jax.random.key(0)).recurrent_kernel
    for block in np.split(np.asarray(kernel, np.float32), 4, axis=1):
        # Entries up to 1 with 8 bits: roundings of 2⁻⁹, over 16 products.
        np.testing.assert_allclose(block @ block.T, np.eye(16), atol=0.02)


def test_errors_name_the_argument_and_the_remedy():
    with pytest.raises(ValueError, match=r"^init: .*flax.*'flx' \(did you mean 'flax'"):
        preset("flx", "lstm", 3, 4, 4)
    for value in (2, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"^max_lag: .* above 2, got"):
            chrono_bias(value)
    for value in (math.inf, math.nan):
        with pytest.raises(ValueError, match=r"^gain: expected a finite number, got"):
            identity(value)


def test_gates_of_several_networks_are_drawn_without_a_standstill():
    # Batched QR factorisations of several gates at once stop jaxlib for ever on two
    # cores, within 400 calls; in a process of its own, since nothing else ends that.
    program = """
import jax
from seqjax import cells
init = jax.jit(jax.vmap(cells.lstm(10, 64).init))
for seed in range(400):
    jax.block_until_ready(init(jax.random.split(jax.random.key(seed), 4)))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
