"""Decay rates of many cells beside each other, and errors beside their tolerances."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator
from numpy.typing import ArrayLike

from experiments.pictures import style


@style.styled
def draw_half_lives(rates: Mapping[str, Mapping[str, ArrayLike]]) -> Figure:
    """Draws the half-life of every cell, a block of rows per group.

    Args:
      rates: by group, then by cell: decay rates of several networks, `[network]`, nats
        per step of lag, negative.
    """
    names = [(group, cell) for group, cells in rates.items() for cell in cells]
    height = 1.1 + 0.3 * len(names) + 0.12 * len(rates)
    figure = Figure(figsize=(style.WIDTH, height), layout="constrained")
    axes = figure.subplots()
    places, place = [], 0.0
    for index, (group, cells) in enumerate(rates.items()):
        for row, values in enumerate(cells.values()):
            slopes = np.abs(np.asarray(values, float))
            lives, middle = math.log(2) / slopes, math.log(2) / slopes.mean()
            pale: dict[str, Any] = style.marker_style(index) | {"alpha": 0.35}
            large: dict[str, Any] = style.marker_style(index) | {"markersize": 9}
            axes.plot([0.5, middle], [place] * 2, color="#c8c8c8", lw=1.2, zorder=1)
            axes.plot(lives, [place] * len(lives), **pale)
            label = group if row == 0 else None
            axes.plot(middle, place, **large, label=label)
            axes.annotate(
                f"{middle:.1f}",
                (max(middle, lives.max()), place),
                (9, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
            places.append(place)
            place += 1
        place += 0.5
    axes.set_yticks(places, labels=[cell for _, cell in names])
    axes.set_ylim(place - 0.6, -0.8)
    axes.set_xscale("log")
    axes.set_xlim(1, 1.35 * axes.get_xlim()[1])
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.minorticks_off()
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("half-life of the backward signal (steps)")
    upper = axes.secondary_xaxis("top", functions=(_steps_seen, _half_life))
    marks = [50, 100, 200, 500, 1000, 2000]
    upper.set_xticks(marks, labels=[f"{mark:,}" for mark in marks])
    upper.minorticks_off()
    upper.set_xlabel("steps until a float32 sum of squares reads 0")
    style.key_above(figure, columns=len(rates))
    return figure


def _steps_seen(half_life: ArrayLike) -> np.ndarray:
    return np.asarray(half_life) * -style.NORM_FLOOR / math.log(2)


def _half_life(steps: ArrayLike) -> np.ndarray:
    return np.asarray(steps) * math.log(2) / -style.NORM_FLOOR


@style.styled
def draw_errors(shares: Mapping[str, float]) -> Figure:
    """Draws errors as shares of their tolerances, on a logarithmic axis.

    Args:
      shares: error / tolerance by case; an exact answer (0) stands at the left edge.
    """
    height = 1.0 + 0.29 * len(shares)
    figure = Figure(figsize=(style.WIDTH, height), layout="constrained")
    axes = figure.subplots()
    values = np.array(list(shares.values()), float)
    lowest = max(1e-6, 10 ** math.floor(math.log10(values[values > 0].min())))
    rows = np.arange(len(values))
    shown = np.maximum(values, lowest)
    axes.hlines(rows, lowest, shown, color="#c8c8c8", linewidth=1.2)
    for index, (name, chosen) in enumerate(
        {"inside": values <= 1, "outside the tolerance": ~(values <= 1)}.items()
    ):
        if chosen.any():
            look = {**style.marker_style(0 if index == 0 else 2), "markersize": 7}
            axes.plot(shown[chosen], rows[chosen], **look, label=name, clip_on=False)
    axes.axvline(1, color="black", linewidth=1.4, label="tolerance")
    axes.set_xscale("log")
    axes.set_xlim(lowest, max(3.0, 2 * float(shown.max())))
    axes.set_yticks(rows, labels=list(shares))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("error / tolerance")
    style.key_above(figure)
    return figure


@style.styled
def draw_lost_shares(
    windows: ArrayLike,
    lost: Mapping[str, ArrayLike],
) -> Figure:
    """Draws the share of a gradient that truncation loses against the window.

    Args:
      windows: steps that are kept, `[window]`, ascending.
      lost: shares in [0, 1] by name, `[window]`; the axis ends at 1e-6.
    """
    figure = Figure(figsize=(style.WIDTH, 4.6), layout="constrained")
    axes = figure.subplots()
    steps = np.asarray(windows, float)
    for index, (name, values) in enumerate(lost.items()):
        shares = np.asarray(values, float)
        look = style.line_style(index) | style.marker_style(index)
        look |= {"linestyle": style.line_style(index)["linestyle"]}
        axes.plot(steps, np.where(shares > 0, shares, np.nan), **look, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(1e-6, 1.6)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.minorticks_off()
    axes.set_xlabel("window of truncated back-propagation (steps)")
    axes.set_ylabel("share of the parameter gradient that is lost")
    style.key_above(figure, columns=3)
    return figure
