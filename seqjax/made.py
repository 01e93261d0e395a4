"""Records that know the call which made them."""

import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
Record = TypeVar("Record", bound="Made")


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Made:
    """A frozen record of functions that prints, compares and hashes by its call.

    Two records made by the same function under `@factory` with equal arguments are
    equal, so that a rebuilt one passed as a static argument does not trace again. A
    record made by hand, or by `dataclasses.replace`, compares by its fields.

    Attributes:
        made_by: The function under `@factory` that made it, or None.
        arguments: Its arguments as `(name, value)` pairs, defaults left out.
    """

    made_by: Callable[..., Any] | None = dataclasses.field(init=False, default=None)
    arguments: tuple[tuple[str, Any], ...] = dataclasses.field(init=False, default=())

    @property
    def name(self) -> str:
        """Name of the factory, or of the record type."""
        return (self.made_by or type(self)).__name__

    def _identity(self) -> tuple[Any, ...]:
        if self.made_by is not None:
            return (self.made_by, self.arguments)
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def _functions(self) -> list[tuple[str, Any]]:
        names = [field.name for field in dataclasses.fields(self)]
        return [(n, getattr(self, n)) for n in names if callable(getattr(self, n))]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Made):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        shown = self.arguments if self.made_by else self._functions()
        parts = (
            _readable(value)
            if name == "" or isinstance(value, Made)
            else f"{name}={_readable(value)}"
            for name, value in shown
        )
        return f"{self.name}({', '.join(parts)})"


def factory(make: Callable[P, Record]) -> Callable[P, Record]:
    """Stamps the records that a function makes with its name and arguments.

    Args:
        make: Function that returns a `Cell` or a `Task`. Its arguments must be
            hashable.

    Returns:
        The same function; its records print, compare and hash by the call.

    Example:
        >>> import jax.numpy as jnp
        >>> from seqjax import Cell
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
    def made(*args: P.args, **kwargs: P.kwargs) -> Record:
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
        record = copy.copy(make(*args, **kwargs))
        # Not fields of __init__: a replaced function must not keep the old call.
        object.__setattr__(record, "made_by", make)
        object.__setattr__(record, "arguments", tuple(arguments))
        return record

    return made


def _readable(value: object) -> str:
    is_function = callable(value) and not isinstance(value, Made)
    return getattr(value, "__name__", repr(value)) if is_function else repr(value)


def _same(value: object, default: object) -> bool:
    # 1 == 1.0 == True, but they print and may act differently.
    return type(value) is type(default) and value == default
