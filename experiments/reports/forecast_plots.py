"""Pictures of forecasts: by steps ahead, in some windows, and over the test part."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from experiments.pictures import style
from experiments.runs.forecasts import Forecasts, score, step_name

_NUM_WINDOWS = 4
_SEEN: dict[str, Any] = {"color": style.GREY, "linewidth": 1.3, "label": "seen"}
_CAME: dict[str, Any] = {"color": "black", "linewidth": 1.4, "label": "what came"}
_MODEL: dict[str, Any] = {
    "color": style.VERMILION,
    "linewidth": 1.8,
    "linestyle": (0, (6, 1.5)),
    "label": "model",
}
_NO_CHANGE: dict[str, Any] = {
    "color": style.BLUE,
    "linewidth": 1.4,
    "linestyle": (0, (1.5, 1.5)),
    "label": "no change",
}
_BAND: dict[str, Any] = {"color": style.ORANGE, "alpha": 0.35, "linewidth": 0}


def draw_by_lead(made: Forecasts) -> Figure | None:
    """Draws errors, and the coverage of the interval, against the steps ahead.

    Args:
      made: of several steps; there is no picture of one.
    """
    if made.model.shape[1] == 1:
        return None
    scores, step = score(made), step_name(made)
    heights = (2, 1) if made.interval else (1,)
    figure = Figure(figsize=(style.WIDTH, 2.2 + sum(heights)), layout="constrained")
    panels = figure.subplots(
        len(heights), 1, sharex=True, height_ratios=heights, squeeze=False
    )[:, 0]
    leads = np.arange(1, made.model.shape[1] + 1)
    for index, (name, errors) in enumerate(scores.rmse.items()):
        look = style.marker_style(index) | style.line_style(index)
        panels[0].plot(leads, errors, label=name, markevery=(index, 5), **look)
    panels[0].set_ylabel(f"root mean squared\nerror ({made.unit})")
    panels[0].set_ylim(bottom=0)
    if made.interval:
        held = scores.coverage
        panels[1].plot(leads, held, "o-", color="black", markersize=3.5)
        panels[1].axhline(made.interval, color=style.GREY, linestyle=(0, (5, 3)))
        panels[1].set_ylabel(f"inside the\n{made.interval:.0%} interval")
        panels[1].set_ylim(min(0.5, float(held.min())), 1)
        panels[1].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    panels[-1].set_xlabel(f"{step}s ahead")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=13))
    style.key_above(figure)
    return figure


def draw_windows(made: Forecasts) -> Figure:
    """Draws a few windows of the first channel, evenly from all of the test part."""
    count = min(_NUM_WINDOWS, len(made.starts))
    chosen = (2 * np.arange(count) + 1) * len(made.starts) // (2 * count)
    figure = Figure(figsize=(style.WIDTH, 6), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, squeeze=False).ravel()
    for axes, window in zip(panels, chosen, strict=False):
        _draw_window(axes, made, int(window))
    for axes in panels[2:]:
        axes.set_xlabel(f"{step_name(made)}s after the last one seen")
    for axes in panels[::2]:
        axes.set_ylabel(f"{made.names[0]} ({made.unit})")
    style.key_above(figure, columns=5)
    return figure


def _draw_window(axes: Axes, made: Forecasts, window: int) -> None:
    start, horizon = int(made.starts[window]), made.model.shape[1]
    before = np.arange(1 - made.context, 1)
    ahead = np.arange(1, horizon + 1)
    # Points need markers, which differ in grey, too.
    markers: list[dict[str, Any]] = [
        {"marker": m} if horizon == 1 else {} for m in "sox"
    ]
    axes.plot(before, made.values[start - made.context : start, 0], **_SEEN)
    if made.interval:
        # Of one step, wide enough to be seen.
        places = ahead if horizon > 1 else np.array([0.7, 1.3])
        low, high = (
            np.broadcast_to(end[window, :, 0], places.shape)
            for end in (made.low, made.high)
        )
        name = f"{made.interval:.0%} interval"
        axes.fill_between(places, low, high, label=name, **_BAND)
    no_change = next(iter(made.naive.values()))
    axes.plot(ahead, no_change[window, :, 0], **(_NO_CHANGE | markers[0]))
    axes.plot(ahead, made.truth[window, :, 0], **(_CAME | markers[1]))
    axes.plot(ahead, made.model[window, :, 0], **(_MODEL | markers[2]))
    axes.axvline(0.5, color=style.GREY, linewidth=0.8)
    axes.set_title(f"after {_time(made, start - 1)}")


def _time(made: Forecasts, place: int) -> str:
    words = str(made.times[place]).replace("T", " ")
    return f"{words}:00 UTC" if step_name(made) == "hour" else words


def draw_course(made: Forecasts) -> Figure | None:
    """Draws the first channel over the test part, and the range it had in train.

    Args:
      made: of one step ahead; there is no picture of more.
    """
    if made.model.shape[1] > 1:
        return None
    figure = Figure(figsize=(style.WIDTH, 4.2), layout="constrained")
    axes = figure.subplots()
    times = made.times[made.steps[:, 0]]
    low, high = made.train_range[:, 0]
    axes.axhspan(low, high, color="#e4e4e4", label="range of train")
    if made.interval:
        name = f"{made.interval:.0%} interval"
        ends = made.low[:, 0, 0], made.high[:, 0, 0]
        axes.fill_between(times, *ends, label=name, **_BAND)
    thin: dict[str, Any] = {"linewidth": 0.7} if len(times) > 400 else {}
    axes.plot(times, made.truth[:, 0, 0], **(_CAME | thin))
    axes.plot(times, next(iter(made.naive.values()))[:, 0, 0], **(_NO_CHANGE | thin))
    axes.plot(times, made.model[:, 0, 0], **_MODEL)
    axes.set_ylabel(f"{made.names[0]} ({made.unit})")
    axes.set_xlabel(f"time ({step_name(made)}s)")
    if made.times.dtype.kind == "M":
        locator = AutoDateLocator()
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes.set_xlabel("")
    shown = np.concatenate([made.truth[:, 0, 0], made.low[:, 0, 0], made.high[:, 0, 0]])
    margin = 0.05 * np.ptp(shown)
    axes.set_ylim(shown.min() - margin, shown.max() + margin)
    axes.margins(x=0.01)
    style.key_above(figure, columns=5)
    return figure
