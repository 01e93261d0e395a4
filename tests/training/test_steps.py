import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.training.train_state import TrainState
from jax.sharding import PartitionSpec

from seqjax import cells, gradients, losses, make_probes, tasks
from seqjax.models import Forecaster, SequenceClassifier, SequenceLabeller
from seqjax.training import (
    eval_step,
    make_objective,
    make_optimizer,
    probe_train_step,
    train_step,
)
from tests.helpers import assert_trees_close, count_traces

MODELS = {
    "forecast": Forecaster,
    "classify": SequenceClassifier,
    "label": SequenceLabeller,
}
KEY = jax.random.key(3)
RAGGED = tasks.adding(20, variant="hochreiter")


@functools.cache
def _setup(task, *, batch_size=6, learning_rate=0.5, accumulate_steps=1, **options):
    """A batch, a model, its state and its objective."""
    cell = cells.lstm(task.input_size, 4)
    model = MODELS[task.kind](cell, task.output_size, **options)
    batch = tasks.sample_batch(task, jax.random.key(0), batch_size)
    state = TrainState.create(
        apply_fn=model.apply,
        params=jax.jit(model.init)(jax.random.key(1), batch.inputs)["params"],
        tx=make_optimizer("sgd", learning_rate, accumulate_steps=accumulate_steps),
    )
    return batch, model, state, make_objective(task.kind, task.metric)


def _part(batch, rows):
    return jax.tree.map(lambda leaf: leaf[rows], batch)


@functools.cache
def _jit(step, objective):
    return jax.jit(functools.partial(step, objective=objective))


def _train(state, batch, objective, key=KEY):
    return _jit(train_step, objective)(state, batch, key)


@pytest.mark.parametrize(
    ("task", "loss_fn"),
    [
        (RAGGED, losses.mean_squared_error),
        (tasks.temporal_order(10), losses.cross_entropy),
        (tasks.copy_memory(2), losses.cross_entropy),
    ],
    ids=["forecast", "classify", "label"],
)
def test_one_step_is_one_gradient_step_on_the_loss_of_the_kind(task, loss_fn):
    batch, model, state, objective = _setup(task)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def by_hand(params, batch):
        _, outputs = model.apply({"params": params}, batch.inputs, batch.length)
        metric = getattr(losses, task.metric)(outputs, batch.targets, batch.scored)
        return loss_fn(outputs, batch.targets, batch.mask), metric

    (loss, metric), gradient = by_hand(state.params, batch)
    after, metrics = _train(state, batch, objective)
    expected = jax.tree.map(lambda p, g: p - 0.5 * g, state.params, gradient)
    # The same formulas in another program, in float32.
    assert_trees_close(after.params, expected, atol=1e-6)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)
    np.testing.assert_allclose(metrics["metric"], metric, rtol=1e-6)
    squares = [
        np.sum(np.square(g, dtype=np.float64)) for g in jax.tree.leaves(gradient)
    ]
    np.testing.assert_allclose(metrics["gradient_norm"], sum(squares) ** 0.5, rtol=1e-5)
    assert int(after.step) == 1


def test_gradient_norm_is_that_before_clipping():
    batch, _, state, objective = _setup(RAGGED)
    clipped = state.replace(tx=make_optimizer("sgd", 0.5, clip_norm=1e-3))
    clipped = clipped.replace(opt_state=clipped.tx.init(clipped.params))
    after, metrics = _train(clipped, batch, objective)
    _, plain = _train(state, batch, objective)
    assert metrics["gradient_norm"] == plain["gradient_norm"] > 1e-2
    moved = jax.tree.map(lambda a, b: np.float64(a) - b, after.params, clipped.params)
    length = sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(moved)) ** 0.5
    # Parameters of order one lose digits of a move of 5e-4.
    assert length == pytest.approx(0.5 * 1e-3, rel=1e-2)


def test_dropout_follows_the_key():
    batch, _, state, objective = _setup(RAGGED, dropout_rate=0.5)
    first, _ = _train(state, batch, objective)
    again, _ = _train(state, batch, objective)
    other, _ = _train(state, batch, objective, key=jax.random.key(4))
    assert_trees_close(first.params, again.params)
    assert not np.array_equal(
        first.params["readout"]["kernel"], other.params["readout"]["kernel"]
    )


def test_micro_batches_accumulate_to_one_big_batch():
    batch, _, state, objective = _setup(RAGGED)
    _, _, accumulating, _ = _setup(RAGGED, accumulate_steps=3)
    whole, _ = _train(state, batch, objective)
    for start in (0, 2, 4):
        assert_trees_close(accumulating.params, state.params)
        part = _part(batch, slice(start, start + 2))
        accumulating, _ = _train(accumulating, part, objective)
    # A mean of three means in float32.
    assert_trees_close(accumulating.params, whole.params, atol=1e-6)


