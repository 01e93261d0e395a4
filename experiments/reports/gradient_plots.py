"""Panels that show the arrays of gradient_norms.npz; see `logs.GradientLog`."""

import math
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from experiments.pictures import style

Arrays = dict[str, np.ndarray]

_MAX_CURVES = 6
_MAX_COLUMNS = 3
_MAX_ROWS = 1000  # lags in the map; more are thinned out
_HALF_LIVES = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000)
_RATE_COLOUR = style.BLUE


def draw_over_time(arrays: Arrays) -> Figure | None:
    """Draws ln ‖dL/d carryₜ‖ against t, a panel for every part of the carry.

    A curve is the median over the sequences at one training step, with the band
    between the outer quantiles; at most six steps, from the first to the last.
    """
    log_norms = _without_empty_end(arrays["log_norms"])
    measured = np.flatnonzero(np.isfinite(log_norms).any(axis=(1, 2, 3)))
    if not len(measured):
        return None
    chosen = measured[_spread(len(measured))]
    log_norms = log_norms[chosen]
    parts = arrays["parts"].tolist()
    # A carry of one part: joint would be the same picture twice.
    names = parts[:1] if len(parts) == 2 else parts
    columns = min(len(names), _MAX_COLUMNS)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(8, 1 + 3.1 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for part, (axes, name) in enumerate(zip(grid.flat, names, strict=False)):
        _draw_part(axes, log_norms[:, part])
        axes.set_title("whole carry" if name == "joint" else name)
    _finish_grid(grid, log_norms)
    share = float(np.ptp(arrays["quantiles"]))
    _add_key(figure, arrays["steps"][chosen], log_norms, share)
    return figure


def _spread(count: int) -> list[int]:
    """Returns at most six of `count` indices, first and last among them.

    They lie closer at the beginning, where a network changes most.
    """
    return sorted({round(i) - 1 for i in np.geomspace(1, count, _MAX_CURVES)})


def _without_empty_end(log_norms: np.ndarray) -> np.ndarray:
    """Drops the final carry where the loss does not see it: always exactly zero."""
    return log_norms if np.isfinite(log_norms[..., -1]).any() else log_norms[..., :-1]


def _curve_styles(count: int) -> list[dict[str, Any]]:
    """Returns light for early and dark for late, and a heavy last curve."""
    shades = np.linspace(0.88, 0.0, count) if count > 1 else [0.0]
    colours = matplotlib.colormaps["viridis"](shades)
    dashes = ["-"] * count if count < 3 else [(0, (5, 1.5)), *["-"] * (count - 1)]
    widths = [1.5] * (count - 1) + [2.4]
    return [
        {"color": colour, "linestyle": dash, "linewidth": width}
        for colour, dash, width in zip(colours, dashes, widths, strict=True)
    ]


def _draw_part(axes: Axes, log_norms: np.ndarray) -> None:
    """Draws the curves `[curve, quantile, time]` of one part."""
    time = np.arange(log_norms.shape[-1])
    lowest = log_norms[np.isfinite(log_norms)].min(initial=np.inf)
    styles = _curve_styles(len(log_norms))
    for (low, median, high), look in zip(log_norms, styles, strict=True):
        finite = np.isfinite(median)
        band = np.where(np.isfinite(low), low, lowest), np.where(finite, high, np.nan)
        axes.fill_between(
            time, *band, where=finite, color=look["color"], alpha=0.13, linewidth=0
        )
        axes.plot(time, np.where(finite, median, np.nan), **look)
        if _fades(median):
            start = finite.argmax()
            axes.plot(time[start], median[start], "<", color=look["color"], zorder=4)


def _fades(median: np.ndarray) -> bool:
    """Says whether a gradient is exactly zero at the start, but not everywhere."""
    return bool(np.isneginf(median[0]) and np.isfinite(median).any())


def _finish_grid(grid: np.ndarray, log_norms: np.ndarray) -> None:
    """Sets limits, floor, labels and the axis in powers of ten."""
    finite = log_norms[np.isfinite(log_norms)]
    margin = 0.04 * max(np.ptp(finite), 1)
    grid[0, 0].set_ylim(finite.min() - margin, finite.max() + margin)
    grid[0, 0].set_xlim(0, max(log_norms.shape[-1] - 1, 1))
    grid[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    for axes in grid.flat:
        if style.near(style.FLOAT32_FLOOR, log_norms):
            axes.axhline(
                style.FLOAT32_FLOOR, color="black", linestyle=":", linewidth=1.3
            )
    for axes in grid[:, 0]:
        axes.set_ylabel("ln gradient norm (nats)")
    for column, lowest in enumerate(grid[-1]):
        shown = lowest if lowest.get_visible() else grid[-2, column]
        shown.set_xlabel("time t (steps)")
        shown.tick_params(labelbottom=True)
    for axes in filter(Axes.get_visible, grid[:, -1]):
        style.add_powers(axes, "gradient norm")


def _add_key(
    figure: Figure, steps: np.ndarray, log_norms: np.ndarray, share: float
) -> None:
    """Puts one key for all panels: the steps above, how to read them below."""
    styles = _curve_styles(len(steps))
    curves = [
        Line2D([], [], label=f"step {step:,}", **look)
        for step, look in zip(steps, styles, strict=True)
    ]
    figure.legend(
        handles=curves,
        loc="outside upper center",
        ncols=len(curves),
        columnspacing=1.3,
        handlelength=1.8,
    )
    notes: list[Any] = [
        Line2D([], [], color="#444444", linewidth=2, label="median sequence"),
        Patch(color="#888888", alpha=0.35, label=f"middle {share:.0%}"),
    ]
    if any(map(_fades, log_norms[:, :, 1].reshape(-1, log_norms.shape[-1]))):
        notes.append(
            Line2D(
                [],
                [],
                color="#444444",
                marker="<",
                linestyle="none",
                label="exactly zero before",
            )
        )
    if style.near(style.FLOAT32_FLOOR, log_norms):
        notes.append(
            Line2D(
                [],
                [],
                color="black",
                linestyle=":",
                linewidth=1.3,
                label="smallest normal float32 (ln = −87.3)",
            )
        )
    figure.legend(
        handles=notes, loc="outside lower center", ncols=len(notes), columnspacing=1.3
    )


def draw_lag_map(axes: Axes, arrays: Arrays) -> bool:
    """Maps the joint median over training step and lag, relative to lag 0.

    Lag 0 is the last carry that the loss reaches. Returns False, and draws nothing,
    where there are fewer than two measurements.
    """
    steps, relative = arrays["steps"], _relative_to_end(arrays["log_norms"])
    finite = relative[np.isfinite(relative)]
    if len(steps) < 2 or relative.shape[1] < 2 or not finite.size:
        return False
    stride = -(-relative.shape[1] // _MAX_ROWS)
    lags = np.arange(0, relative.shape[1], stride)
    scale = Normalize(min(finite.min(), -1.0), max(finite.max(), 0.0))
    colours = matplotlib.colormaps["viridis"].with_extremes(
        under=style.ZERO_COLOUR, bad="white"
    )
    zero = np.isneginf(relative)
    values = np.ma.masked_invalid(np.where(zero, finite.min() - 2, relative))
    cells = values[:, ::stride].T
    image = axes.pcolormesh(
        _edges(steps), _edges(lags), cells, norm=scale, cmap=colours, rasterized=True
    )
    powers = style.powers_between(finite.min(), finite.max())
    if np.any(powers):
        axes.contour(
            steps,
            lags,
            cells,
            style.to_nats(powers[powers != 0]),
            colors="white",
            linewidths=0.9,
            linestyles="-",
        )
    _add_colour_bar(axes, image, powers)
    axes.grid(visible=False)
    axes.set_ylabel("lag (steps back in time)")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if zero.any():
        patch = Patch(
            facecolor=style.ZERO_COLOUR, edgecolor="black", label="exactly zero"
        )
        axes.legend(handles=[patch], loc="upper left")
    return True


def _relative_to_end(log_norms: np.ndarray) -> np.ndarray:
    """Returns the joint median by lag, `[n, lag]`, less its value at lag 0."""
    median = _without_empty_end(log_norms)[:, -1, 1, ::-1].astype(float)
    end = np.where(np.isfinite(median[:, :1]), median[:, :1], np.nan)
    return median - end


def _edges(centres: np.ndarray) -> np.ndarray:
    """Returns the borders of cells with these centres; the outermost end there."""
    middles = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([centres[:1], middles, centres[-1:]])


def _add_colour_bar(axes: Axes, image: Any, powers: np.ndarray) -> None:
    """Adds a bar that reads as a ratio, marked where the contours run."""
    figure = axes.get_figure()
    if figure is None:
        return
    bar = figure.colorbar(image, ax=axes, pad=0.015, aspect=28)
    bar.set_label("gradient norm / its value at lag 0")
    if np.any(powers):
        bar.set_ticks(
            style.to_nats(powers).tolist(),
            labels=[f"$10^{{{power}}}$" for power in powers],
        )
        bar.ax.hlines(style.to_nats(powers[powers != 0]), 0, 1, "white", linewidth=0.9)
    else:
        bar.formatter = FuncFormatter(lambda nats, _: f"{math.exp(nats):.3g}")


def draw_decay_rate(axes: Axes, arrays: Arrays) -> bool:
    """Draws the decay rate against the training step, with half-lives on the right.

    Returns False, and draws nothing, where there is no rate.
    """
    steps, rates = arrays["steps"], arrays["decay_rate"]
    settled = np.isfinite(arrays["half_life"])
    if not np.isfinite(rates).any():
        return False
    axes.plot(steps, rates, color=_RATE_COLOUR, linewidth=1.3)
    if settled.any():
        last = arrays["half_life"][settled][-1]
        axes.plot(
            steps[settled],
            rates[settled],
            "o",
            color=_RATE_COLOUR,
            markersize=4,
            label=f"with a half-life (last: {last:.3g} steps)",
        )
    if not settled.all():
        axes.plot(
            steps[~settled],
            rates[~settled],
            "o",
            color=_RATE_COLOUR,
            markersize=4,
            markerfacecolor="white",
            label="too uncertain for a half-life",
        )
    axes.axhline(0, color="black", linewidth=1.2)
    low, high = min(np.nanmin(rates), 0.0), max(np.nanmax(rates), 0.0)
    margin = 0.08 * max(high - low, 1e-3)
    axes.set_ylim(low - margin, high + margin)
    axes.set_ylabel("decay rate (nats per step)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.margins(x=0.02)
    _add_half_lives(axes, rises=bool(np.nanmax(rates) > 0))
    axes.legend(loc="best")
    return True


def _add_half_lives(axes: Axes, rises: bool) -> None:
    """Adds an axis on the right that reads in steps until the norm has halved."""
    right = axes.secondary_yaxis("right")
    low, high = axes.get_ylim()
    marks: dict[float, str] = {0.0: "∞"}
    for half_life in _HALF_LIVES:
        for sign in (-1, 1) if rises else (-1,):
            rate = sign * math.log(2) / half_life
            # Marks closer than this would be printed on top of each other.
            apart = min(abs(rate - mark) for mark in marks) > 0.06 * (high - low)
            if low <= rate <= high and apart:
                marks[rate] = f"{half_life:,}"
    right.yaxis.set_major_locator(FixedLocator(list(marks)))
    right.yaxis.set_minor_locator(NullLocator())
    right.yaxis.set_major_formatter(
        FuncFormatter(lambda rate, _: marks[min(marks, key=lambda m: abs(m - rate))])
    )
    right.set_ylabel(
        "half-life, above ∞\ndoubling time (steps)" if rises else "half-life (steps)"
    )
