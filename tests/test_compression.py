"""Quantisation to its error bound, pruning to the weight, packing to the bit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import cells
from seqjax.compression import (
    Quantised,
    Sparse,
    dequantise,
    magnitude_masks,
    num_bytes,
    pack,
    prune,
    quantise,
    sparsity_of,
    unpack,
)
from tests.helpers import assert_trees_close

# round(w / s) is off by more than 1/2 where the quotient, at most 127, was rounded
# across a half: by 127 units of 2⁻²⁴, relative to 1/2.
BOUND = 0.5 * (1 + 2 * 127 * 2**-24)


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def model_params() -> dict[str, Any]:
    cell = cells.lstm(4, 4).init(jax.random.key(0))
    return {"cell": cell, "embedding": weights(11, 4), "norm": weights(4)}


def errors(kernel: np.ndarray, quantised: Quantised) -> tuple[np.ndarray, np.ndarray]:
    """|w − s q| and s, in float64, in which neither is rounded."""
    scale = np.asarray(quantised.scale, np.float64)
    values = np.asarray(quantised.values, np.float64)
    return np.abs(np.asarray(kernel, np.float64) - scale * values), scale


@pytest.mark.parametrize("num_bits", [2, 3, 8])
def test_error_is_at_most_half_a_step(num_bits):
    kernel = weights(300, 40) * np.exp(weights(1, 40, seed=1))
    quantised = quantise(kernel, num_bits=num_bits)
    error, scale = errors(kernel, quantised)
    assert np.all(error <= scale * BOUND)
    # The bound is met, and every channel uses its whole range.
    assert np.max(error / scale) > 0.49
    largest = 2 ** (num_bits - 1) - 1
    np.testing.assert_array_equal(jnp.abs(quantised.values).max(0), largest)


def test_error_is_exact_where_the_step_is_a_power_of_two():
    steps = 2.0 ** np.arange(-100, 100, 8)
    kernel = np.linspace(-127, 127, 1017)[:, None] * steps
    quantised = quantise(kernel.astype(np.float32))
    np.testing.assert_array_equal(quantised.scale, steps[None])
    error, scale = errors(kernel, quantised)
    assert np.all(error <= scale / 2)


@pytest.mark.parametrize(("axis", "others"), [(-1, (0, 1)), (0, (1, 2)), (1, (0, 2))])
def test_channels_lie_along_the_axis(axis, others):
    kernel = weights(4, 5, 6)
    quantised = quantise(kernel, axis=axis)
    scale = np.abs(kernel).max(axis=others, keepdims=True) / np.float32(127)
    # A compiled division may be a unit in the last place off.
    np.testing.assert_allclose(quantised.scale, scale, rtol=2**-22)
    expected = np.round(kernel / np.asarray(quantised.scale))
    np.testing.assert_array_equal(quantised.values, expected)


def test_only_kernels_are_quantised():
    params = model_params()
    quantised = quantise(params)
    assert isinstance(quantised["embedding"], Quantised)
    assert isinstance(quantised["cell"].recurrent_kernel, Quantised)
    assert_trees_close(quantised["cell"].bias, params["cell"].bias)
    assert_trees_close(quantised["norm"], params["norm"])
    assert_trees_close(quantise(jnp.eye(3, dtype=jnp.int32)), jnp.eye(3, dtype=int))
    restored = dequantise(quantised)
    assert jax.tree.map(jnp.shape, restored) == jax.tree.map(jnp.shape, params)


def test_dequantised_is_scale_times_values():
    quantised = quantise(weights(9, 7))
    expected = np.asarray(quantised.values, np.float32) * quantised.scale
    np.testing.assert_array_equal(dequantise(quantised), expected)
    np.testing.assert_array_equal(jax.jit(dequantise)(quantised), expected)


@pytest.mark.parametrize("size", [0.0, 1e-44, 1e-37])
def test_a_channel_next_to_zero_is_zero(size):
    quantised = quantise(jnp.array([[size, 1.0], [-size, -0.5]]))
    np.testing.assert_array_equal(quantised.values[:, 0], 0)
    assert np.all(np.isfinite(dequantise(quantised)))
    assert quantised.values[0, 1] == 127


def test_bfloat16_stays_bfloat16():
    kernel = jnp.asarray(weights(50, 8), jnp.bfloat16)
    quantised = quantise(kernel)
    error, scale = errors(np.asarray(kernel, np.float32), quantised)
    assert np.all(error <= scale * BOUND)
    assert dequantise(quantised).dtype == jnp.bfloat16


def test_logits_move_no_further_than_the_weights():
    """|Σ xᵢ (wᵢⱼ − sⱼ qᵢⱼ)| ≤ sⱼ/2 · Σ |xᵢ|, reached where all roundings agree."""
    xs, kernel = weights(20, 30), weights(30, 5, seed=1)
    quantised = quantise(kernel)
    wide = np.asarray(dequantise(quantised), np.float64)
    moved = np.abs(xs.astype(np.float64) @ (wide - kernel))
    bound = np.abs(xs).sum(1, keepdims=True) * np.asarray(quantised.scale) * BOUND
    # s q was rounded once more, to 24 bits.
    assert np.all(moved <= bound * (1 + 127 * 2**-23))


@pytest.mark.parametrize("sparsity", [0.0, 0.29])
def test_the_smallest_weights_of_each_kernel_go(sparsity):
    params = model_params()
    pruned = prune(params, sparsity)
    for before, after in zip(
        jax.tree.leaves(params), jax.tree.leaves(pruned), strict=True
    ):
        if before.ndim < 2:
            np.testing.assert_array_equal(after, before)
            continue
        kept = np.asarray(after != 0)
        assert np.sum(~kept) == round(sparsity * before.size)
        np.testing.assert_array_equal(after[kept], before[kept])
        assert np.abs(before[~kept]).max(initial=0) <= np.abs(before[kept]).min()
    assert sparsity_of(pruned) == pytest.approx(sparsity, abs=0.02)


def test_the_smallest_of_all_kernels_go():
    params = {"a": weights(7, 5), "b": 10 * weights(6, 5), "bias": weights(5)}
    pruned = prune(params, 0.5, scope="all")
    sizes = np.sort(np.abs(np.concatenate([params["a"].ravel(), params["b"].ravel()])))
    limit = sizes[round(0.5 * sizes.size)]
    for name in ("a", "b"):
        expected = np.where(np.abs(params[name]) >= limit, params[name], 0)
        np.testing.assert_array_equal(pruned[name], expected)
    np.testing.assert_array_equal(pruned["bias"], params["bias"])
    assert np.mean(pruned["a"] == 0) > 0.7 > 0.3 > np.mean(pruned["b"] == 0)


def test_of_equal_weights_the_first_go():
    masks = magnitude_masks([jnp.ones((2, 3)), jnp.ones(4)], 0.5)
    np.testing.assert_array_equal(masks[0], [[False] * 3, [True] * 3])
    assert masks[1].all()


def test_masks_hold_while_training_goes_on():
    params = model_params()
    masks = magnitude_masks(params, 0.5)
    moved = jax.tree.map(lambda a: a + 1, params)
    kept = jax.tree.map(lambda a, mask: jnp.where(mask, a, 0), moved, masks)
    assert sparsity_of(kept) == sparsity_of(prune(params, 0.5))
    assert_trees_close(
        jax.jit(prune, static_argnums=1)(params, 0.5), prune(params, 0.5)
    )


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (2, 3, 7)])
def test_packing_keeps_every_bit(shape):
    kernel = prune(weights(*shape), 0.8)
    sparse = Sparse(*_packed_by_numpy(np.asarray(kernel)), shape)
    np.testing.assert_array_equal(unpack(sparse), kernel)
    np.testing.assert_array_equal(jax.jit(unpack)(sparse), kernel)
    packed = pack(kernel)
    assert num_bytes(packed) <= num_bytes(kernel)
    assert_trees_close(unpack(packed), kernel)
    if isinstance(packed, Sparse):
        assert_trees_close(packed, sparse)


def _packed_by_numpy(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.packbits(kernel != 0), kernel[kernel != 0]


def test_a_kernel_of_zeros_packs_to_its_mask():
    packed = pack({"kernel": jnp.zeros((4, 8)), "bias": jnp.zeros(8)})
    assert num_bytes(packed) == 4 + 4 * 8
    assert_trees_close(
        unpack(packed), {"kernel": jnp.zeros((4, 8)), "bias": jnp.zeros(8)}
    )


def test_what_has_no_zeros_is_not_packed():
    params = {"kernel": 1 + weights(4, 8) ** 2, "bias": jnp.zeros(100)}
    assert_trees_close(pack(params), params)


def test_sizes_of_all_steps_together():
    params = {"kernel": weights(100, 80), "bias": weights(80)}
    pruned = prune(params, 0.8)
    small = pack(quantise(pruned))
    bias = 4 * 80
    assert num_bytes(params) == 4 * 8000 + bias
    assert num_bytes(quantise(params)) == 8000 + 4 * 80 + bias
    assert num_bytes(pack(pruned)) == 1000 + 4 * 1600 + bias
    # Rounding makes no weight zero that was kept here: the largest fifth.
    assert num_bytes(small) == 1000 + 1600 + 4 * 80 + bias
    assert_trees_close(dequantise(unpack(small)), dequantise(quantise(pruned)))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: quantise(jnp.eye(2), num_bits=9), "num_bits: expected 2 to 8, got 9"),
        (lambda: prune(jnp.eye(2), 1.0), r"sparsity: expected a probability in \[0, 1"),
        (lambda: prune(jnp.eye(2), 0.5, scope="layer"), "expected one of tensor, all"),
    ],
)
def test_wrong_arguments_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        wrong()