def test_a_second_step_does_not_trace_again():
    batch, _, state, objective = _setup(RAGGED)
    counted, traces = count_traces(functools.partial(train_step, objective=objective))
    step = jax.jit(counted)
    for _ in range(3):
        state, _ = step(state, batch, KEY)
    assert len(traces) == 1
    assert make_objective("forecast", "fraction_within") == objective


def test_probes_leave_every_bit_of_the_update():
    batch, _, state, objective = _setup(RAGGED)
    probes = make_probes(cells.lstm(2, 4), state.params["cell"], (6,), 22)
    plain, metrics = _train(state, batch, objective)
    probed, probed_metrics, _, given = _jit(probe_train_step, objective)(
        state, batch, KEY, probes=probes
    )
    assert_trees_close(probed.params, plain.params)
    assert_trees_close(probed_metrics, metrics)
    # What the optimiser was given: plain descent at the rate of 0.5.
    step = jax.tree.map(lambda p, g: p - 0.5 * g, state.params, given)
    assert_trees_close(step, plain.params, atol=1e-6)


def _half_length(params, batch, step):
    """A penalty on the squared parameters, which alone counts at step 0."""
    squares = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params))
    weight = jnp.mean(batch.length.astype(jnp.float32)) / 40
    return weight * squares, jnp.where(step == 0, 0.0, 1.0)


def test_a_penalty_adds_its_gradient_and_a_constraint_has_the_last_word():
    batch, model, state, objective = _setup(RAGGED)
    remedied = objective._replace(
        penalty=_half_length,
        constraint=lambda params: jax.tree.map(
            lambda p: jnp.clip(p, -0.5, 0.5), params
        ),
    )
    probes = make_probes(model.cell, state.params["cell"], (6,), RAGGED.length)
    weight = float(jnp.mean(batch.length.astype(jnp.float32))) / 40
    for step, share in ((0, 0), (1, 1)):
        started = state.replace(step=jnp.asarray(step))
        plain, plain_metrics = _train(started, batch, objective)
        after, metrics = _train(started, batch, remedied)
        # p − 0.5 (share · g + 2 weight p), where plain is p − 0.5 g.
        expected = jax.tree.map(
            lambda p, q, share=share: jnp.clip(
                p + share * (q - p) - weight * p, -0.5, 0.5
            ),
            state.params,
            plain.params,
        )
        # Two float32 sums of a few terms near 1.
        assert_trees_close(after.params, expected, atol=1e-6)
        assert metrics["loss"] == plain_metrics["loss"]
        penalty = _half_length(state.params, batch, 0)[0]
        # The same sum, fused another way.
        np.testing.assert_allclose(metrics["penalty"], penalty, rtol=1e-6)
        probed, _, log_norms, _ = _jit(probe_train_step, remedied)(
            started, batch, KEY, probes=probes
        )
        assert_trees_close(probed.params, after.params)
        # Of the loss, also where the penalty alone is minimised.
        assert jnp.all(jnp.isfinite(log_norms.hidden[:, 0]))


@pytest.mark.parametrize("task", [RAGGED, tasks.copy_memory(2)], ids=str)
def test_probes_report_the_gradient_norms_of_each_sequence(task):
    batch, _, state, objective = _setup(task)
    cell, params = cells.lstm(task.input_size, 4), state.params
    probes = make_probes(cell, params["cell"], (6,), task.length)
    _, _, log_norms, _ = _jit(probe_train_step, objective)(
        state, batch, KEY, probes=probes
    )
    row = 1
    length = int(batch.length[row])

    def loss_of_outputs(ys):
        # The bias starts at zero.
        if task.kind == "label":
            logits = ys @ params["readout"]["kernel"]
            return losses.cross_entropy(logits, batch.targets[row])
        forecast = ys[length - 1] @ params["readout"]["kernel"]
        return losses.mean_squared_error(forecast, batch.targets[row])

    expected = gradients.log_gradient_norms(
        cell, params["cell"], batch.inputs[row, :length], loss_of_outputs
    ).parts
    for got, want in zip(log_norms, expected, strict=True):
        # Two backward passes in float32. The hidden part of the final carry is
        # held through the padding, so that only real steps compare.
        np.testing.assert_allclose(got[row, :length], want[:length], atol=1e-4)


