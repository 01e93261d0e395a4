"""The run-time type checker of the suite."""

import inspect
from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

# An int is welcome wherever a float is, as in every signature of Python (PEP 484).
_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))
_checked: dict[tuple[str, ...], Callable[..., Any]] = {}


def check(signature_of: Callable[..., Any]) -> Callable[..., Any]:
    """Checks arguments or a result.

    Jaxtyping asks for one function of the same signature, and without a body of its
    own, before and after every call of the real one. A function inside another is
    defined again and again; to compile its check takes milliseconds, once.
    """
    shown = str(inspect.signature(signature_of))
    key = (signature_of.__module__, signature_of.__qualname__, shown)
    if key not in _checked:
        _checked[key] = _beartype(signature_of)
    return _checked[key]
