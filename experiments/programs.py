"""The compiled programs of a run: all jit of the launchers happens here.

They are compiled ahead of the first step, for the shapes of the run, so that nothing is
traced twice and the time per step does not include compilation.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.training.train_state import TrainState
from jax.stages import Compiled

from experiments.checkpoints import leaves_by_name
from experiments.factories import build_model, build_optimizer, build_schedule
from experiments.logs import QUANTILES
from experiments.options import Options
from experiments.sources import Source, first_examples, purpose_key
from seqjax.array_types import Array, PyTree
from seqjax.gradients import decay_rate
from seqjax.losses import Sums
from seqjax.training import (
    eval_step,
    make_objective,
    probe_train_step,
    train_step,
)
from seqjax.unroll import make_probes


class GradientFlow(NamedTuple):
    """How the gradient of one batch travelled through time.

    Attributes:
      log_norms: `[part, 3, time+1]`, quantiles over the samples of ln ‖dL/d carry_t‖;
        the last part is the norm over all parts together.
      decay_rate: slope of the median of that last part, per step of lag.
      half_life: steps; NaN where the rate is not settled.
    """

    log_norms: Array
    decay_rate: Array
    half_life: Array


class Programs:
    """Everything that a run executes on the device.

    Attributes:
      source: the task.
      model: the Flax module.
      state_shape: structure, shapes and dtypes of the state.
      parts: names of the parts of the carry, the last one `joint`.
    """

    def __init__(self, options: Options, source: Source) -> None:
        """Builds model and optimiser; compiles nothing.

        Args:
          options: the flags of the run.
          source: the task.

        Raises:
          ValueError: the flags do not make a model.
        """
        self.source = source
        self.model = build_model(options, source)
        self._schedule = build_schedule(options)
        self._optimizer = build_optimizer(options, self._schedule)
        self._objective = make_objective(source.kind, source.metric)
        self._seed = options.seed
        self._raw = source.fetch("train", 0)
        self.state_shape = jax.eval_shape(self._initial_state)
        probes = jax.eval_shape(self._probes, self.state_shape.params)
        self.parts = (*leaves_by_name(probes), "joint")

    def initial_state(self) -> TrainState:
        """Returns the state before the first update, its leaves NumPy arrays."""
        return jax.tree.map(np.asarray, jax.jit(self._initial_state)())

    def compile(self, *, probed: bool) -> None:
        """Compiles what a run needs, with the probed update or without."""
        for name in (
            "update",
            "evaluate_batch",
            *(["probed_update"] if probed else []),
        ):
            getattr(self, name)

    def learning_rate(self, updates: int) -> float:
        """Returns the learning rate after a number of updates."""
        return float(np.asarray(self._schedule(updates)))

    @functools.cached_property
    def update(self) -> Compiled:
        """`(state, raw) -> (state, metrics)`; uses up the state that goes in."""
        program = jax.jit(self._update, donate_argnums=0)
        return program.lower(self.state_shape, self._raw).compile()

    @functools.cached_property
    def probed_update(self) -> Compiled:
        """`update`, to the bit, that also returns a `GradientFlow`."""
        program = jax.jit(self._probed_update, donate_argnums=0)
        return program.lower(self.state_shape, self._raw).compile()

    @functools.cached_property
    def evaluate_batch(self) -> Compiled:
        """`(state, raw, count) -> sums` over the first `count` sequences."""
        program = jax.jit(self._evaluate_batch)
        return program.lower(self.state_shape, self._raw, np.int32(0)).compile()

    def evaluate(
        self,
        state: TrainState,
        split: str,
        size: int,
        *,
        stopped: Callable[[], bool] = lambda: False,
    ) -> dict[str, float] | None:
        """Returns loss and metric on a fixed evaluation set.

        Args:
          state: holds the parameters.
          split: train, valid or test.
          size: sequences of the set; 0 takes all of a split that has an end.
          stopped: asked before every batch whether to give up.

        Returns:
          `loss` and the metric under its name; None where it gave up.
        """
        totals = {"loss": [0.0, 0.0], "metric": [0.0, 0.0]}
        for raw, count in self.source.eval_batches(split, size):
            if stopped():
                return None
            sums = jax.device_get(self.evaluate_batch(state, raw, np.int32(count)))
            for name, total in totals.items():
                total[0] += float(sums[name].total)
                total[1] += float(sums[name].weight)
        values = {name: total / weight for name, (total, weight) in totals.items()}
        return {"loss": values["loss"], self.source.metric: values["metric"]}

    def _initial_state(self) -> TrainState:
        example = self.source.expand(self._raw)
        key = purpose_key(self._seed, "params")
        variables = self.model.init(key, example.inputs, example.length)
        return TrainState.create(
            apply_fn=self.model.apply, params=variables["params"], tx=self._optimizer
        )

    def _probes(self, params: PyTree) -> PyTree:
        cell_params, batch_size = params["cell"], self.source.batch_size
        return make_probes(
            self.model.cell, cell_params, (batch_size,), self.source.length
        )

    def _noise_key(self, state: TrainState) -> Array:
        return jax.random.fold_in(purpose_key(self._seed, "noise"), state.step)

    def _update(self, state: TrainState, raw: Any) -> tuple[TrainState, dict]:
        example = self.source.expand(raw)
        return train_step(state, example, self._noise_key(state), self._objective)

    def _probed_update(
        self, state: TrainState, raw: Any
    ) -> tuple[TrainState, dict, GradientFlow]:
        example = self.source.expand(raw)
        state, metrics, log_norms = probe_train_step(
            state,
            example,
            self._noise_key(state),
            self._objective,
            self._probes(state.params),
        )
        return state, metrics, summarise(log_norms, example.length)

    def _evaluate_batch(
        self, state: TrainState, raw: Any, count: Array
    ) -> dict[str, Sums]:
        example = first_examples(self.source.expand(raw), count)
        return eval_step(state, example, self._objective)


def summarise(log_norms: PyTree, lengths: Array) -> GradientFlow:
    """Reduces the curves of all samples to quantiles and one rate.

    Args:
      log_norms: leaves `[batch, time+1]`, one per part of the carry.
      lengths: real steps, `[batch]`.
    """
    parts = jnp.stack(jax.tree.leaves(log_norms))
    joint = jax.nn.logsumexp(2 * parts, axis=0) / 2
    curves = jnp.concatenate([parts, joint[None]])
    # Sorting, not interpolating, since -inf may stand beside a number.
    quantiles = jnp.quantile(curves, jnp.asarray(QUANTILES), axis=1, method="nearest")
    times = jnp.arange(curves.shape[-1], dtype=lengths.dtype)
    # After its end a sequence holds its carry, and the gradient does not change.
    real = times <= jnp.min(lengths)
    median = quantiles[QUANTILES.index(0.5), -1]
    fit = decay_rate(median, mask=real)
    return GradientFlow(jnp.swapaxes(quantiles, 0, 1), fit.rate, fit.half_life)


def parameter_counts(params: PyTree) -> dict[str, int]:
    """Returns the number of parameters of every top-level part of a model."""
    return {
        name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(part))
        for name, part in params.items()
    }