def test_log_norms_do_not_depend_on_the_size_of_the_batch():
    batch, _, state, objective = _setup(tasks.copy_memory(2))
    step = _jit(probe_train_step, objective)

    def log_norms(rows):
        part = _part(batch, rows)
        probes = make_probes(
            cells.lstm(10, 4), state.params["cell"], part.inputs.shape[:1], 22
        )
        return step(state, part, KEY, probes=probes)[2]

    whole, few = log_norms(slice(0, 6)), log_norms(slice(0, 2))
    # The same sums, blocked differently.
    assert_trees_close(few, _part(whole, slice(0, 2)), atol=1e-4)


@pytest.mark.parametrize("task", [tasks.copy_memory(2), RAGGED], ids=str)
def test_eval_sums_do_not_depend_on_how_the_set_is_split(task):
    batch, _, state, objective = _setup(task, dropout_rate=0.5)
    step = _jit(eval_step, objective)
    whole = step(state, batch)
    parts = [step(state, _part(batch, rows)) for rows in (slice(0, 1), slice(1, 6))]
    added = jax.tree.map(lambda a, b: a + b, *parts)
    assert added["metric"] == whole["metric"]
    assert added["loss"].weight == whole["loss"].weight
    # The same float32 terms added in another order.
    np.testing.assert_allclose(added["loss"].total, whole["loss"].total, rtol=1e-6)


def test_eval_counts_what_the_masks_say():
    batch, model, state, objective = _setup(tasks.copy_memory(2), dropout_rate=0.5)
    half = (jnp.arange(6) < 3).astype(jnp.float32)[:, None]
    sums = _jit(eval_step, objective)(
        state, batch._replace(mask=batch.mask * half, scored=batch.scored * half)
    )
    assert sums["loss"].weight == 3 * 22
    assert sums["metric"].weight == 3 * 10
    _, logits = model.apply({"params": state.params}, batch.inputs)
    right = np.argmax(np.asarray(logits)[:3, -10:], -1) == np.asarray(
        batch.targets[:3, -10:]
    )
    assert float(sums["metric"].total) == right.sum()


def test_every_task_has_an_objective():
    for make in tasks.TASKS.values():
        task = make(20)
        assert make_objective(task.kind, task.metric).metric is losses.SUMS[task.metric]
    with pytest.raises(ValueError, match="kind: expected one of forecast, classify"):
        make_objective("regress", "accuracy")
    with pytest.raises(ValueError, match=r"metric: expected one of .*'accuracy'"):
        make_objective("label", "acuracy")


def test_a_short_adding_problem_is_learnt():
    task = tasks.adding(6)
    _, _, state, objective = _setup(task)
    state = state.replace(tx=make_optimizer("adam", 0.02))
    state = state.replace(opt_state=state.tx.init(state.params))

    @jax.jit
    def run(state, keys):
        def body(state, key):
            batch = tasks.sample_batch(task, key, 32)
            state, metrics = train_step(state, batch, key, objective)
            return state, metrics["loss"]

        return jax.lax.scan(body, state, keys)

    state = state.replace(step=jnp.asarray(0))
    _, history = run(state, jax.random.split(KEY, 400))
    # Far below what any answer without memory reaches.
    assert float(jnp.mean(history[-50:])) < task.baseline_loss / 4


def test_a_mesh_axis_changes_no_number_but_the_noise():
    # One device here; tests of the launchers spread a batch over two.
    task = RAGGED
    batch, model, state, objective = _setup(task)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    probes = make_probes(model.cell, state.params["cell"], (6,), task.length)
    whole, share = PartitionSpec(), PartitionSpec("data")

    def step(state, batch, probes, axis_name=None):
        return probe_train_step(
            state, batch, KEY, objective, probes, axis_name=axis_name
        )

    spread = jax.shard_map(
        functools.partial(step, axis_name="data"),
        mesh=mesh,
        in_specs=(whole, share, share),
        out_specs=(whole, whole, share, whole),
    )
    expected = jax.jit(step)(state, batch, probes)
    results = jax.jit(spread)(state, batch, probes)
    # The same formulas in another program, in float32; -inf where nothing arrives.
    assert_trees_close(results, expected, atol=1e-5)


def test_an_objective_of_quantiles_scores_the_middle_one():
    quantiles = (0.05, 0.5, 0.95)
    objective = make_objective("forecast", "mean_squared_error", quantiles)
    assert make_objective("forecast", "mean_squared_error", quantiles) == objective
    outputs = jnp.asarray([[[-1.0, 2.0, 9.0]]])
    targets = jnp.asarray([[5.0]])
    assert objective.metric(outputs, targets).total == 9
    assert objective.loss is losses.pinball_sums(quantiles)
    with pytest.raises(ValueError, match="kind: expected one of forecast"):
        make_objective("classify", "accuracy", quantiles)
    with pytest.raises(ValueError, match="expected an odd number"):
        make_objective("forecast", "mean_squared_error", (0.1, 0.9))
