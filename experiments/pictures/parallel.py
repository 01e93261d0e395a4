"""Parallel evaluation by Newton's method, and what decides how fast it converges."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import ArrayLike

from experiments.pictures import style

_TOP = 1e6  # a change that says no more than that the guess was far off


@style.styled
def draw_newton_errors(
    changes: Mapping[str, ArrayLike], *, tolerance: float | None = None
) -> Figure:
    """Draws how far every Newton iteration moved the trajectory.

    Close to the solution that is the error of the guess before it.

    Args:
      changes: largest change of an entry of a carry, `[iteration]` by name; exact
        zeros, values above 1e6 and those that are not finite are left out.
      tolerance: where the iteration stops, if anywhere.
    """
    figure = Figure(figsize=(style.WIDTH, 4.4), layout="constrained")
    axes = figure.subplots()
    for index, (name, values) in enumerate(changes.items()):
        shown = np.asarray(values, float)
        shown = np.where((shown > 0) & (shown <= _TOP), shown, np.nan)
        few = len(shown) <= 40
        axes.plot(
            np.arange(1, len(shown) + 1),
            shown,
            label=name,
            marker=style.marker_style(index)["marker"] if few else "",
            markersize=4,
            **style.line_style(index),
        )
    if tolerance is not None:
        axes.axhline(
            tolerance, color="black", linestyle="--", linewidth=1, label="tolerance"
        )
    axes.set_yscale("log")
    axes.set_xlabel("Newton iteration")
    axes.set_ylabel("largest change of a carry")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    axes.margins(x=0.02)
    style.key_above(figure)
    return figure


@style.styled
def draw_newton_iterations(
    exponents: Mapping[str, ArrayLike],
    iterations: Mapping[str, ArrayLike],
    *,
    limit: int,
) -> Figure:
    """Draws how many Newton iterations it took against the Lyapunov exponent.

    Args:
      exponents: largest Lyapunov exponent of the trajectory, nats per step, `[point]`
        by name.
      iterations: until convergence, `[point]` by the same names; `limit` and above
        count as not converged and are hollow.
      limit: where the iteration was given up.
    """
    figure = Figure(figsize=(style.WIDTH, 4.4), layout="constrained")
    axes = figure.subplots()
    for index, (name, values) in enumerate(exponents.items()):
        rates = np.asarray(values, float)
        counts = np.minimum(np.asarray(iterations[name], float), limit)
        open_ = counts >= limit
        mark: dict[str, Any] = style.marker_style(index) | {"markersize": 6}
        axes.plot(rates[~open_], counts[~open_], label=name, **mark)
        axes.plot(rates[open_], counts[open_], markerfacecolor="none", **mark)
    axes.axvline(0, color="black", linewidth=1.2)
    axes.axhline(
        limit,
        color="black",
        linestyle="--",
        linewidth=1,
        label="given up (hollow: not converged)",
    )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("largest Lyapunov exponent (nats per step)")
    axes.set_ylabel("Newton iterations")
    style.key_above(figure)
    return figure
