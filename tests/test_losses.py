import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import losses

LABELLED = ("cross_entropy", "accuracy", "bits_per_token")
# tests/test_ctc.py has those of whole sequences.
STEPWISE = [n for n in losses.SUMS if n not in ("ctc_loss", "label_error_rate")]


@functools.cache
def _compiled(name):
    return jax.jit(getattr(losses, name))


def _case(name, key, axes=(3, 4), size=5):
    output_key, target_key = jax.random.split(key)
    outputs = jax.random.normal(output_key, (*axes, size))
    if name in LABELLED:
        return outputs, jax.random.randint(target_key, axes, 0, size)
    if name == "binary_cross_entropy":
        return outputs, jax.random.bernoulli(target_key, 0.4, (*axes, size)).astype(
            outputs.dtype
        )
    return outputs, jax.random.normal(target_key, (*axes, size))


def _reference(name, outputs, targets, mask):
    """Entry by entry in float64."""
    total = 0.0
    for index in np.ndindex(mask.shape):
        out = np.asarray(outputs, np.float64)[index]
        target = np.asarray(targets)[index]
        if name in ("cross_entropy", "bits_per_token"):
            value = math.log(sum(math.exp(o - out[target]) for o in out))
            value /= math.log(2) if name == "bits_per_token" else 1
        elif name == "binary_cross_entropy":
            on = 1 / (1 + np.exp(-out))
            value = -np.sum(np.log(np.where(target > 0, on, 1 - on)))
        elif name == "accuracy":
            value = float(max(range(out.size), key=lambda i: out[i]) == target)
        elif name == "mean_squared_error":
            value = sum((o - t) ** 2 for o, t in zip(out, target, strict=True)) / 5
        else:
            value = float(all(abs(out - target) < 0.04))
        total += float(mask[index]) * value
    return total / float(mask.sum())


@pytest.mark.parametrize("name", STEPWISE)
def test_weighted_mean_equals_a_loop_over_entries(name):
    outputs, targets = _case(name, jax.random.key(0))
    if name == "fraction_within":
        targets = outputs + 0.05 * jnp.where(outputs[..., :1] > 0, 1, 0)
    mask = jnp.asarray(np.random.default_rng(1).integers(0, 3, (3, 4)), jnp.float32)
    got = _compiled(name)(outputs, targets, mask)
    # float32 sums of a dozen terms of order one.
    assert got == pytest.approx(_reference(name, outputs, targets, mask), rel=1e-6)


@pytest.mark.parametrize("name", STEPWISE)
def test_no_mask_counts_every_entry(name):
    outputs, targets = _case(name, jax.random.key(2))
    loss_fn = _compiled(name)
    got, expected = (
        loss_fn(outputs, targets),
        loss_fn(outputs, targets, jnp.ones((3, 4))),
    )
    # Two programs may add in another order: one rounding of float32.
    np.testing.assert_allclose(got, expected, rtol=3e-7)


@pytest.mark.parametrize("name", STEPWISE)
@pytest.mark.parametrize("axes", [(), (2,), (2, 3, 4)])
def test_any_leading_axes(name, axes):
    outputs, targets = _case(name, jax.random.key(3), axes)
    flat_targets = targets.reshape((-1, *targets.shape[len(axes) :]))
    loss_fn = _compiled(name)
    got = loss_fn(outputs, targets, jnp.ones(axes))
    # The order of a sum of 24 terms may follow the shape: a few roundings of float32.
    flat = loss_fn(outputs.reshape(-1, 5), flat_targets)
    np.testing.assert_allclose(got, flat, rtol=1e-6)


@pytest.mark.parametrize("name", ["cross_entropy", "mean_squared_error"])
def test_nan_in_masked_entries_reaches_neither_value_nor_gradient(name):
    outputs, targets = _case(name, jax.random.key(4))
    mask = losses.length_mask(jnp.asarray([4, 2, 0]), 4)
    dirty = jnp.where(mask[..., None] > 0, outputs, jnp.nan)
    if name == "cross_entropy":
        dirty_targets = jnp.where(mask > 0, targets, -100)
    else:
        dirty_targets = jnp.where(mask[..., None] > 0, targets, jnp.nan)
    run = jax.jit(jax.value_and_grad(getattr(losses, name)))
    value, gradient = run(outputs, targets, mask)
    dirty_value, dirty_gradient = run(dirty, dirty_targets, mask)
    assert value == dirty_value
    np.testing.assert_array_equal(gradient, dirty_gradient)
    assert not gradient[2].any()
    assert gradient[0].all()


