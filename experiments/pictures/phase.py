"""Diagrams over parameters: rates over two of them, attractors, bifurcations."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from experiments.pictures import style

_MAX_COLUMNS = 4


@style.styled
def draw_phase_diagram(
    x: ArrayLike,
    y: ArrayLike,
    rates: ArrayLike,
    *,
    x_label: str,
    y_label: str,
    label: str = "largest Lyapunov exponent (nats per step)",
    critical: tuple[ArrayLike, ArrayLike] | None = None,
) -> Figure:
    """Maps a rate over two parameters, with its zero contour.

    Lightness grows with the rate, so that the map can be read in grey.

    Args:
      x: `[column]`, ascending.
      y: `[row]`, ascending.
      rates: `[row, column]`; NaN and -inf are grey.
      x_label: the horizontal axis, with its unit.
      y_label: the vertical axis, with its unit.
      label: what the rate is.
      critical: x and y of the critical curve of theory, `[point]` each.
    """
    columns, rows = np.asarray(x, float), np.asarray(y, float)
    values = np.ma.masked_invalid(np.asarray(rates, float))
    figure = Figure(figsize=(style.WIDTH, 5.2), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor(style.ZERO_COLOUR)
    colours = matplotlib.colormaps["viridis"]
    image = axes.pcolormesh(columns, rows, values, cmap=colours, shading="nearest")
    image.set_rasterized(True)
    limits = axes.get_xlim(), axes.get_ylim()
    bar = figure.colorbar(image, ax=axes, pad=0.015, aspect=28)
    bar.set_label(label)
    handles: list[Line2D | Patch] = []
    if values.count() and values.min() < 0 < values.max():
        handles.append(_draw_zero(axes, columns, rows, values))
        bar.ax.axhline(0, color="black", linewidth=2)
    if critical is not None:
        over, up = (np.asarray(part, float) for part in critical)
        outline = [withStroke(linewidth=3.5, foreground="white")]
        handles += axes.plot(
            over,
            up,
            color=style.VERMILION,
            linestyle=(0, (5, 2)),
            linewidth=1.8,
            path_effects=outline,
            label="critical curve of mean-field theory",
        )
    if values.count() < values.size:
        handles.append(Patch(facecolor=style.ZERO_COLOUR, label="no rate"))
    axes.set(xlim=limits[0], ylim=limits[1], xlabel=x_label, ylabel=y_label)
    axes.grid(visible=False)
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _draw_zero(
    axes: Axes, x: np.ndarray, y: np.ndarray, values: np.ma.MaskedArray
) -> Line2D:
    """Draws the contour of rate 0, black on white."""
    axes.contour(x, y, values, [0.0], colors="white", linewidths=4.0)
    axes.contour(x, y, values, [0.0], colors="black", linewidths=1.8)
    return Line2D([], [], color="black", linewidth=1.8, label="measured rate 0")


@style.styled
def draw_bifurcation(
    parameter: ArrayLike,
    orbits: ArrayLike,
    *,
    exponents: ArrayLike | None = None,
    parameter_label: str = "parameter",
    state_label: str = "one unit of the state",
) -> Figure:
    """Draws the late orbit of a map against a parameter, the exponent below it.

    Args:
      parameter: `[point]`, ascending; a training step or a weight.
      orbits: values of one unit after a transient, `[point, time]`.
      exponents: largest Lyapunov exponent at every point, nats per step.
      parameter_label: the horizontal axis, with its unit.
      state_label: the vertical axis.
    """
    where, values = np.asarray(parameter, float), np.asarray(orbits, float)
    height = 4.4 if exponents is None else 5.8
    figure = Figure(figsize=(style.WIDTH, height), layout="constrained")
    panels = figure.subplots(
        1 if exponents is None else 2,
        1,
        sharex=True,
        squeeze=False,
        height_ratios=None if exponents is None else (2, 1),
    )[:, 0]
    axes = panels[0]
    axes.plot(
        np.repeat(where, values.shape[1]),
        values.ravel(),
        linestyle="none",
        marker=",",
        color="black",
        alpha=0.35,
        rasterized=True,
    )
    axes.set_ylabel(state_label)
    if exponents is not None:
        rates = np.asarray(exponents, float)
        panels[1].axhline(0, color="black", linewidth=1.2)
        panels[1].plot(where, rates, color=style.BLUE, linewidth=1.3)
        panels[1].fill_between(
            where, 0, rates, where=rates > 0, color=style.VERMILION, alpha=0.35
        )
        panels[1].set_ylabel("largest exponent\n(nats per step)")
    panels[-1].set_xlabel(parameter_label)
    axes.margins(x=0)
    return figure


@style.styled
def draw_attractors(
    orbits: Mapping[str, ArrayLike],
    *,
    labels: tuple[str, str] = ("first unit", "second unit"),
) -> Figure:
    """Draws long orbits in the plane of two units, a panel each.

    Args:
      orbits: `[time, 2]` by title, after a transient.
      labels: of the two units.
    """
    columns = min(len(orbits), _MAX_COLUMNS)
    rows = -(-len(orbits) // columns)
    height = 0.6 + min(4.8, style.WIDTH / columns) * rows
    figure = Figure(figsize=(style.WIDTH, height), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (title, orbit) in zip(grid.flat, orbits.items(), strict=False):
        points = np.asarray(orbit, float)
        # A fixed point or a short cycle would vanish among single pixels.
        few = len(np.unique(points.round(6), axis=0)) <= 64
        axes.plot(
            points[:, 0],
            points[:, 1],
            linestyle="none",
            marker="o" if few else ".",
            markersize=4 if few else 1.5,
            markeredgewidth=0,
            color=style.BLUE if few else "black",
            rasterized=True,
        )
        axes.set_title(title)
        axes.set_xlabel(labels[0])
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    for axes in grid.flat[len(orbits) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel(labels[1])
    return figure
