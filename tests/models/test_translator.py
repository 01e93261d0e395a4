"""Translation: the equations, one token at a time, padding, and what attention sees."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.training.train_state import TrainState

from seqjax import cells, gradients, make_probes, unroll
from seqjax.combinators import bidirectional, stack
from seqjax.models import ATTENTIONS, Translator, translator
from seqjax.tasks import Example
from seqjax.training import make_objective, make_optimizer, train_step
from tests.helpers import assert_trees_close, random_like

SOURCES = jax.random.randint(jax.random.key(0), (3, 6), 0, 9)
TARGETS = jax.random.randint(jax.random.key(1), (3, 5), 0, 7)
LENGTHS = (jnp.asarray([6, 4, 1]), jnp.asarray([3, 5, 1]))
every_attention = pytest.mark.parametrize("attention", ATTENTIONS)


@functools.cache
def _make(attention="dot", **options):
    """A model with its `apply` compiled, and variables without a zero."""
    options = {
        "cell": cells.gru(3, 4),
        "encoder": bidirectional(cells.gru(3, 4)),
    } | options
    model = Translator(
        vocab_size=7,
        source_vocab_size=9,
        embedding_size=3,
        attention=attention,
        **options,
    )
    shapes = jax.eval_shape(model.init, jax.random.key(0), (SOURCES, TARGETS))
    apply = jax.jit(model.apply, static_argnames=("method", "deterministic"))
    return apply, random_like(shapes, seed=2)


def _by_hand(params, attention, source, target):
    """The docstring's equations for one pair, `[time, vocab]`, without `unroll`."""

    def run(cell, cell_params, carry, tokens, table):
        ys = []
        for token in tokens:
            carry, y = cell.step(cell_params, carry, table[token])
            ys.append(y)
        return carry, np.asarray(ys, np.float64)

    cell, p = cells.gru(3, 4), jax.tree.map(np.asarray, params)
    there_params, back_params = params["encoder"]
    table = params["source_embedding"]["embedding"]
    zeros = cell.initial_carry(there_params)
    there, ms = run(cell, there_params, zeros, source, table)
    back, ns = run(cell, back_params, zeros, source[::-1], table)
    memory = np.concatenate([ms, ns[::-1]], axis=1)
    ends = np.concatenate([there.hidden, back.hidden])
    start = cells.GRUCarry(
        jnp.asarray(ends @ p["bridge"]["kernel"] + p["bridge"]["bias"])
    )
    table = params["embedding"]["embedding"]
    _, ys = run(cell, params["cell"], start, target, table)
    if attention != "none":
        keys = memory @ p["keys"]["kernel"]
        if attention == "dot":
            scores = ys @ keys.T
        else:
            sums = (ys @ p["queries"]["kernel"])[:, None] + keys[None]
            scores = (np.tanh(sums) @ p["score"]["kernel"])[..., 0]
        weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        both = np.concatenate([weights @ memory, ys], axis=1)
        ys = np.tanh(both @ p["mixture"]["kernel"] + p["mixture"]["bias"])
    return ys @ p["readout"]["kernel"] + p["readout"]["bias"]


@every_attention
def test_logits_are_those_of_the_equations(attention):
    apply, variables = _make(attention)
    _, logits = apply(variables, (SOURCES, TARGETS), LENGTHS)
    for row, (source_length, length) in enumerate(zip(*LENGTHS, strict=True)):
        source, target = SOURCES[row, :source_length], TARGETS[row, :length]
        expected = _by_hand(variables["params"], attention, source, target)
        # float32, a few dozen sums deep.
        np.testing.assert_allclose(logits[row, :length], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("attention", "layers"), [("none", 1), ("additive", 1), ("dot", 2)]
)
def test_one_token_at_a_time_gives_the_logits_of_the_whole_target(attention, layers):
    decoder, encoder = cells.lstm(3, 4), bidirectional(cells.lstm(3, 4))
    if layers == 2:
        decoder = stack(decoder, cells.lstm(4, 4))
        encoder = stack(encoder, bidirectional(cells.lstm(8, 4)))
    apply, variables = _make(attention, cell=decoder, encoder=encoder)
    carry, logits = apply(variables, (SOURCES, TARGETS), (LENGTHS[0], jnp.full(3, 5)))
    state = apply(variables, SOURCES, LENGTHS[0], method="start")
    for time in range(TARGETS.shape[1]):
        state, scores, _ = apply(variables, state, TARGETS[:, time], method="step")
        # The same products, blocked differently.
        np.testing.assert_allclose(scores, logits[:, time], atol=1e-5)
    assert_trees_close(state.carry, carry, atol=1e-5)


