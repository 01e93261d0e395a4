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
import functools
import inspect
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

from seqjax.array_types import Array, Key, PyTree

Params = TypeVar("Params")
Carry = TypeVar("Carry")
P = ParamSpec("P")

Step = Callable[[Any, Any, Any], tuple[Any, Any]]


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
        kernel, bias, recurrent_kernel, rest = self.split(params)
        u = x @ kernel if bias is None else x @ kernel + bias
        return self.rest(rest, u, self.hidden(carry) @ recurrent_kernel, carry)


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
class Cell(Generic[Params, Carry]):
    """A recurrent cell: a frozen record of pure functions.

    Anyone makes a cell by writing three functions. Cells made by a function under
    `@factory` print as the call that made them, and compare and hash equal when their
    arguments are equal, so that a rebuilt cell passed as a static argument does not
    trace again.

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
        made_by: The function under `@factory` that made it, or None.
        arguments: Its arguments as `(name, value)` pairs, defaults left out.

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
    made_by: Callable[..., Any] | None = None
    arguments: tuple[tuple[str, Any], ...] = ()

    def _identity(self) -> tuple[Any, ...]:
        if self.made_by is None:
            return (self.init, self.initial_carry, self.step)
        return (self.made_by, self.arguments)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cell):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        if self.made_by is None:
            return f"Cell(step={_readable(self.step)})"
        parts = (
            _readable(value)
            if name == "" or isinstance(value, Cell)
            else f"{name}={_readable(value)}"
            for name, value in self.arguments
        )
        return f"{self.made_by.__name__}({', '.join(parts)})"


def _readable(value: object) -> str:
    is_function = callable(value) and not isinstance(value, Cell)
    return getattr(value, "__name__", repr(value)) if is_function else repr(value)


def factory(make: Callable[P, Cell]) -> Callable[P, Cell]:
    """Stamps the cells a function makes with its name and arguments.

    Args:
        make: Function that returns a `Cell`. Its arguments must be hashable.

    Returns:
        The same function; its cells print, compare and hash by the call.

    Example:
        >>> import jax.numpy as jnp
        >>> @factory
        ... def leak(size, rate=0.5):
        ...     return Cell(
        ...         init=lambda key: (),
        ...         initial_carry=lambda params: jnp.zeros(size),
        ...         step=lambda params, carry, x: (rate * carry + x,) * 2,
        ...     )
        >>> leak(3), leak(3) == leak(size=3), leak(3) == leak(4)
        (leak(size=3), True, False)
    """
    signature = inspect.signature(make)

    @functools.wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Cell:
        bound = signature.bind(*args, **kwargs)
        arguments: list[tuple[str, Any]] = []
        for name, value in bound.arguments.items():
            parameter = signature.parameters[name]
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                arguments += [("", item) for item in value]
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                arguments += sorted(value.items())
            elif not _same(value, parameter.default):
                arguments.append((name, value))
        cell = make(*args, **kwargs)
        return dataclasses.replace(cell, made_by=make, arguments=tuple(arguments))

    return made


def _same(value: object, default: object) -> bool:
    # 1 == 1.0 == True, but they print and may act differently.
    return type(value) is type(default) and value == default
