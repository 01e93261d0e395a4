"""Pictures of what was measured of the gradient while training, step by step.

They show the arrays of gradient_norms.npz; see `logs.GradientLog`.
"""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from experiments.pictures import style

Arrays = dict[str, np.ndarray]
Series = tuple[np.ndarray, np.ndarray]


def draw_rates(arrays: Arrays) -> Figure | None:
    """Draws the decay rates of the sequences, and how far the gradient can be told.

    None where fewer than two measurements found a rate.
    """
    if not _several(arrays, "decay_rates"):
        return None
    figure, (upper, lower) = _two_panels(5.6, (1.5, 1))
    _draw_rates(upper, arrays)
    lower.plot(arrays["steps"], arrays["horizon"], **_line(0), marker="o", markersize=3)
    lower.set_ylim(0, arrays["log_norms"].shape[-1])
    lower.set_ylabel("gradient horizon\n(steps of lag)")
    style.key_above(figure)
    return figure


def _draw_rates(axes: Axes, arrays: Arrays) -> None:
    steps, parts = arrays["steps"], arrays["parts"].tolist()
    low, median, high = np.moveaxis(arrays["decay_rates"], -1, 0)
    share = float(np.ptp(arrays["quantiles"]))
    axes.fill_between(
        steps,
        low[:, -1],
        high[:, -1],
        color=style.SKY,
        alpha=0.3,
        linewidth=0,
        label=f"middle {share:.0%} of the sequences",
    )
    axes.plot(steps, median[:, -1], **_line(0), label="median sequence")
    # A carry of one part: joint would be the same curve twice.
    for index, name in enumerate(parts[:-1] if len(parts) > 2 else []):
        axes.plot(
            steps, median[:, index], **_line(index + 1), label=f"median, {name} alone"
        )
    axes.axhline(0, color="black", linewidth=1.2)
    axes.set_ylabel("decay rate (nats per step)")


def draw_shares(arrays: Arrays) -> Figure | None:
    """Draws which lags the gradient of the cell's parameters comes from.

    None where fewer than two measurements split it.
    """
    if not _several(arrays, "lag_shares"):
        return None
    figure, axes = _one_panel(3.9)
    edges = arrays["lag_edges"].tolist()
    shades = colormaps["viridis"](np.linspace(0.05, 0.95, len(edges)))
    axes.stackplot(
        arrays["steps"],
        np.nan_to_num(arrays["lag_shares"]).T,
        labels=[
            _bucket_name(*ends) for ends in zip(edges, [*edges[1:], None], strict=True)
        ],
        colors=shades,
        edgecolor="white",
        linewidth=0.6,
    )
    axes.set_ylim(0, 1)
    axes.margins(x=0)
    axes.set_ylabel("share of the parameter gradient")
    style.key_above(figure, columns=6)
    return figure


def _bucket_name(first: int, following: int | None) -> str:
    if following is None:
        return f"lag {first:,} and more"
    if following == first + 1:
        return f"lag {first:,}"
    return f"lag {first:,} to {following - 1:,}"


def draw_clipping(arrays: Arrays, clip_rate: Series) -> Figure | None:
    """Draws the norm of the gradient before and after clipping, and how often it acts.

    None where nothing was ever clipped, or before two measurements.

    Args:
      arrays: of gradient_norms.npz.
      clip_rate: steps and values of that column of metrics.jsonl.
    """
    if not _several(arrays, "clip_norms"):
        return None
    steps, (before, after) = arrays["steps"], arrays["clip_norms"].T
    rate_steps, rates = clip_rate
    if not (after < before).any() and not (rates > 0).any():
        return None
    figure, (upper, lower) = _two_panels(5.6, (1.3, 1))
    upper.plot(steps, before, **_line(0), label="norm before clipping")
    upper.plot(steps, after, **_line(1), label="norm after")
    upper.set_yscale("log")
    upper.set_ylabel("norm of the batch's gradient")
    if len(rates):
        name = "share of updates longer than --clip_norm"
        lower.plot(rate_steps, rates, **_line(2), label=name)
    lower.plot(
        steps, arrays["clip_cosine"], **_line(4), label="cosine of the angle between"
    )
    lower.set_ylim(-0.04, 1.04)
    lower.set_ylabel("share; cosine")
    style.key_above(figure, columns=2)
    return figure


def _several(arrays: Arrays, name: str) -> bool:
    """Says whether at least two measurements hold a finite value."""
    if name not in arrays or len(arrays[name]) < 2:
        return False
    values = arrays[name].reshape(len(arrays[name]), -1)
    return int(np.isfinite(values).any(axis=1).sum()) >= 2


def _line(index: int) -> dict[str, Any]:
    return style.line_style(index)


def _one_panel(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(style.WIDTH, height), layout="constrained")
    axes = figure.subplots()
    _count_steps(axes)
    return figure, axes


def _two_panels(
    height: float, ratios: tuple[float, float]
) -> tuple[Figure, tuple[Axes, Axes]]:
    figure = Figure(figsize=(style.WIDTH, height), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=ratios)
    _count_steps(lower)
    return figure, (upper, lower)


def _count_steps(axes: Axes) -> None:
    axes.set_xlabel("training step")
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