@pytest.mark.parametrize("name", ["cross_entropy", "mean_squared_error"])
def test_all_zero_mask_gives_zero_with_zero_gradient(name):
    outputs, targets = _case(name, jax.random.key(5))
    run = jax.jit(jax.value_and_grad(getattr(losses, name)))
    value, gradient = run(outputs * jnp.nan, targets, jnp.zeros((3, 4)))
    assert value == 0
    assert not gradient.any()


def test_binary_cross_entropy_is_safe_far_out():
    logits = jnp.asarray([[200.0, -200.0], [-200.0, 200.0]])
    targets = jnp.asarray([[1.0, 0.0], [1.0, 0.0]])
    value, gradient = jax.value_and_grad(losses.binary_cross_entropy)(logits, targets)
    # Right answers cost nothing, wrong ones their logit: 0 and 400, averaged.
    assert value == 200
    np.testing.assert_array_equal(gradient, [[0, 0], [-0.5, 0.5]])


def test_cross_entropy_gradient_is_softmax_minus_one_hot():
    logits, labels = _case("cross_entropy", jax.random.key(6))
    gradient = jax.grad(losses.cross_entropy)(logits, labels)
    expected = (jax.nn.softmax(logits) - jax.nn.one_hot(labels, 5)) / 12
    # Two routes to softmax in float32.
    np.testing.assert_allclose(gradient, expected, atol=1e-8)


def test_cross_entropy_is_stable_for_huge_logits():
    logits = jnp.asarray([[1e4, 0.0], [0.0, 1e4]])
    assert losses.cross_entropy(logits, jnp.asarray([0, 1])) == 0
    assert losses.cross_entropy(logits, jnp.asarray([1, 0])) == 1e4


@pytest.mark.parametrize("label", [-1, 5])
def test_a_counted_label_out_of_range_is_nan_not_another_class(label):
    assert jnp.isnan(losses.cross_entropy(jnp.zeros((1, 5)), jnp.asarray([label])))


def test_accuracy_breaks_ties_downwards():
    assert losses.accuracy(jnp.zeros((1, 3)), jnp.asarray([0])) == 1
    assert losses.accuracy(jnp.zeros((1, 3)), jnp.asarray([1])) == 0


@pytest.mark.parametrize("name", STEPWISE)
def test_half_precision_outputs_are_reduced_in_float32(name):
    outputs, targets = _case(name, jax.random.key(7))
    half = outputs.astype(jnp.bfloat16)
    targets = targets if name in LABELLED else targets.astype(jnp.bfloat16)
    wide = targets if name in LABELLED else targets.astype(jnp.float32)
    got = _compiled(name)(half, targets)
    assert got.dtype == jnp.float32
    assert got == _compiled(name)(half.astype(jnp.float32), wide)


@pytest.mark.parametrize("name", STEPWISE)
def test_sums_add_over_unequal_batches(name):
    outputs, targets = _case(name, jax.random.key(8), axes=(7, 4))
    mask = losses.length_mask(jnp.arange(7) % 5, 4)
    sums_fn = jax.jit(losses.SUMS[name])
    parts = [
        sums_fn(outputs[s], targets[s], mask[s]) for s in (slice(0, 2), slice(2, 7))
    ]
    added = jax.tree.map(lambda a, b: a + b, *parts)
    whole = _compiled(name)(outputs, targets, mask)
    # The same float32 terms added in another order.
    np.testing.assert_allclose(losses.mean(added), whole, rtol=3e-7)
    means = [losses.mean(part) for part in parts]
    if name != "fraction_within":
        assert abs(sum(means) / 2 - whole) > 1e-3


def test_length_mask_keeps_the_batch_axes():
    mask = losses.length_mask(jnp.asarray([[0, 1], [2, 3]]), 3)
    expected = [[[0, 0, 0], [1, 0, 0]], [[1, 1, 0], [1, 1, 1]]]
    np.testing.assert_array_equal(mask, expected)
    assert mask.dtype == jnp.float32
    np.testing.assert_array_equal(losses.length_mask(jnp.asarray(1), 2), [1, 0])


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(
        ValueError, match=r"labels: expected shape \(2,\).*got \(2, 1\)"
    ):
        losses.cross_entropy(jnp.zeros((2, 3)), jnp.zeros((2, 1), jnp.int32))
    with pytest.raises(ValueError, match=r"targets: expected shape \(2, 3\).*\(2,\)"):
        losses.mean_squared_error(jnp.zeros((2, 3)), jnp.zeros(2))
    with pytest.raises(ValueError, match=r"mask: expected shape \(2,\).*got \(1, 2\)"):
        losses.accuracy(jnp.zeros((2, 3)), jnp.zeros(2, jnp.int32), jnp.ones((1, 2)))


