"""How a task is learnt: curves of several runs beside each other."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import ArrayLike

from experiments.pictures import style

_DASHES = ((0, (5, 3)), ":", (0, (5, 2, 1, 2)))  # of marked heights, at most three


class Curve(NamedTuple):
    """One quantity over training.

    Attributes:
      steps: training steps, `[point]`.
      values: `[point]`.
    """

    steps: ArrayLike
    values: ArrayLike


class Panel(NamedTuple):
    """One quantity of all runs.

    Attributes:
      label: of the vertical axis, with its unit.
      curves: by name, one per seed; a name has one look in all panels.
      lines: heights that are marked, by what they are.
      log: whether the axis is logarithmic.
    """

    label: str
    curves: Mapping[str, Sequence[Curve]]
    lines: Mapping[str, float]
    log: bool = False


@style.styled
def draw_learning(panels: Sequence[Panel]) -> Figure:
    """Draws panels above each other, over one axis of training steps.

    Args:
      panels: from the top down.
    """
    height = 0.9 + (3.6 if len(panels) == 1 else 2.4 * len(panels))
    figure = Figure(figsize=(style.WIDTH, height), layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    order = {name: None for panel in panels for name in panel.curves}
    looks = {name: style.line_style(index) for index, name in enumerate(order)}
    marked = dict.fromkeys(name for panel in panels for name in panel.lines)
    dashes = dict(zip(marked, _DASHES, strict=False))
    for axes, panel in zip(grid, panels, strict=True):
        for name, curves in panel.curves.items():
            for curve in curves:
                axes.plot(*_finite(curve), **looks[name], label=name)
        for name, level in panel.lines.items():
            axes.axhline(level, color="black", lw=1.2, ls=dashes[name], label=name)
        axes.set_ylabel(panel.label)
        if panel.log:
            axes.set_yscale("log")
        axes.margins(x=0.02)
    grid[-1].set_xlabel("training step")
    grid[-1].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    grid[-1].xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    style.key_above(figure)
    return figure


def _finite(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    steps, values = (np.asarray(part, float) for part in curve)
    known = np.isfinite(values)
    return steps[known], values[known]
