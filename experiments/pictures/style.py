"""How every picture looks: sizes, colours, and the floors of float32.

Colours keep apart for the colour-blind and in grey: what is compared differs in
lightness, line style or marker too.
"""

import contextlib
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike

_Arguments = ParamSpec("_Arguments")

DPI = 150
WIDTH = 8.0  # inches: 1200 pixels
SETTINGS: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.6,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "legend.fontsize": 9,
}
BLACK, VERMILION, BLUE, SKY = "#000000", "#d55e00", "#08306b", "#56b4e9"
GREEN, PINK, ORANGE, GREY = "#009e73", "#cc79a7", "#e69f00", "#7f7f7f"
ZERO_COLOUR = "#b3b3b3"  # of entries that are exactly zero
# Neighbours differ in lightness; no two share colour, dashes or marker.
_SERIES: tuple[tuple[str, Any, str], ...] = (
    (BLUE, "-", "o"),
    (ORANGE, (0, (5, 1.5)), "s"),
    (VERMILION, (0, (4, 1.5, 1, 1.5)), "^"),
    (SKY, "-", "D"),
    (BLACK, (0, (1, 1.2)), "v"),
    (GREEN, (0, (7, 1.5, 1, 1.5, 1, 1.5)), "P"),
    (PINK, (0, (2.5, 1)), "X"),
    (GREY, (0, (10, 2)), "*"),
)

LN10 = math.log(10)
FLOAT32_FLOOR = math.log(np.finfo(np.float32).tiny)
"""ln of the smallest normal float32, 1.2e-38; below it an entry reads 0 on a CPU."""
NORM_FLOOR = FLOAT32_FLOOR / 2
"""ln √tiny, 1.1e-19: below it a norm that sums squares in float32 reads 0."""
_NEAR_FLOOR = 20  # nats above a floor from which on it is drawn


def context() -> contextlib.AbstractContextManager[None]:
    """Returns a context in which this style holds.

    Ticks are made when a figure is drawn, so it must hold while saving too.
    """
    return matplotlib.rc_context(SETTINGS)


def styled(draw: Callable[_Arguments, Figure]) -> Callable[_Arguments, Figure]:
    """Makes a function draw its figure in this style."""

    @functools.wraps(draw)
    def in_style(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Figure:
        with context():
            return draw(*args, **kwargs)

    return in_style


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure as PNG; the same figure gives the same bytes.

    Args:
      figure: made by a function that is `styled`.
      path: the file, replaced where it exists.
    """
    with context():
        # The version of matplotlib would change the bytes.
        figure.savefig(path, dpi=DPI, metadata={"Software": None})
    return path


def line_style(index: int) -> dict[str, Any]:
    """Returns colour and dashes of the series `index`; they repeat after eight."""
    colour, dashes, _ = _SERIES[index % len(_SERIES)]
    return {"color": colour, "linestyle": dashes, "linewidth": 1.6}


def marker_style(index: int) -> dict[str, Any]:
    """Returns colour and marker of the series `index`, without a line."""
    colour, _, marker = _SERIES[index % len(_SERIES)]
    return {"color": colour, "marker": marker, "markersize": 5, "linestyle": "none"}


def near(floor: float, log_values: np.ndarray) -> bool:
    """Says whether finite values come within 20 nats of a floor, or below it."""
    finite = log_values[np.isfinite(log_values)]
    return bool(finite.min(initial=np.inf) < floor + _NEAR_FLOOR)


def to_powers(nats: ArrayLike) -> np.ndarray:
    """Turns natural logarithms into decimal ones."""
    return np.asarray(nats) / LN10


def to_nats(powers: ArrayLike) -> np.ndarray:
    """Turns decimal logarithms into natural ones."""
    return np.asarray(powers) * LN10


def add_powers(axes: Axes, label: str) -> None:
    """Adds an axis on the right that reads in powers of ten.

    Args:
      axes: its vertical axis is in nats.
      label: what the right axis is called.
    """
    powers = axes.secondary_yaxis("right", functions=(to_powers, to_nats))
    whole = MaxNLocator(integer=True, nbins=7, min_n_ticks=1)
    powers.yaxis.set_major_locator(whole)
    powers.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"$10^{{{x:.0f}}}$"))
    powers.set_ylabel(label)


def powers_between(low: float, high: float) -> np.ndarray:
    """Returns whole powers of ten, at most eight, between two natural logarithms."""
    least = (high - low) / LN10 / 7
    size = 10 ** max(0, math.floor(math.log10(max(least, 1e-9))))
    every = next(size * digit for digit in (1, 2, 5, 10) if size * digit >= least)
    first, last = math.ceil(low / LN10 / every), math.floor(high / LN10 / every)
    return every * np.arange(first, last + 1)


def key_above(figure: Figure, columns: int = 4) -> None:
    """Puts one key for all panels above them, every name once."""
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    if entries:
        figure.legend(
            list(entries.values()),
            list(entries),
            loc="outside upper center",
            ncols=columns,
            columnspacing=1.3,
        )