def test_one_sequence_is_a_row_of_a_batch():
    apply, variables = _make("additive")
    state = apply(variables, SOURCES, LENGTHS[0], method="start")
    _, logits, weights = apply(variables, state, TARGETS[:, 0], method="step")
    one = apply(variables, SOURCES[1], LENGTHS[0][1], method="start")
    _, scores, shares = apply(variables, one, TARGETS[1, 0], method="step")
    # The same products, blocked differently.
    np.testing.assert_allclose(scores, logits[1], atol=1e-6)
    np.testing.assert_allclose(shares, weights[1], atol=1e-6)
    _, whole = apply(variables, (SOURCES[1], TARGETS[1]), (LENGTHS[0][1], jnp.int32(5)))
    np.testing.assert_allclose(whole[0], scores, atol=1e-6)


@every_attention
def test_padding_of_the_source_changes_no_bit(attention):
    apply, variables = _make(attention)
    padding = jnp.arange(6)[None, :] >= LENGTHS[0][:, None]
    other = jnp.where(padding, 8 - SOURCES, SOURCES)
    assert np.any(other != SOURCES)
    _, logits = apply(variables, (SOURCES, TARGETS), LENGTHS)
    _, same = apply(variables, (other, TARGETS), LENGTHS)
    np.testing.assert_array_equal(same, logits)
    _, whole = apply(variables, (other, TARGETS))
    assert not np.allclose(whole[1:], logits[1:], atol=1e-3)


@every_attention
def test_a_logit_depends_on_no_later_token(attention):
    apply, variables = _make(attention)
    later = TARGETS.at[:, 3:].set(6 - TARGETS[:, 3:])
    _, logits = apply(variables, (SOURCES, TARGETS))
    _, changed = apply(variables, (SOURCES, later))
    np.testing.assert_array_equal(changed[:, :3], logits[:, :3])
    assert not np.array_equal(changed, logits)


@pytest.mark.parametrize("attention", ["additive", "dot"])
def test_weights_are_a_distribution_over_the_real_steps(attention):
    apply, variables = _make(attention)
    state = apply(variables, SOURCES, LENGTHS[0], method="start")
    _, _, weights = apply(variables, state, TARGETS[:, 0], method="step")
    real = np.arange(6)[None, :] < np.asarray(LENGTHS[0])[:, None]
    # Rounding of a sum of six.
    np.testing.assert_allclose(weights.sum(axis=1), np.ones(3), atol=1e-6)
    np.testing.assert_array_equal(np.asarray(weights) > 0, real)


@pytest.mark.parametrize("attention", ["none", "dot"])
def test_an_empty_source_gives_finite_logits_and_gradients(attention):
    apply, variables = _make(attention)
    lengths = (jnp.asarray([6, 0, 1]), LENGTHS[1])

    @jax.jit
    @jax.value_and_grad
    def loss(variables):
        return jnp.sum(jnp.sin(apply(variables, (SOURCES, TARGETS), lengths)[1]))

    value, gradient = loss(variables)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    if attention != "none":
        state = apply(variables, SOURCES, lengths[0], method="start")
        _, _, weights = apply(variables, state, TARGETS[:, 0], method="step")
        np.testing.assert_array_equal(weights[1], np.zeros(6))


