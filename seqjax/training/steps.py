"""Pure steps of training and evaluation on Flax's `TrainState`."""

import functools
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax.training.train_state import TrainState

from seqjax.array_types import Array, Key, PyTree
from seqjax.checks import check_choice
from seqjax.losses import SUMS, Sums, mean, pinball_sums
from seqjax.tasks import Example
from seqjax.tree import norm


class Objective(NamedTuple):
    """What training minimises and what it reports.

    Attributes:
        loss: `(outputs, targets, mask) -> Sums`, as in `seqjax.losses.SUMS`.
        metric: The same, applied with `Example.scored` as the mask.
        penalty: `(params, batch, step) -> (penalty, share)`, scalars: minimised is
            share · loss + penalty, where `share` does not depend on params; `step` is
            the number of updates made. None for the loss alone.
        constraint: `(params) -> params`, applied after each update; None for none.
    """

    loss: Callable[..., Sums]
    metric: Callable[..., Sums]
    penalty: Callable[[PyTree, Example, Array], tuple[Array, Array]] | None = None
    constraint: Callable[[PyTree], PyTree] | None = None


LOSSES: Mapping[str, str] = MappingProxyType(
    {
        "forecast": "mean_squared_error",
        "classify": "cross_entropy",
        "label": "cross_entropy",
        "multilabel": "binary_cross_entropy",
        "transcribe": "ctc_loss",
    }
)
"""Kind of a task -> name of its loss in `seqjax.losses`."""


def make_objective(
    kind: str, metric: str, quantiles: tuple[float, ...] = ()
) -> Objective:
    """Finds the loss and the metric of a task.

    Args:
        kind: `Task.kind`.
        metric: `Task.metric`.
        quantiles: Of a forecast, what is forecast in the place of the mean, an odd
            number: the loss is then the pinball loss, and the metric takes the middle
            one.

    Returns:
        Both functions; equal arguments give equal objectives.

    Raises:
        ValueError: If a name is unknown, or quantiles are not what `kind` forecasts.

    Example:
        >>> from seqjax.tasks import adding
        >>> task = adding(length=100)
        >>> make_objective(task.kind, task.metric).loss is SUMS["mean_squared_error"]
        True
    """
    check_choice("kind", kind, LOSSES)
    check_choice("metric", metric, SUMS)
    if quantiles:
        check_choice("kind", kind, ("forecast",))
        if len(quantiles) % 2 == 0:
            raise ValueError(f"quantiles: expected an odd number, got {quantiles}")
        return Objective(pinball_sums(quantiles), _of_middle(metric, len(quantiles)))
    return Objective(loss=SUMS[LOSSES[kind]], metric=SUMS[metric])


@functools.cache
def _of_middle(metric: str, num_quantiles: int) -> Callable[..., Sums]:
    """The metric of the middle one of quantiles on a last axis."""

    def sums(outputs: Array, targets: Array, mask: Array | None = None) -> Sums:
        return SUMS[metric](outputs[..., num_quantiles // 2], targets, mask)

    return sums


def train_step(
    state: TrainState,
    batch: Example,
    key: Key,
    objective: Objective,
    *,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, Array]]:
    """Makes one update of the parameters.

    Args:
        state: Parameters and optimiser; `apply_fn` is the `apply` of a model of
            `seqjax.models`.
        batch: Leaves with a leading batch axis.
        key: Feeds all dropout of the step.
        objective: What to minimise.
        axis_name: Under `jax.shard_map`, the mesh axis over which the batch is
            spread and all else is shared: loss, metric and gradient are then those of
            the whole batch, up to the order of summation. Each device draws dropout
            of its own, from `key` and its index.

    Returns:
        The next state, and scalars "loss", "metric" (both before the update, with
        dropout) and "gradient_norm" (Euclidean over all parameters, before clipping);
        with a penalty also "penalty", before the update, and its gradient is part of
        "gradient_norm".

    Example:
        >>> import jax
        >>> from seqjax import cells, models, tasks, training
        >>> task = tasks.adding(length=10)
        >>> batch = tasks.sample_batch(task, jax.random.key(0), batch_size=4)
        >>> model = models.Forecaster(cells.gru(task.input_size, 8), task.output_size)
        >>> state = TrainState.create(
        ...     apply_fn=model.apply,
        ...     params=model.init(jax.random.key(1), batch.inputs)["params"],
        ...     tx=training.make_optimizer("adam", 1e-3),
        ... )
        >>> objective = make_objective(task.kind, task.metric)
        >>> state, metrics = train_step(state, batch, jax.random.key(2), objective)
        >>> int(state.step), sorted(metrics)
        (1, ['gradient_norm', 'loss', 'metric'])
    """
    loss_fn = functools.partial(_loss, state, batch, key, objective, axis_name)
    values, gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    gradients, metrics = _minimised(
        state, batch, objective, axis_name, values, gradients
    )
    return _update(state, objective, gradients), metrics


def probe_train_step(
    state: TrainState,
    batch: Example,
    key: Key,
    objective: Objective,
    probes: PyTree,
    *,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, Array], PyTree, PyTree]:
    """Makes one update and measures how its gradient travelled through time.

    The same backward pass serves both: the update keeps every bit of `train_step`'s.

    Args:
        state: As in `train_step`.
        batch: As in `train_step`.
        key: As in `train_step`.
        objective: As in `train_step`.
        probes: From `seqjax.make_probes` with the cell of the model.
        axis_name: As in `train_step`; `probes` are spread like the batch.

    Returns:
        The next state and the metrics of `train_step`; ln ‖∂L/∂carryₜ‖ of every
        sequence and carry part, leaves `[batch, time+1]`; and the gradient that the
        optimiser was given, before clipping. L is batch size times the loss without
        any penalty, so that the values do not depend on how many sequences share the
        batch.

    Example:
        >>> import jax
        >>> from seqjax import cells, make_probes, models, tasks, training
        >>> task = tasks.adding(length=10)
        >>> batch = tasks.sample_batch(task, jax.random.key(0), batch_size=4)
        >>> cell = cells.gru(task.input_size, 8)
        >>> model = models.Forecaster(cell, task.output_size)
        >>> params = model.init(jax.random.key(1), batch.inputs)["params"]
        >>> state = TrainState.create(
        ...     apply_fn=model.apply,
        ...     params=params,
        ...     tx=training.make_optimizer("adam", 1e-3),
        ... )
        >>> objective = make_objective(task.kind, task.metric)
        >>> probes = make_probes(cell, params["cell"], (4,), num_steps=10)
        >>> state, metrics, log_norms, gradients = probe_train_step(
        ...     state, batch, jax.random.key(2), objective, probes
        ... )
        >>> log_norms.hidden.shape, sorted(gradients)
        ((4, 11), ['cell', 'readout'])
    """
    loss_fn = functools.partial(_loss, state, batch, key, objective, axis_name)
    values, (gradients, log_norms) = jax.value_and_grad(loss_fn, (0, 1), has_aux=True)(
        state.params, probes
    )
    num_devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
    batch_size = num_devices * batch.mask.shape[0]
    log_norms = jax.tree.map(lambda a: a + math.log(batch_size), log_norms)
    gradients, metrics = _minimised(
        state, batch, objective, axis_name, values, gradients
    )
    return _update(state, objective, gradients), metrics, log_norms, gradients


