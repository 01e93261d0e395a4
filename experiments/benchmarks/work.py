"""One piece of work, as a function to time and as a compiled program to look into."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.benchmarks.options import Shape

PyTree = Any
Loss = Callable[[jax.Array, jax.Array], jax.Array]


class Model(NamedTuple):
    """A recurrent layer of a framework that runs on JAX.

    Attributes:
      params: pytree of float32 arrays.
      apply: `(params, xs) -> (final, ys)` with xs `[batch, time, input]`, the hidden
        state after the last step `[batch, hidden]`, and ys `[batch, time, hidden]`.
      mesh: devices over whose axis `batch` the batch is spread; None for one device.
    """

    params: PyTree
    apply: Callable[[PyTree, jax.Array], tuple[jax.Array, jax.Array]]
    mesh: Mesh | None = None


class Work(NamedTuple):
    """One pass of one framework at one shape.

    Attributes:
      run: does the work once, and returns when it is done.
      num_params: entries of all parameters.
      output_shape: shape of the outputs, `[batch, time, hidden]`.
      compiled: how it was compiled; None for a framework that does not compile.
    """

    run: Callable[[], object]
    num_params: int
    output_shape: tuple[int, ...]
    compiled: "Compiled | None"


class Compiled(NamedTuple):
    """A compiled program.

    Attributes:
      program: to be called with `(params, xs)`.
      seconds: time that lowering and compiling took.
      temporaries: bytes that the compiler plans beside arguments and results.
      arguments: bytes of params and xs.
    """

    program: Callable[..., Any]
    seconds: float
    temporaries: int
    arguments: int


def mean_squares(final: jax.Array, ys: jax.Array) -> jax.Array:
    """The mean of the squares of all outputs."""
    return jnp.mean(jnp.square(ys))


def final_mean_squares(final: jax.Array, ys: jax.Array) -> jax.Array:
    """The mean of the squares of the hidden state after the last step."""
    return jnp.mean(jnp.square(final))


LOSSES: Mapping[str, Loss] = {
    "all outputs": mean_squares,
    "final state": final_mean_squares,
}


def inputs(shape: Shape) -> np.ndarray:
    """Returns the same normal draws for everybody, float32 `[batch, time, input]`."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape[:3], dtype=np.float32)


def compile_pass(
    model: Model, shape: Shape, pass_name: str, loss: Loss = mean_squares
) -> Compiled:
    """Compiles a pass; needs no inputs, only their shape.

    Args:
      model: the layer.
      shape: size of the inputs.
      pass_name: `forward` for the loss, `backward` for the loss and its gradient with
        respect to the parameters.
      loss: of the final hidden state and the outputs.

    Raises:
      RuntimeError: the compiler does not tell how much memory it plans.
    """

    def value(params: PyTree, xs: jax.Array) -> jax.Array:
        return loss(*model.apply(params, xs))

    if model.mesh is not None:
        value = spread(value, model.mesh)
    function = value if pass_name == "forward" else jax.value_and_grad(value)
    begin = time.perf_counter()
    program = jax.jit(function).lower(*_arguments(model, shape)).compile()
    seconds = time.perf_counter() - begin
    memory = program.memory_analysis()
    if memory is None:
        raise RuntimeError("expected a compiler that tells its memory, as XLA:CPU does")
    return Compiled(
        program, seconds, memory.temp_size_in_bytes, memory.argument_size_in_bytes
    )


def spread(value: Callable[..., jax.Array], mesh: Mesh) -> Callable[..., jax.Array]:
    """Spreads a mean over the batch over the devices of a mesh.

    Args:
      value: `(params, xs) -> loss`, a mean over the batch.
      mesh: its one axis is `batch`.

    Returns:
      The same function; each device has all parameters and a share of the batch.
    """

    def mean(params: PyTree, xs: jax.Array) -> jax.Array:
        return jax.lax.pmean(value(params, xs), "batch")

    return jax.shard_map(
        mean,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec("batch")),
        out_specs=PartitionSpec(),
    )


def jax_work(
    model: Model, shape: Shape, pass_name: str, loss: Loss = mean_squares
) -> Work:
    """Returns a pass of a JAX framework, compiled and with its inputs in place."""
    compiled = compile_pass(model, shape, pass_name, loss)
    xs = jnp.asarray(inputs(shape))
    _, ys = jax.eval_shape(model.apply, model.params, xs)
    params = model.params
    if model.mesh is not None:
        params = jax.device_put(params, NamedSharding(model.mesh, PartitionSpec()))
        xs = jax.device_put(xs, NamedSharding(model.mesh, PartitionSpec("batch")))
    return Work(
        run=lambda: jax.block_until_ready(compiled.program(params, xs)),
        num_params=sum(leaf.size for leaf in jax.tree.leaves(params)),
        output_shape=ys.shape,
        compiled=compiled,
    )


def _arguments(model: Model, shape: Shape) -> tuple[PyTree, jax.ShapeDtypeStruct]:
    """The shapes of params and inputs, with their places where there is a mesh."""

    def describe(spec: PartitionSpec, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        place = None if model.mesh is None else NamedSharding(model.mesh, spec)
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=place)

    params = jax.tree.map(
        lambda leaf: describe(PartitionSpec(), leaf.shape), model.params
    )
    return params, describe(PartitionSpec("batch"), shape[:3])
