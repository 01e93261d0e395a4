"""The `Cell` record and its contract, and nothing else.

A recurrent cell is three pure functions:

- `init(key) -> params`: the same key gives the same params.
- `initial_carry(params) -> carry`: takes params, so a learned start needs no new API.
- `step(params, carry, x) -> (carry, y)`: one time step of one sequence, no batch axis,
  no randomness. The carry that comes out has the structure, shapes and dtypes of the
  carry that went in. `functools.partial(cell.step, params)` is a scan body as it is.

Whatever else a cell declares (`affine`, `noise`, `sequence`, `last`) lets `unroll` do
more or do it faster, and is never needed to be correct.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import jax.numpy as jnp

from seqjax.array_types import Array, DType, Key, PyTree
from seqjax.made import Made

Params = TypeVar("Params")
Carry = TypeVar("Carry")

Step = Callable[[Any, Any, Any], tuple[Any, Any]]


class NoStepError(ValueError):
    """Raised by the step of a cell that is run over whole sequences alone."""


class AffineParams(NamedTuple):
    """The parameters of an affine cell, sorted by the part that uses them.

    Attributes:
        kernel: W, `[input, units]`.
        bias: b, `[units]`, or None.
        recurrent_kernel: R, `[hidden, recurrent_units]`.
        rest: Pytree of whatever the rest of the step needs.
    """

    kernel: Array
    bias: Array | None
    recurrent_kernel: Array
    rest: PyTree


@dataclasses.dataclass(frozen=True)
class Affine:
    """The declared structure of a cell whose carry and input enter by products.

    One step is  u = x W + b,  v = h R,  (carry, y) = rest(params.rest, u, v, carry),
    where h is one array of the carry. `rest` is any per-example function.

    Attributes:
        split: Sorts the cell's params into `AffineParams`.
        hidden: Picks h, `[hidden]`, out of the carry.
        rest: `(rest_params, u, v, carry) -> (carry, y)`.
    """

    split: Callable[[Any], AffineParams]
    hidden: Callable[[Any], Array]
    rest: Callable[[Any, Array, Array, Any], tuple[Any, Any]]

    def step(self, params: PyTree, carry: PyTree, x: Array) -> tuple[PyTree, PyTree]:
        """One time step, derived from the declared parts."""
        return self.step_of_parts(self.split(params), carry, x)

    def step_of_parts(
        self,
        parts: AffineParams,
        carry: PyTree,
        x: Array,
        *,
        product_dtype: DType | None = None,
    ) -> tuple[PyTree, PyTree]:
        """The same with params that are split already; `product_dtype` as `product`."""
        u = input_map(parts, x, product_dtype)
        v = product(self.hidden(carry), parts.recurrent_kernel, product_dtype)
        return self.rest(parts.rest, u, v, carry)


def input_map(params: AffineParams, x: Array, dtype: DType | None) -> Array:
    """Returns u = x W + b.

    Args:
        params: Parameters of an affine cell, split.
        x: `[input]` or `[rows, input]`.
        dtype: As in `product`.

    Raises:
        ValueError: If x does not have the features that W takes.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.gru(1, 2)
        >>> params = cell.affine.split(cell.init(jax.random.key(0)))
        >>> input_map(params, jnp.ones((3, 1)), None).shape
        (3, 6)
    """
    kernel, bias, recurrent_kernel, _ = params
    if x.ndim == 0 or x.shape[-1] != kernel.shape[0]:
        raise ValueError(
            f"x: expected {kernel.shape[0]} features in the last axis, the rows of the "
            f"cell's input kernel, got shape {list(x.shape)}; make the cell with that "
            "input_size or change the data"
        )
    if x.shape[-1] == 1 and kernel.shape[1] > recurrent_kernel.shape[0]:
        # XLA takes a product with one feature for a multiplication, fuses it into all
        # the gates that read a part of u, and no longer vectorises them. On CPUs a zero
        # feature beside it makes forward passes of LSTM and GRU 2 to 4 times faster.
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 1)])
        kernel = jnp.pad(kernel, [(0, 1), (0, 0)])
    u = product(x, kernel, dtype)
    return u if bias is None else u + bias.reshape((1,) * (u.ndim - 1) + (-1,))


def product(a: Array, b: Array, dtype: DType | None) -> Array:
    """Multiplies matrices, operands rounded to `dtype`, sums in their own.

    Args:
        a: `[..., rows, inner]`, or `[inner]`.
        b: `[inner, columns]`.
        dtype: What operands are rounded to; None rounds none.

    Example:
        >>> import jax.numpy as jnp
        >>> a, b = jnp.full((1, 2), 1.001), jnp.ones((2, 1))
        >>> print(product(a, b, None), product(a, b, jnp.bfloat16))
        [[2.002]] [[2.]]
    """
    if dtype is None:
        return a @ b
    return jnp.matmul(
        a.astype(dtype),
        b.astype(dtype),
        preferred_element_type=jnp.result_type(a, b),
    )


@dataclasses.dataclass(frozen=True)
class Noise:
    """What a stochastic cell does while it trains; `Cell.step` is its test-time form.

    Attributes:
        sample: `(key, params, x, num_steps) -> (shared, per_step)` draws all masks of
            one sequence before the scan. `x` is one step's input as a
            `jax.ShapeDtypeStruct` pytree; leaves of `per_step` have a leading time
            axis, leaves of `shared` hold for the whole sequence.
        step: `(params, carry, x, (shared, per_step)) -> (carry, y)`.
    """

    sample: Callable[[Key, Any, PyTree, int], tuple[PyTree, PyTree]]
    step: Callable[[Any, Any, Any, tuple[PyTree, PyTree]], tuple[Any, Any]]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Cell(Made, Generic[Params, Carry]):
    """A recurrent cell: a frozen record of pure functions.

    Anyone makes a cell by writing three functions. A cell made by a function under
    `seqjax.factory` prints, compares and hashes by the call that made it.

    Attributes:
        init: `(key) -> params`.
        initial_carry: `(params) -> carry`, one sequence.
        step: `(params, carry, x) -> (carry, y)`, one step of one sequence.
        input_ndim: Rank of one step's x; a pytree prefix of x.
        affine: Structure that faster backward passes use, or None.
        noise: Training-time randomness, or None.
        sequence: For cells made of whole unrolls (stacks, both directions):
            `(run, params, start, xs, key) -> (carry, ys)`; see `seqjax.combinators`.
            None for a cell that is unrolled by its step.
        output: `(carry) -> y` for a cell whose y is a part of its carry, or None.
        last: `(ys, first, final) -> y` picks the output that has seen the whole
            sequence, where `first` and `final` take the first and the last real step;
            None stands for `final`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> leak = Cell(  # y is a leaky sum of x
        ...     init=lambda key: jnp.asarray(0.5),
        ...     initial_carry=lambda params: jnp.zeros(1),
        ...     step=lambda params, carry, x: (params * carry + x,) * 2,
        ... )
        >>> params = leak.init(jax.random.key(0))
        >>> carry, y = leak.step(params, jnp.ones(1), jnp.ones(1))
        >>> print(y)
        [1.5]
    """

    init: Callable[[Key], Params]
    initial_carry: Callable[[Params], Carry]
    step: Callable[[Params, Carry, Any], tuple[Carry, Any]]
    input_ndim: PyTree = 1
    affine: Affine | None = None
    noise: Noise | None = None
    sequence: Callable[..., tuple[Carry, Any]] | None = None
    output: Callable[[Carry], Any] | None = None
    last: Callable[..., Any] | None = None