def eval_step(
    state: TrainState, batch: Example, objective: Objective
) -> dict[str, Sums]:
    """Measures a batch without dropout, in sums that add over batches.

    Args:
        state: As in `train_step`.
        batch: Leaves with a leading batch axis.
        objective: What to measure.

    Returns:
        "loss" and "metric" as `Sums`; add those of all batches, then take
        `seqjax.losses.mean`.

    Example:
        >>> import jax
        >>> from seqjax import cells, losses, models, tasks, training
        >>> task = tasks.parity(length=10)
        >>> batch = tasks.sample_batch(task, jax.random.key(0), batch_size=4)
        >>> model = models.SequenceClassifier(cells.gru(1, 8), task.output_size)
        >>> state = TrainState.create(
        ...     apply_fn=model.apply,
        ...     params=model.init(jax.random.key(1), batch.inputs)["params"],
        ...     tx=training.make_optimizer("adam", 1e-3),
        ... )
        >>> sums = eval_step(state, batch, make_objective(task.kind, task.metric))
        >>> print(sums["metric"].weight, losses.mean(sums["loss"]).shape)
        4.0 ()
    """
    _, outputs = state.apply_fn({"params": state.params}, batch.inputs, batch.length)
    return {
        "loss": objective.loss(outputs, batch.targets, batch.mask),
        "metric": objective.metric(outputs, batch.targets, batch.scored),
    }


def _loss(
    state: TrainState,
    batch: Example,
    key: Key,
    objective: Objective,
    axis_name: str | None,
    params: PyTree,
    probes: PyTree | None = None,
) -> tuple[Array, Array]:
    if axis_name is not None:
        key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
    _, outputs = state.apply_fn(
        {"params": params},
        batch.inputs,
        batch.length,
        probes=probes,
        deterministic=False,
        rngs={"dropout": key},
    )
    sums = (
        objective.loss(outputs, batch.targets, batch.mask),
        objective.metric(outputs, batch.targets, batch.scored),
    )
    if axis_name is not None:
        # Totals and weights apart: devices may hold masks of different weight.
        sums = jax.lax.psum(sums, axis_name)
    loss, metric = map(mean, sums)
    return loss, metric


def _minimised(
    state: TrainState,
    batch: Example,
    objective: Objective,
    axis_name: str | None,
    values: tuple[Array, Array],
    gradients: PyTree,
) -> tuple[PyTree, dict[str, Array]]:
    """The gradient of share · loss + penalty, given that of the loss; and metrics."""
    loss, metric = values
    metrics = {"loss": loss, "metric": metric}
    if (penalty := objective.penalty) is not None:

        def penalty_of(params: PyTree) -> tuple[Array, Array]:
            values = penalty(params, batch, jnp.asarray(state.step))
            return values if axis_name is None else jax.lax.pmean(values, axis_name)

        (value, share), own = jax.value_and_grad(penalty_of, has_aux=True)(state.params)
        gradients = jax.tree.map(lambda g, p: share * g + p, gradients, own)
        metrics["penalty"] = value
    return gradients, metrics | {"gradient_norm": norm(gradients)}


def _update(state: TrainState, objective: Objective, gradients: PyTree) -> TrainState:
    state = state.apply_gradients(grads=gradients)
    if objective.constraint is None:
        return state
    return state.replace(params=objective.constraint(state.params))
