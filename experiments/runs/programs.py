"""The compiled programs of a run: all jit of the launchers happens here.

They are compiled ahead of the first step, for the shapes of the run, so that nothing is
traced twice and the time per step does not include compilation.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax.training.train_state import TrainState
from jax.sharding import NamedSharding
from jax.stages import Compiled

from experiments.runs.checkpoints import leaves_by_name
from experiments.runs.devices import SHARED, SPREAD, make_mesh, spread
from experiments.runs.factories import build_model, build_optimizer, build_schedule
from experiments.runs.flow import (
    GradientFlow,
    LagShares,
    lag_edges,
    lag_shares,
    summarise,
)
from experiments.runs.options import Options
from experiments.runs.remedies import add_remedies
from experiments.runs.sources import Source, first_examples, of_cell, purpose_key
from seqjax.array_types import Array, PyTree
from seqjax.losses import Sums
from seqjax.training import (
    eval_step,
    make_clip,
    make_objective,
    probe_train_step,
    train_step,
)
from seqjax.unroll import make_probes

Shapes: TypeAlias = tuple[tuple[int, ...], ...]


class ByShape:
    """A function of a state and a raw batch, compiled for every shape of the batch.

    Attributes:
      largest: the program for the longest sequences.
    """

    def __init__(self, programs: Mapping[Shapes, Compiled]) -> None:
        """Takes the programs by the shapes of the batch, the longest ones first."""
        self._programs = programs
        self.largest = next(iter(programs.values()))

    def __call__(self, state: TrainState, raw: Any, *arguments: Any) -> Any:
        """Runs the program for the shapes of `raw`."""
        return self._programs[_shapes(raw)](state, raw, *arguments)


def _shapes(raw: Any) -> Shapes:
    return tuple(np.shape(leaf) for leaf in jax.tree.leaves(raw))


class Programs:
    """Everything that a run executes on the device.

    Attributes:
      source: the task.
      model: the Flax module.
      state_shape: structure, shapes and dtypes of the state.
      parts: names of the parts of the carry, the last one `joint`.
      lag_edges: smallest lag of each bucket; () where shares by lag are not measured.
    """

    def __init__(self, options: Options, source: Source) -> None:
        """Builds model and optimiser; compiles nothing.

        Args:
          options: the flags of the run.
          source: the task.

        Raises:
          ValueError: the flags do not make a model.
          Exit: the devices of the flags are not there.
        """
        self.source = source
        self._mesh = make_mesh(options.host_devices)
        self.model = build_model(options, source)
        self._schedule = build_schedule(options)
        self._optimizer = build_optimizer(options, self._schedule)
        self._terminal = source.kind == "forecast" or (
            source.kind == "classify" and options.pooling == "last"
        )
        self._probe_size = min(options.lag_sequences, source.batch_size)
        objective = make_objective(source.kind, source.metric, source.quantiles)
        self._objective = add_remedies(objective, options, self.model)
        self._clip = make_clip(options.clip_norm or None, options.clip_value or None)
        self._seed, self._steps_per_call = options.seed, options.steps_per_call
        self._raw = source.shapes[0]
        self.state_shape = jax.eval_shape(self._initial_state)
        self.parts, self.lag_edges = ("joint",), ()
        params = self.state_shape.params
        if "cell" in params:
            probes = jax.eval_shape(lambda params: self._probes(params, 1), params)
            self.parts = (*leaves_by_name(probes), "joint")
            self.lag_edges = self._lag_edges() if options.lag_sequences else ()

    def initial_state(self) -> TrainState:
        """Returns the state before the first update, its leaves NumPy arrays."""
        return jax.tree.map(np.asarray, jax.jit(self._initial_state)())

    def compile(self, *, probed: bool) -> None:
        """Compiles what a run needs, with the probed update or without."""
        for name in (
            "update" if self._steps_per_call == 1 else "updates",
            "evaluate_batch",
            *(["probed_update"] if probed else []),
            *(["shares_by_lag"] if probed and self.lag_edges else []),
        ):
            getattr(self, name)

    def advance(
        self, state: TrainState, step: int, count: int
    ) -> tuple[TrainState, dict[str, Array]]:
        """Makes the updates `step` to `step + count - 1` in one call.

        Args:
          state: is used up.
          step: number of updates done.
          count: at most `--steps_per_call`.

        Returns:
          The new state, and metrics `[steps_per_call]`, the first `count` of which
          count; scalars where `--steps_per_call` is 1.
        """
        raw = self.source.train_batch(step)
        if self._steps_per_call == 1:
            return self.update(state, raw)
        return self.updates(state, raw, np.int32(count))

    def learning_rate(self, updates: int) -> float:
        """Returns the learning rate after a number of updates."""
        return float(np.asarray(self._schedule(updates)))

    @functools.cached_property
    def update(self) -> "ByShape":
        """`(state, raw) -> (state, metrics)`; uses up the state that goes in."""
        return self._compile(self._update, donate_argnums=0)

    @functools.cached_property
    def updates(self) -> "ByShape":
        """`(state, raw, count) -> (state, metrics)`: `update`, `count` times.

        One program for every count, with the body of `update`: the same bits.
        """
        return self._compile(self._updates, np.int32(0), donate_argnums=0)

    @functools.cached_property
    def probed_update(self) -> "ByShape":
        """`update`, to the bit, that also returns a `GradientFlow`."""
        return self._compile(self._probed_update, donate_argnums=0)

    @functools.cached_property
    def shares_by_lag(self) -> "ByShape":
        """`(state, raw) -> LagShares` of the first few sequences of a batch."""
        return self._compile(self._shares_by_lag, raws=(self.source.probe_batch,))

    def measure_shares(self, state: TrainState) -> LagShares:
        """Returns shares by lag on the first sequences of the validation set."""
        return self.shares_by_lag(state, self.source.probe_batch)

    @functools.cached_property
    def evaluate_batch(self) -> "ByShape":
        """`(state, raw, count) -> sums` over the first `count` sequences."""
        return self._compile(self._evaluate_batch, np.int32(0))

    @functools.cached_property
    def outputs_of_batch(self) -> "ByShape":
        """`(state, raw) -> outputs` of the longest sequences, without dropout."""
        return self._compile(self._outputs, raws=(self.source.probe_batch,))

    def outputs(self, state: TrainState, split: str) -> np.ndarray:
        """Returns the outputs for all sequences of a split, in order.

        Args:
          state: holds the parameters.
          split: train, valid or test, of one bucket.
        """
        parts = [
            np.asarray(self.outputs_of_batch(state, raw))[:count]
            for raw, count in self.source.eval_batches(split, 0)
        ]
        return np.concatenate(parts)

    def _compile(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        raws: Sequence[Any] = (),
        **options: Any,
    ) -> "ByShape":
        """Compiles a function of the state, a raw batch and `arguments`.

        For the shapes of all batches, or those of `raws`.
        """
        if self._mesh is not None:
            # The state stays on all devices; a batch is made where it is needed.
            shared = NamedSharding(self._mesh, SHARED)
            options |= {"in_shardings": shared, "out_shardings": shared}
        program = jax.jit(function, **options)
        return ByShape(
            {
                _shapes(raw): program.lower(self.state_shape, raw, *arguments).compile()
                for raw in raws or self.source.shapes
            }
        )

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

    def _probes(self, params: PyTree, num_steps: int) -> PyTree:
        batch_shape = (self.source.batch_size,)
        return make_probes(self.model.cell, params["cell"], batch_shape, num_steps)

    def _noise_key(self, state: TrainState) -> Array:
        return jax.random.fold_in(purpose_key(self._seed, "noise"), state.step)

    def _update(self, state: TrainState, raw: Any) -> tuple[TrainState, dict]:
        step = spread(
            functools.partial(train_step, objective=self._objective),
            self._mesh,
            (SHARED, SPREAD, SHARED),
            SHARED,
        )
        return step(state, self.source.expand(raw), self._noise_key(state))

    def _updates(
        self, state: TrainState, raw: Any, count: Array
    ) -> tuple[TrainState, dict]:
        advance = self.source.advance
        if advance is None:
            raise ValueError(
                f"steps_per_call: expected 1 for {self.source.name}, whose batches the "
                f"host fetches, got {self._steps_per_call}"
            )

        def one(index: Array, carry: tuple[TrainState, dict]) -> tuple:
            state, rows = carry
            state, row = self._update(state, advance(raw, index))
            return state, jax.tree.map(lambda a, x: a.at[index].set(x), rows, row)

        _, shapes = jax.eval_shape(self._update, state, raw)
        rows = jax.tree.map(
            lambda x: jnp.zeros((self._steps_per_call,), x.dtype), shapes
        )
        return jax.lax.fori_loop(0, count, one, (state, rows))

    def _probed_update(
        self, state: TrainState, raw: Any
    ) -> tuple[TrainState, dict, GradientFlow]:
        def probe(state, example, key, probes, **axis):
            return probe_train_step(
                state, example, key, self._objective, probes, **axis
            )

        example = self.source.expand(raw)
        step = spread(
            probe,
            self._mesh,
            (SHARED, SPREAD, SHARED, SPREAD),
            (SHARED, SHARED, SPREAD, SHARED),
        )
        num_steps = of_cell(example.inputs).shape[1]
        probes = self._probes(state.params, num_steps)
        state, metrics, log_norms, gradients = step(
            state, example, self._noise_key(state), probes
        )
        # As long as the longest batch: a sequence that has ended holds its carry.
        padding = ((0, 0), (0, self.source.length - num_steps))
        log_norms = jax.tree.map(lambda a: jnp.pad(a, padding, "edge"), log_norms)
        clipped, _ = self._clip.update(gradients, self._clip.init(gradients))
        flow = summarise(log_norms, of_cell(example.length), gradients, clipped)
        return state, metrics, flow

    def _lag_edges(self) -> tuple[int, ...]:
        example = jax.eval_shape(self.source.expand, self._raw)
        one = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), example
        )
        return lag_edges(self.model, self.state_shape.params, one)

    def _shares_by_lag(self, state: TrainState, raw: Any) -> LagShares:
        example = self.source.expand(raw)
        few = jax.tree.map(lambda leaf: leaf[: self._probe_size], example)
        return lag_shares(
            self.model,
            state.params,
            self._objective.loss,
            few,
            self.lag_edges,
            terminal=self._terminal,
        )

    def _outputs(self, state: TrainState, raw: Any) -> Array:
        example = self.source.expand(raw)
        variables = {"params": state.params}
        return state.apply_fn(variables, example.inputs, example.length)[1]

    def _evaluate_batch(
        self, state: TrainState, raw: Any, count: Array
    ) -> dict[str, Sums]:
        def measure(state, example, axis_name: str | None = None):
            sums = eval_step(state, example, self._objective)
            return sums if axis_name is None else jax.lax.psum(sums, axis_name)

        example = first_examples(self.source.expand(raw), count)
        step = spread(measure, self._mesh, (SHARED, SPREAD), SHARED)
        return step(state, example)


def parameter_counts(params: PyTree) -> dict[str, int]:
    """Returns the number of parameters of every top-level part of a model."""
    return {
        name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(part))
        for name, part in params.items()
    }
