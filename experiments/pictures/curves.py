"""Log norms of gradients over time or lag: curves, parts of the carry, lag matrix.

All norms are natural logarithms, -inf where a gradient is exactly zero.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import ArrayLike

from experiments.pictures import style

QUANTILES = (0.1, 0.5, 0.9)
_AXIS_NAMES = {"time": "time t (steps)", "lag": "lag (steps back from the loss)"}
_FLOORS: tuple[tuple[float, Any, str], ...] = (
    (style.NORM_FLOOR, (0, (2, 4)), "float32: a sum of squares is 0 below"),
    (style.FLOAT32_FLOOR, ":", "float32: every entry is 0 below"),
)
_FLOOR_COLOUR = "#555555"


def by_lag(log_norms: ArrayLike, *, relative: bool = False) -> np.ndarray:
    """Turns curves over time into curves over lag; lag 0 is the last carry reached.

    Args:
      log_norms: `[sample, time+1]` or `[time+1]`.
      relative: subtract each curve's own value at lag 0.

    Returns:
      `[sample, lag]`.
    """
    curves = _reached(np.atleast_2d(np.asarray(log_norms, float)))[:, ::-1]
    if not relative:
        return curves
    start = curves[:, :1]
    return curves - np.where(np.isfinite(start), start, np.nan)


def quantiles(samples: ArrayLike) -> np.ndarray:
    """Returns the 10, 50 and 90 % quantiles over samples, `[3, point]`.

    They are values of samples, never means of two, since -inf may stand beside a
    number; NaN is left out.

    Args:
      samples: `[sample, point]` or `[point]`.
    """
    ordered = np.sort(np.atleast_2d(np.asarray(samples, float)), axis=0)
    counts = np.sum(~np.isnan(ordered), axis=0)
    ranks = np.rint(np.multiply.outer(QUANTILES, np.maximum(counts - 1, 0)))
    return np.take_along_axis(ordered, ranks.astype(int), axis=0)


@style.styled
def draw_log_norms(
    curves: Mapping[str, ArrayLike],
    *,
    over: str = "time",
    label: str = "gradient norm",
) -> Figure:
    """Draws one line per cell or initialisation: ln ‖dL/d carry‖, floors drawn in.

    Args:
      curves: `[sample, point]` or `[point]` by name; the line is the median over
        samples, the band goes from the 10 to the 90 % quantile.
      over: what a point is, `time` or `lag` (see `by_lag`).
      label: what the norms are of, for the vertical axes.
    """
    figure = Figure(figsize=(style.WIDTH, 4.6), layout="constrained")
    axes = figure.subplots()
    shown = {name: _over(values, over) for name, values in curves.items()}
    for index, (name, samples) in enumerate(shown.items()):
        _draw_curve(axes, samples, name, style.line_style(index))
    _finish(axes, shown.values(), over)
    axes.set_ylabel(f"ln {label} (nats)")
    style.add_powers(axes, label)
    style.key_above(figure)
    _explain(figure, list(shown.values()))
    return figure


@style.styled
def draw_carry_parts(curves: Mapping[str, Mapping[str, ArrayLike]]) -> Figure:
    """Draws a panel per cell with one line per part of its carry.

    Args:
      curves: by cell, then by part (hidden, cell, joint): `[sample, time+1]`.
    """
    columns = 2 if len(curves) in (2, 4) else min(len(curves), 3)
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(style.WIDTH, 1.2 + 2.7 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    order = {part: None for parts in curves.values() for part in parts}
    looks = {part: style.line_style(index) for index, part in enumerate(order)}
    every: list[np.ndarray] = []
    for axes, (name, parts) in zip(grid.flat, curves.items(), strict=False):
        shown = {part: _over(values, "time") for part, values in parts.items()}
        for part, samples in shown.items():
            text = "whole carry" if part == "joint" else part
            _draw_curve(axes, samples, text, looks[part])
        _finish(axes, shown.values(), "time")
        axes.set_title(name)
        every += shown.values()
    for axes in grid.flat[len(curves) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("ln gradient norm (nats)")
    style.add_powers(grid[0, -1], "gradient norm")
    style.key_above(figure)
    _explain(figure, every)
    return figure


@style.styled
def draw_paths(log_norms: Mapping[str, ArrayLike]) -> Figure:
    """Draws how much of the gradient travels on each path, and each path's share.

    A share is ‖one path‖ / Σ ‖paths‖, so that the shares add up to one.

    Args:
      log_norms: by path (through the cell alone, through everything else):
        `[sample, time]` or `[time]`, all of one shape.
    """
    figure = Figure(figsize=(style.WIDTH, 5.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    norms = {name: np.atleast_2d(np.asarray(v, float)) for name, v in log_norms.items()}
    highest = np.max(list(norms.values()), axis=0)
    safe = np.where(np.isfinite(highest), highest, 0)
    scaled = {name: np.exp(values - safe) for name, values in norms.items()}
    total = np.sum(list(scaled.values()), axis=0)
    for index, (name, values) in enumerate(norms.items()):
        look = style.line_style(index)
        _draw_curve(upper, values, name, look)
        known = np.where(total > 0, total, np.nan)
        _draw_curve(lower, scaled[name] / known, name, look)
    _finish(upper, norms.values(), "time")
    upper.set_xlabel("")
    upper.set_ylabel("ln gradient norm (nats)")
    style.add_powers(upper, "gradient norm")
    lower.axhline(1 / len(norms), color="black", linestyle="--", linewidth=1)
    lower.set_ylim(-0.02, 1.02)
    lower.set_ylabel("share of the path\n(dashed: equal shares)")
    lower.set_xlabel(_AXIS_NAMES["time"])
    style.key_above(figure)
    _explain(figure, list(norms.values()))
    return figure


@style.styled
def draw_lag_matrix(log_norms: ArrayLike, anchors: ArrayLike) -> Figure:
    """Maps ln ‖dLₖ/d carryₜ‖, the gradient of the loss at step k alone at time t.

    Args:
      log_norms: `[anchor, time+1]`; -inf for t > k.
      anchors: k of every row, `[anchor]`, ascending.
    """
    values, steps = np.asarray(log_norms, float), np.asarray(anchors)
    times = np.arange(values.shape[1])
    later = times > steps[:, None]
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (-1.0, 0.0)
    scale = Normalize(low, max(high, low + 1))
    colours = matplotlib.colormaps["viridis"].with_extremes(
        under=style.ZERO_COLOUR, bad="white"
    )
    shown = np.ma.masked_where(later, np.where(np.isneginf(values), low - 9, values))
    figure = Figure(figsize=(style.WIDTH, 5.4), layout="constrained")
    axes = figure.subplots()
    image = axes.pcolormesh(
        times, steps, shown, norm=scale, cmap=colours, shading="nearest"
    )
    image.set_rasterized(True)
    powers = style.powers_between(low, high)
    if len(powers) > 1 and len(steps) > 1:
        levels = style.to_nats(powers)
        lines = np.ma.masked_invalid(shown)
        axes.contour(
            times, steps, lines, levels, colors="white", linewidths=0.8, linestyles="-"
        )
    bar = figure.colorbar(image, ax=axes, pad=0.015, aspect=28)
    bar.set_label("norm of the gradient of the loss at step k")
    if len(powers):
        names = [f"$10^{{{power}}}$" for power in powers]
        bar.set_ticks(style.to_nats(powers).tolist(), labels=names)
    axes.grid(visible=False)
    axes.set_xlabel("time t of the carry (steps)")
    axes.set_ylabel("step k of the loss")
    axes.plot(steps, steps, color="black", linewidth=1, label="lag 0")
    axes.set_xlim(0, times[-1])
    handles: list[Any] = axes.get_legend_handles_labels()[0]
    if np.any(np.isneginf(values) & ~later):
        handles.append(Patch(facecolor=style.ZERO_COLOUR, label="exactly zero"))
    axes.legend(handles=handles, loc="lower right")
    return figure


def _over(values: ArrayLike, over: str) -> np.ndarray:
    """Returns `[sample, point]` without a final carry that the loss does not see."""
    curves = np.atleast_2d(np.asarray(values, float))
    return _reached(curves) if over == "time" else curves


def _reached(curves: np.ndarray) -> np.ndarray:
    return curves if np.isfinite(curves[:, -1]).any() else curves[:, :-1]


def _draw_curve(
    axes: Axes, samples: np.ndarray, name: str, look: dict[str, Any]
) -> None:
    """Draws median and band; a cross ends a curve where it becomes exactly zero."""
    low, median, high = quantiles(samples)
    points = np.arange(len(median))
    finite = np.isfinite(median)
    if len(samples) > 1:
        lowest = low[np.isfinite(low)].min(initial=np.inf)
        band = np.where(np.isfinite(low), low, lowest), np.where(finite, high, np.nan)
        axes.fill_between(
            points, *band, where=finite, color=look["color"], alpha=0.15, linewidth=0
        )
    axes.plot(points, np.where(finite, median, np.nan), label=name, **look)
    ends = _ends(median)
    axes.plot(points[ends], median[ends], "x", color=look["color"], markersize=7)


def _ends(median: np.ndarray) -> np.ndarray:
    """Returns the points beside which a curve is exactly zero."""
    zero = np.pad(np.isneginf(median), 1)
    return np.flatnonzero(np.isfinite(median) & (zero[:-2] | zero[2:]))


def _finish(axes: Axes, shown: Iterable[np.ndarray], over: str) -> None:
    """Draws the floors that are near, and names the horizontal axis."""
    arrays = list(shown)
    together = np.concatenate([values.ravel() for values in arrays])
    for floor, dashes, _ in _FLOORS:
        if style.near(floor, together):
            axes.axhline(floor, color=_FLOOR_COLOUR, linestyle=dashes, linewidth=1.1)
    axes.set_xlim(0, max(values.shape[-1] - 1 for values in arrays) or 1)
    axes.set_xlabel(_AXIS_NAMES[over])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _explain(figure: Figure, shown: list[np.ndarray]) -> None:
    """Puts how to read the curves below them."""
    notes: list[Any] = []
    if any(len(values) > 1 for values in shown):
        median = Line2D([], [], color="#444444", linewidth=2, label="median sequence")
        band = Patch(color="#888888", alpha=0.35, label="middle 80%")
        notes += [median, band]
    if any(len(_ends(quantiles(values)[1])) for values in shown):
        cross: dict[str, Any] = {"marker": "x", "linestyle": "none"}
        notes.append(
            Line2D([], [], color="#444444", label="exactly zero past", **cross)
        )
    together = np.concatenate([values.ravel() for values in shown])
    for floor, dashes, text in _FLOORS:
        if style.near(floor, together):
            name = f"{text} {floor:.1f}"
            line = Line2D([], [], color=_FLOOR_COLOUR, linestyle=dashes, label=name)
            notes.append(line)
    if notes:
        figure.legend(
            handles=notes,
            loc="outside lower center",
            ncols=2 if len(notes) > 2 else len(notes),
        )