def test_a_carry_of_the_decoders_shape_is_handed_over_as_it_is():
    cell = cells.lstm(3, 4)
    apply, variables = _make("none", cell=cell, encoder=cell)
    params = variables["params"]
    assert sorted(params) == [
        "cell",
        "embedding",
        "encoder",
        "readout",
        "source_embedding",
    ]
    table = params["source_embedding"]["embedding"]
    expected, _ = unroll(cell, params["encoder"], table[SOURCES], lengths=LENGTHS[0])
    state = apply(variables, SOURCES, LENGTHS[0], method="start")
    # Compiled as parts of two programs.
    assert_trees_close(state.carry, expected, atol=1e-6)
    assert state.memory is None


def test_the_bridge_fills_the_parts_of_the_carry_in_their_order():
    cell = cells.lstm(3, 2)
    apply, variables = _make("none", cell=cell, encoder=cells.gru(3, 4))
    params = dict(variables["params"])
    # Outputs 0 and 1 are the hidden units, 2 and 3 the cell.
    bias = jnp.arange(4.0)
    params["bridge"] = {"kernel": jnp.zeros((4, 4)), "bias": bias}
    state = apply({"params": params}, SOURCES[0], method="start")
    assert_trees_close(state.carry, cells.LSTMCarry(bias[:2], bias[2:]))


def test_dropout_follows_its_key_and_only_in_training():
    apply, variables = _make("dot", dropout_rate=0.5)

    def run(seed, deterministic=False):
        rngs = {"dropout": jax.random.key(seed)}
        xs = (SOURCES, TARGETS)
        return apply(variables, xs, deterministic=deterministic, rngs=rngs)[1]

    np.testing.assert_array_equal(run(0), run(0))
    assert not np.array_equal(run(0), run(1))
    np.testing.assert_array_equal(run(0, True), apply(variables, (SOURCES, TARGETS))[1])


def test_dropout_acts_on_both_embeddings_and_on_what_is_read_out():
    model = Translator(cells.gru(3, 4), cells.gru(3, 4), 7, 9, 3, dropout_rate=0.5)
    xs, key, seen = (SOURCES, TARGETS), jax.random.key(0), []

    def record(next_fn, args, kwargs, context):
        if isinstance(context.module, nn.Dropout):
            seen.append((args[0].shape, kwargs["deterministic"]))
        return next_fn(*args, **kwargs)

    variables = jax.eval_shape(model.init, key, xs)
    for deterministic in (True, False):
        apply = functools.partial(
            model.apply, deterministic=deterministic, rngs={"dropout": key}
        )
        with nn.intercept_methods(record):
            jax.eval_shape(apply, variables, xs)
    shapes = [(3, 6, 3), (3, 5, 3), (3, 5, 4)]
    assert seen == [(shape, flag) for flag in (True, False) for shape in shapes]


def test_the_noise_of_both_cells_is_on_in_training_alone(monkeypatch):
    seen = []

    def recorded(*args, **options):
        seen.append(options)
        return unroll(*args, **options)

    monkeypatch.setattr(translator, "unroll", recorded)
    chosen = {"window": 2, "method": "checkpoint", "product_dtype": "bfloat16"}
    apply, variables = _make("dot", **chosen)
    seen.clear()
    for deterministic in (True, False):
        apply(
            variables,
            (SOURCES, TARGETS),
            LENGTHS,
            deterministic=deterministic,
            rngs={"dropout": jax.random.key(0)},
        )
    assert [options["key"] is None for options in seen] == [True, True, False, False]
    for options, lengths in zip(seen, LENGTHS * 2, strict=True):
        assert {name: options[name] for name in chosen} == chosen
        assert options["lengths"].shape == lengths.shape


def test_probes_read_the_gradient_norms_of_the_decoder():
    apply, variables = _make("none")
    params, cell = variables["params"], cells.gru(3, 4)
    xs = (SOURCES[0], TARGETS[0])
    probes = make_probes(cell, params["cell"], (), 5)

    def loss(probes):
        return jnp.sum(jnp.sin(apply(variables, xs, probes=probes)[1]))

    def loss_of_outputs(ys):
        logits = ys @ params["readout"]["kernel"] + params["readout"]["bias"][None]
        return jnp.sum(jnp.sin(logits))

    start = apply(variables, SOURCES[0], method="start").carry
    embedded = params["embedding"]["embedding"][TARGETS[0]]
    expected = gradients.log_gradient_norms(
        cell, params["cell"], embedded, loss_of_outputs, start
    )
    # Two backward passes in float32.
    assert_trees_close(jax.grad(loss)(probes), expected.parts, atol=1e-4)


