"""What every task promises, over all variants."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import losses
from seqjax.tasks import TASKS, Example, Task, adding, parity, sample_batch

VARIANTS = {
    "adding": ("halves", "anywhere", "hochreiter"),
    "copy_memory": ("urnn", "exprnn", "tcn"),
    "delayed_xor": ("xor", "copy"),
    "long_sentence": ("random_fillers", "one_filler"),
    "multiplication": ("halves", "anywhere"),
    "parity": ("final", "running"),
    "temporal_order": ("6a", "6b"),
}
CASES = [(name, variant) for name in TASKS for variant in VARIANTS[name]]
every_task = pytest.mark.parametrize(("name", "variant"), CASES)
LOSSES = {
    "forecast": "mean_squared_error",
    "classify": "cross_entropy",
    "label": "cross_entropy",
}


NUM = 20_000


def _make(name, variant, length=20):
    return TASKS[name](length, variant=variant)


@functools.cache
def _draw(name, variant):
    task = _make(name, variant)
    return jax.jit(lambda key: sample_batch(task, key, NUM))(jax.random.key(0))


@every_task
def test_example_has_the_declared_shapes_and_dtypes(name, variant):
    task = _make(name, variant)
    example = jax.eval_shape(task.sample, jax.random.key(0))
    per_entry = (task.length,) if task.kind == "label" else ()
    targets = (task.output_size,) if task.kind == "forecast" else per_entry
    dtype = jnp.float32 if task.kind == "forecast" else jnp.int32
    assert example.inputs.shape == (task.length, task.input_size)
    assert example.targets.shape == targets
    assert example.mask.shape == example.scored.shape == per_entry
    assert example.length.shape == ()
    assert [leaf.dtype for leaf in example] == [
        jnp.float32,
        dtype,
        jnp.float32,
        jnp.float32,
        jnp.int32,
    ]


@every_task
def test_dtypes_do_not_follow_the_64_bit_switch(name, variant, x64):
    example = jax.eval_shape(_make(name, variant).sample, jax.random.key(0))
    assert {leaf.dtype.itemsize for leaf in example} == {4}


@every_task
def test_a_batch_is_the_examples_of_the_split_keys(name, variant):
    sample, batch = jax.jit(_make(name, variant).sample), _draw(name, variant)
    for index, key in enumerate(jax.random.split(jax.random.key(0), NUM)[:2]):
        for got, expected in zip(batch, sample(key), strict=True):
            np.testing.assert_array_equal(got[index], expected)
    assert np.any(batch.inputs != batch.inputs[:1])


@every_task
def test_nothing_stands_after_the_length(name, variant):
    inputs, length = (
        np.asarray(_draw(name, variant).inputs),
        _draw(name, variant).length,
    )
    padding = np.arange(inputs.shape[1])[None] >= np.asarray(length)[:, None]
    assert not inputs[padding].any()


@every_task
def test_baseline_is_what_the_blind_answer_scores(name, variant):
    task, batch = _make(name, variant), _draw(name, variant)
    outputs = jnp.broadcast_to(_blind(task, batch), _output_shape(task, batch))
    for declared, function, mask in (
        (task.baseline_loss, LOSSES[task.kind], batch.mask),
        (task.baseline_metric, task.metric, batch.scored),
    ):
        score = jax.jit(jax.vmap(getattr(losses, function)))
        per_example = np.asarray(score(outputs, batch.targets, mask), np.float64)
        standard_error = per_example.std() / NUM**0.5
        # Four standard errors of the mean, and the float32 rounding of one term.
        assert abs(per_example.mean() - declared) < 4 * standard_error + 1e-6


# One row per task and variant, so that a new one cannot go without.
BASELINES = {
    ("adding", "halves"): (1 / 6, 1 / 6),
    ("adding", "anywhere"): (1 / 6, 1 / 6),
    # Length 20 marks the first step with p = 1/10 + 9/10 · 1/9 = 1/5.
    ("adding", "hochreiter"): (1.8 / 48, 0.8 * 0.1536 + 0.2 * 0.16),
    ("copy_memory", "urnn"): (math.log(8) / 4, 1 / 8),
    ("copy_memory", "exprnn"): (math.log(8) / 4, 1 / 8),
    ("copy_memory", "tcn"): (math.log(8) / 4, 1 / 8),
    ("delayed_xor", "xor"): (math.log(2), 1 / 2),
    ("delayed_xor", "copy"): (math.log(2), 1 / 2),
    ("long_sentence", "random_fillers"): (math.log(2), 1 / 2),
    ("long_sentence", "one_filler"): (math.log(2), 1 / 2),
    ("multiplication", "halves"): (7 / 144, 7 / 144),
    ("multiplication", "anywhere"): (7 / 144, 7 / 144),
    ("parity", "final"): (math.log(2), 1 / 2),
    ("parity", "running"): (math.log(2), 1 / 2),
    ("temporal_order", "6a"): (math.log(4), 1 / 4),
    ("temporal_order", "6b"): (math.log(8), 1 / 8),
}


@every_task
def test_baseline_is_the_exact_number(name, variant):
    task = _make(name, variant)
    # One or two roundings of a float64.
    expected = pytest.approx(BASELINES[name, variant], rel=1e-15)
    assert (task.baseline_loss, task.baseline_metric) == expected


@every_task
def test_no_constant_beats_the_baseline_of_a_forecast(name, variant):
    task = _make(name, variant)
    if task.kind != "forecast":
        return
    targets = np.asarray(_draw(name, variant).targets, np.float64)
    # The best constant of a sample is its mean, and leaves the variance.
    standard_error = np.square(targets - targets.mean()).std() / NUM**0.5
    assert abs(targets.var() - task.baseline_loss) < 4 * standard_error


def _output_shape(task: Task, batch: Example) -> tuple[int, ...]:
    leading = batch.inputs.shape[:2] if task.kind == "label" else batch.inputs.shape[:1]
    return (*leading, task.output_size)


def _blind(task: Task, batch: Example):
    """The best answer that does not remember: a constant, or the recall time alone."""
    if task.kind == "forecast":
        return {"adding": 1.0, "multiplication": 0.25}[task.name] - 0.5 * (
            task.metric == "fraction_within"
        )
    if task.name != "copy_memory":
        return jnp.zeros(task.output_size)
    blank = jax.nn.one_hot(0, 9)
    recall = batch.scored[..., None] > 0
    return 100 * jnp.where(recall, 1 - blank, blank)


def test_tasks_print_compare_and_hash_by_their_arguments():
    task = TASKS["copy_memory"](100, variant="tcn")
    assert repr(task) == "copy_memory(length=100, variant='tcn')"
    assert repr(TASKS["copy_memory"](100, variant="urnn")) == "copy_memory(length=100)"
    assert task == TASKS["copy_memory"](length=100, variant="tcn")
    assert hash(task) == hash(TASKS["copy_memory"](length=100, variant="tcn"))
    assert task != TASKS["copy_memory"](100)
    assert adding(20) != TASKS["multiplication"](20)
    assert adding(20) != "adding(length=20)"


def test_an_equal_task_does_not_trace_again():
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def draw(task, key):
        traces.append(task)
        return task.sample(key)

    for _ in range(3):
        draw(parity(5), jax.random.key(0))
    assert len(traces) == 1


def test_a_task_made_by_hand_is_its_sample_function():
    made = parity(5)
    one = Task(made.sample, 5, 1, 2, "classify", "accuracy", 0.0, 0.0)
    other = Task(
        lambda key: made.sample(key), 5, 1, 2, "classify", "accuracy", 0.0, 0.0
    )
    assert one == Task(made.sample, 5, 1, 2, "classify", "accuracy", 0.0, 0.0)
    assert one != other
    assert repr(one) == f"Task(sample={made.sample.__name__})"


@every_task
@pytest.mark.parametrize("length", [0, -3, True])
def test_a_bad_length_is_refused_with_the_reason(name, variant, length):
    with pytest.raises(ValueError, match=r"length: expected a whole number >= \d+ \("):
        _make(name, variant, length)


@pytest.mark.parametrize("name", TASKS)
def test_an_unknown_variant_is_refused_with_the_choices(name):
    with pytest.raises(ValueError, match=rf"variant: .*{VARIANTS[name][0]}"):
        _make(name, "halve")
