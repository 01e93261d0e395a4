"""Labels without places: against all alignments, against torch, and in odd cases."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.sharding import PartitionSpec

from seqjax import ctc, losses

REAL = jnp.ones(5, bool)
log_probability = jax.jit(ctc.log_probability)
edit_distance = jax.jit(ctc.edit_distance)
emitted = jax.jit(ctc.emitted)


def collapse(path) -> tuple[int, ...]:
    """What an alignment stands for: repeats merged, then blanks dropped."""
    return tuple(int(key) for key, _ in itertools.groupby(path) if key != 0)


def log_softmax(logits) -> np.ndarray:
    wide = np.asarray(logits, np.float64)
    return wide - np.log(np.sum(np.exp(wide), axis=-1, keepdims=True))


def all_labels(logits) -> dict[tuple[int, ...], float]:
    """P of every sequence of labels, as a sum over all alignments."""
    probs = np.exp(log_softmax(logits))
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(probs.shape[1]), repeat=len(probs)):
        p = float(np.prod(probs[range(len(probs)), path]))
        found[collapse(path)] = found.get(collapse(path), 0.0) + p
    return found


def padded(labels, size) -> np.ndarray:
    return np.array([*labels, *[0] * (size - len(labels))], np.int32)


def draw(seed: int, *shape: int, scale: float = 2.0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(scale=scale, size=shape)
    return values.astype(np.float32)


def test_every_labelling_has_the_probability_of_its_alignments():
    logits = draw(0, 5, 3)
    table = all_labels(logits)
    assert sum(table.values()) == pytest.approx(1)
    assert len(table) == 25
    labels = np.stack([padded(key, 5) for key in table])
    got = jax.jit(jax.vmap(ctc.log_probability, (None, 0, None)))(logits, labels, REAL)
    # Five steps of float32 sums of logarithms of order ten.
    np.testing.assert_allclose(got, np.log(list(table.values())), rtol=2e-6)


def test_what_does_not_fit_has_no_probability_and_no_gradient():
    # 1 1 1 needs blanks between: five steps; four are too few, and 2 2 2 2 never fits.
    labels = jnp.array([[1, 1, 1, 0], [1, 1, 1, 0], [2, 2, 2, 2]])
    real = losses.length_mask(jnp.array([5, 4, 5]), 5) > 0
    logits = draw(1, 3, 5, 3)

    def at(logits, row):
        return ctc.log_probability(logits, labels, real)[row]

    values = log_probability(logits, labels, real)
    assert np.isneginf(values).tolist() == [False, True, True]
    path = [1, 0, 1, 0, 1]
    expected = log_softmax(logits[0])[range(5), path].sum()
    assert values[0] == pytest.approx(expected, rel=1e-6)
    gradient_fn = jax.jit(jax.grad(at))
    assert gradient_fn(logits, 0)[0].any()
    for row in (1, 2):
        np.testing.assert_array_equal(gradient_fn(logits, row), 0)


def batch_case():
    """Ragged logits and labels with repeats, an empty answer among them."""
    answers = [(1, 1, 2), (3,), (2, 4, 4, 1), (), (4, 3)]
    labels = jnp.asarray(np.stack([padded(answer, 4) for answer in answers]))
    return jnp.asarray(draw(2, 5, 12, 5)), labels, jnp.array([12, 7, 11, 3, 2])


def torch_losses(logits, labels, lengths):
    """Losses of the sequences, and the gradient of their mean."""
    logits, labels, lengths = map(np.asarray, (logits, labels, lengths))
    xs = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    values = torch.nn.functional.ctc_loss(
        torch.log_softmax(xs, -1).transpose(0, 1),
        torch.tensor(labels, dtype=torch.long),
        torch.tensor(lengths, dtype=torch.long),
        torch.tensor((labels != 0).sum(1), dtype=torch.long),
        reduction="none",
    )
    values.mean().backward()
    assert xs.grad is not None
    return values.detach().numpy(), xs.grad.numpy()


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_values_and_gradients_are_those_of_torch(scale):
    logits, labels, lengths = batch_case()
    logits = scale * logits
    expected, expected_gradient = torch_losses(logits, labels, lengths)
    mask = losses.length_mask(lengths, 12)
    got = -log_probability(logits, labels, mask > 0)
    np.testing.assert_allclose(got, expected, rtol=3e-6)
    value, gradient = jax.jit(jax.value_and_grad(losses.ctc_loss))(logits, labels, mask)
    assert value == pytest.approx(expected.mean(), rel=3e-6)
    # Entries up to 1/5; float32 logarithms of about a thousand are known to 1e-4.
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6 * scale**2)


def test_logits_in_the_thousands_do_not_fall_off_the_table():
    # Every alignment has one step against 1e5 of logit: what optax takes for ln 0.
    logits = jnp.zeros((4, 3)).at[:, 2].set(1e5)
    value, gradient = jax.value_and_grad(losses.ctc_loss)(logits, jnp.array([1]))
    # Ten of them, and float32 numbers that lie 1/32 apart there.
    assert value == pytest.approx(4e5 - np.log(10), abs=1 / 32)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["ctc_loss", "label_error_rate"])
def test_padding_reaches_neither_value_nor_gradient(name):
    logits, labels, lengths = batch_case()
    mask = losses.length_mask(lengths, 12).at[3].set(0)
    run = jax.jit(jax.value_and_grad(getattr(losses, name)))
    value, gradient = run(logits, labels, mask)
    dirty = jnp.where(mask[..., None] > 0, logits, jnp.nan)
    dirty_labels = labels.at[3].set(-7)
    dirty_value, dirty_gradient = run(dirty, dirty_labels, mask)
    assert value == dirty_value
    np.testing.assert_array_equal(gradient, dirty_gradient)
    assert np.isfinite(value)
    assert not gradient[mask == 0].any()
    # Without the sequence that does not count, and cut to the longest.
    rest = np.array([0, 1, 2, 4])
    alone, _ = run(logits[rest], labels[rest], mask[rest])
    assert alone == pytest.approx(float(value), rel=1e-6)
    assert getattr(losses, name)(logits, labels, 0 * mask) == 0


def test_frames_that_are_not_there_may_hold_anything():
    logits, labels, lengths = batch_case()
    real = losses.length_mask(lengths, 12) > 0
    dirty = jnp.where(real[..., None], logits, jnp.nan)

    def total(logits):
        return jnp.sum(ctc.log_probability(logits, labels, real))

    run = jax.jit(jax.value_and_grad(total))
    for got, expected in zip(run(dirty), run(logits), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("labels", [(1, -1), (1, 3), (0, 1), (1, 0)])
def test_labels_that_are_none_are_not_another_class(labels):
    value = log_probability(jnp.zeros((5, 3)), jnp.array(labels), REAL)
    assert bool(jnp.isnan(value)) == (labels != (1, 0))


@pytest.mark.parametrize("name", ["ctc_loss", "label_error_rate"])
def test_weights_axes_and_parts_of_a_batch(name):
    logits, labels, lengths = batch_case()
    logits, labels, lengths = logits[:4], labels[:4], lengths[:4]
    weights = jnp.array([2.0, 0.5, 1.0, 3.0])
    mask = losses.length_mask(lengths, 12)
    sums_fn = jax.jit(losses.SUMS[name])
    parts = [
        sums_fn(logits[i], labels[i], weights[i] * mask[i]) for i in range(len(lengths))
    ]
    added = functools.reduce(lambda a, b: jax.tree.map(jnp.add, a, b), parts)
    whole = sums_fn(logits, labels, weights[:, None] * mask)
    # The same float32 terms, added in another order.
    np.testing.assert_allclose(whole, added, rtol=1e-6)
    square = (2, 2)
    folded = sums_fn(
        logits.reshape(*square, 12, 5),
        labels.reshape(*square, 4),
        (weights[:, None] * mask).reshape(*square, 12),
    )
    np.testing.assert_allclose(folded, whole, rtol=1e-6)
    half = sums_fn(jnp.asarray(logits, jnp.bfloat16), labels, mask)
    assert half.total.dtype == jnp.float32


def test_float64_is_kept(x64):
    logits, labels, lengths = batch_case()
    expected, _ = torch_losses(logits, labels, lengths)
    mask = losses.length_mask(lengths, 12).astype(jnp.float64)
    got = losses.ctc_loss(jnp.asarray(logits, jnp.float64), jnp.asarray(labels), mask)
    assert got.dtype == jnp.float64
    assert got == pytest.approx(expected.mean(), rel=1e-13)


def test_a_batch_may_be_spread_over_a_mesh():
    # One device here; tests of the launchers spread batches over two.
    logits, labels, lengths = batch_case()
    mask = losses.length_mask(lengths, 12)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    for name in ("ctc_loss", "label_error_rate"):

        def total(*batch, sums_fn=losses.SUMS[name]):
            return jax.lax.psum(sums_fn(*batch), "data")

        spread = jax.shard_map(
            total, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec()
        )
        expected = losses.SUMS[name](logits, labels, mask)
        # Another program may add in another order.
        np.testing.assert_allclose(
            jax.jit(spread)(logits, labels, mask), expected, rtol=1e-6
        )


def test_shapes_are_checked():
    logits = jnp.zeros((2, 5, 3))
    for labels in (jnp.zeros((3, 2), int), jnp.zeros(2, int), jnp.asarray(0)):
        with pytest.raises(ValueError, match="labels: expected shape"):
            losses.ctc_loss(logits, labels)
    with pytest.raises(ValueError, match="mask: expected shape"):
        losses.label_error_rate(logits, jnp.zeros((2, 2), int), jnp.ones(2))


# --- edit distance ---------------------------------------------------------------


def distance_by_hand(answer, labels) -> int:
    """The textbook's table, from the ends of both strings."""

    @functools.cache
    def rest(i: int, j: int) -> int:
        if i == len(answer) or j == len(labels):
            return len(answer) - i + len(labels) - j
        both = rest(i + 1, j + 1) + (answer[i] != labels[j])
        return min(both, rest(i + 1, j) + 1, rest(i, j + 1) + 1)

    return rest(0, 0)