def test_mean_of_nothing_passes_no_gradient():
    def loss(total):
        return losses.mean(losses.Sums(total, jnp.zeros(())))

    assert jax.value_and_grad(loss)(jnp.ones(())) == (0, 0)


QUANTILES = (0.1, 0.5, 0.9)


def _quantile_case(axes=(3, 4), output=2):
    prediction_key, target_key = jax.random.split(jax.random.key(3))
    shape = (*axes, output, len(QUANTILES))
    predictions = jax.random.normal(prediction_key, shape)
    return predictions, jax.random.normal(target_key, (*axes, output))


def test_pinball_equals_a_loop_over_quantiles():
    predictions, targets = _quantile_case()
    mask = jnp.asarray(np.random.default_rng(1).integers(0, 3, (3, 4)), jnp.float32)
    total = 0.0
    for *place, output, level in np.ndindex(*predictions.shape):
        tau = QUANTILES[level]
        over = float(targets[(*place, output)] - predictions[(*place, output, level)])
        value = tau * over if over > 0 else (tau - 1) * over
        total += float(mask[tuple(place)]) * value / (2 * len(QUANTILES))
    got = losses.pinball(predictions, targets, QUANTILES, mask)
    # float32 sums of a dozen terms of order one.
    np.testing.assert_allclose(got, total / float(mask.sum()), rtol=1e-6)


@pytest.mark.parametrize("tau", [0.05, 0.5, 0.9])
def test_pinball_is_least_at_the_quantile(tau):
    sample = np.random.default_rng(0).gamma(2.0, size=999).astype(np.float32)
    grid = np.sort(sample)
    predictions = jnp.asarray(grid)[:, None, None, None] * jnp.ones((1, 999, 1, 1))
    values = jax.vmap(lambda q: losses.pinball(q, jnp.asarray(sample)[:, None], (tau,)))
    # Of 999 numbers the quantile is one of them: the (τ n)-th, counted up.
    expected = np.quantile(sample, tau, method="inverted_cdf")
    assert grid[int(values(predictions).argmin())] == expected


def test_pinball_gradient_is_the_share_below_minus_the_level():
    _, targets = _quantile_case((500,), 1)

    def loss(q):
        return losses.pinball(jnp.broadcast_to(q, (500, 1, 3)), targets, QUANTILES)

    q = jnp.asarray([-1.0, 0.2, 0.7])
    below = jnp.mean(targets < q[None], axis=0)
    expected = (below - jnp.asarray(QUANTILES)) / 3
    # Sums of 500 float32 terms.
    np.testing.assert_allclose(jax.grad(loss)(q), expected, atol=1e-6)


def test_pinball_of_the_median_is_half_the_absolute_error_and_masks():
    predictions, targets = _quantile_case()
    median = predictions[..., 1:2]
    got = losses.pinball(median, targets, (0.5,))
    expected = jnp.mean(jnp.abs(median[..., 0] - targets)) / 2
    # float32 sums of two dozen terms of order one.
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    mask = jnp.ones((3, 4)).at[0, 0].set(0)
    spoilt = targets.at[0, 0].set(jnp.nan)

    def loss(q, y):
        return losses.pinball(q, y, QUANTILES, mask)

    value, gradient = jax.value_and_grad(loss)(predictions, spoilt)
    assert value == loss(predictions, targets)
    assert jnp.isfinite(gradient).all()


def test_pinball_refuses_what_is_no_quantile():
    predictions, targets = _quantile_case()
    for wrong in ((), (0.0, 0.5, 0.9), (0.5, 0.7, 1.0), (math.nan,)):
        with pytest.raises(ValueError, match="each above 0 and below 1"):
            losses.pinball(predictions, targets, wrong)
    with pytest.raises(ValueError, match=r"expected shape \(3, 4, 2, 2\)"):
        losses.pinball(predictions, targets, (0.1, 0.9))
    assert losses.pinball_sums((0.5,)) is losses.pinball_sums((0.5,))
