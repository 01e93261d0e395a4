"""Argument checks that say what was expected, what came, and what to do."""

import difflib
import math
import numbers
from collections.abc import Iterable


def check_positive(**sizes: object) -> None:
    """Requires positive whole numbers.

    Raises:
        ValueError: If a value is not an int of at least 1.

    Example:
        >>> check_positive(hidden_size=0)
        Traceback (most recent call last):
        ValueError: hidden_size: expected a whole number >= 1, got 0
    """
    for name, value in sizes.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, numbers.Integral)
            or value < 1
        ):
            raise ValueError(f"{name}: expected a whole number >= 1, got {value!r}")


def check_rate(**rates: float) -> None:
    """Requires probabilities below 1, as dropout rates are.

    Raises:
        ValueError: If a value is not in [0, 1).

    Example:
        >>> check_rate(rate=1.5)
        Traceback (most recent call last):
        ValueError: rate: expected a probability in [0, 1), got 1.5
    """
    for name, value in rates.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name}: expected a probability in [0, 1), got {value!r}")


def check_finite(**values: float) -> None:
    """Requires finite numbers.

    Raises:
        ValueError: If a value is infinite or not a number.

    Example:
        >>> check_finite(gain=float("nan"))
        Traceback (most recent call last):
        ValueError: gain: expected a finite number, got nan
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{name}: expected a finite number, got {value!r}")


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Requires one of the given names, and suggests the nearest one.

    Raises:
        ValueError: If `value` is not among `choices`.

    Example:
        >>> check_choice("merge", "concta", ("concat", "sum"))
        Traceback (most recent call last):
        ValueError: merge: expected one of concat, sum, got 'concta' (did you mean \
'concat'?)
    """
    choices = list(choices)
    if value in choices:
        return
    near = difflib.get_close_matches(str(value), choices, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(
        f"{name}: expected one of {', '.join(choices)}, got {value!r}{hint}"
    )
