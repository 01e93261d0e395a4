"""What each check lets through, and what it says about the rest."""

import math
import re

import pytest

from seqjax.checks import check_choice, check_finite, check_positive, check_rate


def _all(message: str) -> str:
    return f"^{re.escape(message)}$"


def test_check_positive_passes_whole_numbers():
    check_positive(a=1, b=10**9)


@pytest.mark.parametrize("value", [0, -3, 1.0, 2.5, True, "4", None])
def test_check_positive_refuses(value):
    message = f"hidden_size: expected a whole number >= 1, got {value!r}"
    with pytest.raises(ValueError, match=_all(message)):
        check_positive(fine=1, hidden_size=value)


@pytest.mark.parametrize("value", [0, 0.0, 0.5, 0.999])
def test_check_rate_passes(value):
    check_rate(rate=value)


@pytest.mark.parametrize("value", [-0.1, 1.0, 1, 1.5, math.nan, math.inf])
def test_check_rate_refuses(value):
    message = f"rate: expected a probability in [0, 1), got {value!r}"
    with pytest.raises(ValueError, match=_all(message)):
        check_rate(fine=0.5, rate=value)


@pytest.mark.parametrize("value", [0, -3, 1e308])
def test_check_finite_passes(value):
    check_finite(gain=value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_check_finite_refuses(value):
    message = f"gain: expected a finite number, got {value!r}"
    with pytest.raises(ValueError, match=_all(message)):
        check_finite(fine=0.0, gain=value)


def test_check_choice_passes_any_iterable_of_names():
    check_choice("merge", "sum", ("concat", "sum"))
    check_choice("merge", "sum", {"concat": 1, "sum": 2})
    check_choice("merge", "sum", (name for name in ("concat", "sum")))


@pytest.mark.parametrize(
    ("value", "ending"),
    [
        ("concta", "got 'concta' (did you mean 'concat'?)"),
        ("xyz", "got 'xyz'"),
        (None, "got None"),
        (["sum"], "got ['sum'] (did you mean 'sum'?)"),
    ],
)
def test_check_choice_refuses_and_suggests(value, ending):
    message = f"merge: expected one of concat, sum, {ending}"
    with pytest.raises(ValueError, match=_all(message)):
        check_choice("merge", value, ("concat", "sum"))
