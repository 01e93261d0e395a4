"""What a norm in float32 can see of a gradient that vanishes."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from experiments.pictures import style

_NAMES = {
    "renormalised": "renormalised adjoint",
    "scaled": "norm divided by the largest entry first",
    "naive": "norm by a sum of squares",
}
_FLOORS = {
    "scaled": (style.FLOAT32_FLOOR, "smallest normal float32"),
    "naive": (style.NORM_FLOOR, "its square root"),
}


@style.styled
def draw_floors(norms: Mapping[str, np.ndarray]) -> Figure:
    """Draws one gradient measured in three ways, above the steps that each one sees.

    Args:
      norms: ln of the norm under `naive`, `scaled` and `renormalised`,
        `[network, time]`; -inf where it reads zero.
    """
    figure = Figure(figsize=(style.WIDTH, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4.6, 1))
    for index, name in enumerate(_NAMES):
        _draw_curve(upper, norms[name], name, index)
        _draw_seen(lower, norms[name], index)
    for floor, words in _FLOORS.values():
        upper.axhline(floor, color="black", linestyle=":", linewidth=1.1)
        upper.annotate(
            f"{words}, ln = {floor:.1f}",
            (0.012, floor),
            (0, 4),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=9,
        )
    upper.set_ylabel("ln gradient norm (nats)")
    style.add_powers(upper, "gradient norm")
    lower.set_yticks(range(3), labels=[""] * 3)
    lower.tick_params(axis="y", length=0)
    lower.set_ylim(2.6, -0.6)
    lower.grid(visible=False)
    lower.spines["left"].set_visible(False)
    lower.set_ylabel("steps seen")
    steps = norms["naive"].shape[1]
    lower.set_xlim(0, steps)
    lower.set_xlabel(f"time t (steps); the loss stands at {steps:,}")
    lower.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    style.key_above(figure, columns=3)
    return figure


def _draw_curve(axes: Axes, rows: np.ndarray, name: str, index: int) -> None:
    """Draws median and extremes; a cross ends a curve that becomes zero."""
    look = style.line_style(index)
    wide = {0: 5.5, 1: 2.6, 2: 1.6}[index]
    look |= {"linewidth": wide, "alpha": 0.35 if index == 0 else 1.0}
    look |= {"linestyle": "-"} if index == 0 else {}
    seen = np.isfinite(rows).all(0)
    times = np.flatnonzero(seen)
    middle = np.median(rows[:, seen], axis=0)
    axes.plot(times, middle, label=_NAMES[name], **look)
    if index == 0:
        axes.fill_between(
            times,
            rows.min(0)[seen],
            rows.max(0)[seen],
            color=look["color"],
            alpha=0.13,
            linewidth=0,
        )
    if times[0] > 0:
        axes.plot(
            times[0],
            middle[0],
            "X",
            color=look["color"],
            markersize=9,
            markeredgecolor="white",
            zorder=5,
        )


def _draw_seen(axes: Axes, rows: np.ndarray, index: int) -> None:
    """Draws a bar over the steps that are not zero, and their number."""
    steps = rows.shape[1]
    count = float(np.median(np.isfinite(rows).sum(1)))
    colour = style.line_style(index)["color"]
    alpha = 0.35 if index == 0 else 1.0
    axes.barh(index, count, left=steps - count, height=0.62, color=colour, alpha=alpha)
    inside = count > 0.9 * steps
    axes.text(
        steps - count + (8 if inside else -8),
        index,
        f"{count:,.0f} of {steps:,}",
        ha="left" if inside else "right",
        va="center",
        fontsize=9.5,
    )