@pytest.mark.parametrize("attention", ["additive", "dot"])
def test_everything_has_the_dtype_of_the_decoder(attention):
    cell = cells.gru(3, 4, init="torch", dtype="bfloat16")
    model = Translator(cell, bidirectional(cell), 7, 9, 3, attention)
    variables = jax.eval_shape(model.init, jax.random.key(1), (SOURCES, TARGETS))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"bfloat16"}
    _, logits = jax.eval_shape(model.apply, variables, (SOURCES, TARGETS), LENGTHS)
    assert logits.dtype.name == "bfloat16"


def test_a_decoder_that_sees_the_future_is_refused():
    cell = bidirectional(cells.gru(3, 4))
    model = Translator(cell, cell, 7, 9, 3)
    with pytest.raises(ValueError, match="only the encoder may be bidirectional"):
        model.init(jax.random.key(1), (SOURCES, TARGETS))


def test_an_unknown_attention_is_refused():
    model = Translator(cells.gru(3, 4), cells.gru(3, 4), 7, 9, 3, attention="dott")
    with pytest.raises(ValueError, match=r"attention: .*did you mean 'dot'"):
        model.init(jax.random.key(1), (SOURCES, TARGETS))


# --- learning to reverse ---------------------------------------------------------

_END, _START, _STEPS, _BATCH = 0, 1, 7, 32


def _reversals(key):
    """Sequences of the tokens 2 to 9, which are to be written from the last one on."""
    token_key, length_key = jax.random.split(key)
    tokens = jax.random.randint(token_key, (_BATCH, _STEPS), 2, 10)
    lengths = jax.random.randint(length_key, (_BATCH,), 3, _STEPS + 1)
    places = lengths[:, None] - 1 - jnp.arange(_STEPS + 1)[None, :]
    targets = jnp.take_along_axis(tokens, jnp.maximum(places, 0), axis=1)
    targets = jnp.where(places >= 0, targets, _END)
    given = jnp.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=_START)
    mask = (places >= -1).astype(jnp.float32)
    return Example((tokens, given), targets, mask, mask, (lengths, lengths + 1))


def test_attention_learns_to_read_backwards():
    model = Translator(
        cell=cells.gru(16, 24),
        encoder=bidirectional(cells.gru(16, 24)),
        vocab_size=10,
        source_vocab_size=10,
        embedding_size=16,
        attention="dot",
    )
    objective = make_objective("label", "accuracy")

    @jax.jit
    def run(key):
        init_key, test_key, train_key = jax.random.split(key, 3)
        batch = _reversals(test_key)
        state = TrainState.create(
            apply_fn=model.apply,
            params=model.init(init_key, batch.inputs)["params"],
            tx=make_optimizer("adam", 1e-2, clip_norm=1.0),
        )
        state, metrics = jax.lax.scan(
            lambda state, key: train_step(state, _reversals(key), key, objective),
            state,
            jax.random.split(train_key, 250),
        )
        (sources, given), (lengths, _) = batch.inputs, batch.length
        variables = {"params": state.params}

        def look(state, token):
            result: Any = model.apply(variables, state, token, method="step")
            return result[0], result[2]

        started = model.apply(variables, sources, lengths, method="start")
        _, weights = jax.lax.scan(look, started, given.T)
        return metrics["metric"], weights, lengths

    accuracy, weights, lengths = jax.tree.map(np.asarray, run(jax.random.key(0)))
    # No batch is seen twice, and a guess has one answer in nine right.
    assert accuracy[-20:].mean() > 0.98
    right = [
        weights[:length, row].argmax(axis=1) == np.arange(length)[::-1]
        for row, length in enumerate(lengths)
    ]
    assert np.mean(np.concatenate(right)) > 0.95