def test_edit_distance_of_all_short_strings_is_the_textbook_s():
    strings = [s for n in range(4) for s in itertools.product((1, 2), repeat=n)]
    pairs = list(itertools.product(strings, repeat=2))
    # Blanks around every label: an answer is what an alignment stands for.
    paths = np.stack([padded(np.kron(a, [0, 1]).astype(int), 7) for a, _ in pairs])
    labels = np.stack([padded(b, 3) for _, b in pairs])
    got = edit_distance(paths, emitted(paths, np.ones(paths.shape, bool)), labels)
    expected = [distance_by_hand(a, b) for a, b in pairs]
    np.testing.assert_array_equal(got, expected)


def test_error_rate_is_errors_over_labels():
    rng = np.random.default_rng(3)
    paths = rng.integers(0, 4, (200, 9))
    lengths = rng.integers(1, 10, 200)
    labels = np.stack(
        [padded(rng.integers(1, 4, rng.integers(0, 6)), 5) for _ in paths]
    )
    errors = [
        distance_by_hand(collapse(path[:n]), tuple(row[row != 0]))
        for path, n, row in zip(paths, lengths, labels, strict=True)
    ]
    logits = jax.nn.one_hot(paths, 4) + 0.9 * draw(4, 200, 9, 4, scale=0.1)
    mask = losses.length_mask(jnp.asarray(lengths), 9)
    sums = jax.jit(losses.SUMS["label_error_rate"])(logits, labels, mask)
    assert float(sums.total) == sum(errors)
    assert float(sums.weight) == np.sum(labels != 0)
    rate = losses.label_error_rate(logits, jnp.asarray(labels), mask)
    assert rate == pytest.approx(sum(errors) / np.sum(labels != 0), rel=1e-6)


def test_an_empty_answer_has_one_and_a_long_one_more():
    labels = jnp.array([[1, 2, 0], [3, 0, 0]])
    empty = jnp.zeros((2, 6, 4)).at[..., 0].set(1)
    assert losses.label_error_rate(empty, labels) == 1
    busy = jax.nn.one_hot(jnp.array([[1, 0, 1, 0, 1, 0]] * 2), 4)
    # 1 1 1 for 1 2 has two errors, for 3 three.
    assert losses.label_error_rate(busy, labels) == pytest.approx(5 / 3)
