"""Pictures of the benchmarks; frameworks differ in marker and lightness too."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from experiments.benchmarks.compare import Row
from experiments.benchmarks.options import METHODS
from experiments.benchmarks.peers import seqjax_name
from experiments.benchmarks.tables import machine_line
from experiments.pictures import style

# Colour, marker, fill.
_LOOKS = {
    "seqjax": (style.BLACK, "o", style.BLACK),
    "torch": (style.VERMILION, "s", style.VERMILION),
    "linen": (style.BLUE, "^", style.BLUE),
    "nnx": (style.SKY, "v", style.SKY),
    "equinox": (style.GREEN, "D", style.GREEN),
    "haiku": (style.PINK, "P", style.PINK),
    "keras": (style.ORANGE, "X", style.ORANGE),
}
# The other methods of seqjax are black and empty.
_METHOD_MARKERS = dict(zip(map(seqjax_name, METHODS), "odshp", strict=False))
PASS_TITLES = {"forward": "forward", "backward": "forward and backward"}


def look(name: str) -> dict[str, Any]:
    """Returns colour and marker of a framework, the same in every picture."""
    method_look = (style.BLACK, _METHOD_MARKERS.get(name, "*"), "#ffffff")
    colour, marker, fill = _LOOKS.get(name, method_look)
    return {
        "color": colour,
        "marker": marker,
        "markerfacecolor": fill,
        "markersize": 5,
        "linewidth": 1.2,
        "label": name,
    }


def dots(
    panels: dict[str, list[Row]],
    label: Callable[[Row], str],
    value: Callable[[Row], tuple[float, float, float]],
    axis_name: str,
    line_at: float | None = None,
) -> Figure:
    """Draws a line of dots per case, logarithmic, with their quartiles.

    Args:
      panels: rows by the title of the panel that shows them.
      label: names the case of a row.
      value: median and quartiles of a row.
      axis_name: what the numbers are, with their unit.
      line_at: where a vertical line stands, if anywhere.
    """
    cases = list(dict.fromkeys(label(row) for rows in panels.values() for row in rows))
    height = 1.5 + 0.42 * len(cases)
    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    for panel, (title, rows) in zip(axes, panels.items(), strict=True):
        _draw_dots(panel, rows, cases, label, value)
        panel.set_title(title)
        panel.set_xlabel(axis_name)
        if line_at is not None:
            panel.axvline(line_at, color="black", linewidth=1, linestyle="--")
    axes[0].set_yticks(range(len(cases)), cases)
    axes[0].set_ylim(len(cases) - 0.5, -0.5)
    add_key(figure)
    return figure


def _draw_dots(
    axes: Axes,
    rows: Sequence[Row],
    cases: Sequence[str],
    label: Callable[[Row], str],
    value: Callable[[Row], tuple[float, float, float]],
) -> None:
    names = list(dict.fromkeys(row["peer"] for row in rows))
    for index, name in enumerate(names):
        own = [row for row in rows if row["peer"] == name]
        # Spread over 0.6 of a line, so that equal numbers do not hide each other.
        shift = 0.6 * (index - (len(names) - 1) / 2) / len(names)
        heights = [cases.index(label(row)) + shift for row in own]
        medians, lowers, uppers = zip(*map(value, own), strict=True)
        axes.hlines(heights, lowers, uppers, look(name)["color"], linewidth=1)
        axes.plot(medians, heights, linestyle="none", **look(name))
    logarithmic(axes, "x")


def logarithmic(axes: Axes, which: str) -> None:
    """Makes an axis logarithmic, labelled in plain numbers."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = sorted(axis.get_view_interval())
    axis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    axis.set_minor_formatter(NullFormatter())
    if high < 30 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))


def add_key(figure: Figure) -> None:
    """Puts one key for all panels above them."""
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside upper center",
        ncols=7,
        columnspacing=1.2,
        handletextpad=0.4,
    )


def curves(num_panels: int, height: float = 3.8) -> tuple[Figure, list[Axes]]:
    """Returns a figure of panels side by side."""
    figure = Figure(figsize=(8, height), layout="constrained")
    return figure, list(figure.subplots(1, num_panels, squeeze=False)[0])


def save(
    draw: Callable[[Sequence[Row]], Figure],
    rows: Sequence[Row],
    target: Path,
    machine: dict[str, Any],
) -> Path:
    """Draws rows and writes the picture, with the machine at its foot.

    Args:
      draw: returns the figure.
      rows: what was measured.
      target: the JSON file; the picture is put beside it.
      machine: what was measured on.
    """
    path = target.with_suffix(".png")
    text = "\n".join(textwrap.wrap(machine_line(machine), 120))
    with style.context():
        figure = draw(rows)
        figure.supxlabel(text, fontsize=7.5, color="#555555")
    return style.save(figure, path)
