"""Spectra: Lyapunov exponents, singular values of long products, eigenvalues."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import ArrayLike

from experiments.pictures import style

_MAX_COLUMNS = 4
_SHARES = (100, 90, 50, 10, 0)  # quantiles of the singular values, percent


@style.styled
def draw_lyapunov_spectra(
    spectra: Mapping[str, ArrayLike],
    *,
    standard_errors: Mapping[str, ArrayLike] | None = None,
    theory: Mapping[str, ArrayLike] | None = None,
    dimensions: Mapping[str, float] | None = None,
) -> Figure:
    """Draws Lyapunov exponents against their rank, with the zero line.

    Args:
      spectra: exponents in nats per step, `[exponent]` descending, by name.
      standard_errors: of the exponents, by the same names.
      theory: a mean-field spectrum by name, drawn over that of the same name;
        either `[exponent]` values or one number, the largest exponent.
      dimensions: Kaplan-Yorke dimension by name; NaN and 0 are not marked.
    """
    figure = Figure(figsize=(style.WIDTH, 4.6), layout="constrained")
    axes = figure.subplots()
    for index, (name, values) in enumerate(spectra.items()):
        exponents = np.asarray(values, float)
        ranks = np.arange(1, len(exponents) + 1)
        look, mark = style.line_style(index), style.marker_style(index)
        marker = mark["marker"] if len(ranks) <= 40 else ""
        axes.plot(ranks, exponents, marker=marker, markersize=4, label=name, **look)
        _draw_errors(axes, ranks, exponents, (standard_errors or {}).get(name), index)
        _draw_theory(axes, (theory or {}).get(name), index)
        dimension = (dimensions or {}).get(name, 0.0)
        if np.isfinite(dimension) and dimension > 0:
            axes.plot(
                dimension,
                0,
                clip_on=False,
                zorder=5,
                **mark | {"markersize": 10, "markerfacecolor": "white"},
                label=f"{name}: Kaplan-Yorke dimension {dimension:.3g}",
            )
    axes.axhline(0, color="black", linewidth=1.2)
    axes.set_xlabel("rank of the exponent")
    axes.set_ylabel("Lyapunov exponent (nats per step)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.margins(x=0.02)
    style.key_above(figure, columns=3)
    return figure


def _draw_errors(
    axes: Axes,
    ranks: np.ndarray,
    exponents: np.ndarray,
    errors: ArrayLike | None,
    index: int,
) -> None:
    if errors is None:
        return
    half = 2 * np.asarray(errors, float)
    colour = style.line_style(index)["color"]
    axes.fill_between(
        ranks, exponents - half, exponents + half, color=colour, alpha=0.2, linewidth=0
    )


def _draw_theory(axes: Axes, theory: ArrayLike | None, index: int) -> None:
    """Draws a predicted spectrum as hollow marks, or the largest one as a star."""
    if theory is None:
        return
    values = np.atleast_1d(np.asarray(theory, float))
    every = max(1, len(values) // 20)
    axes.plot(
        np.arange(1, len(values) + 1)[::every],
        values[::every],
        **style.marker_style(index)
        | {"markerfacecolor": "none", "markersize": 8, "color": "black"},
        label="theory" if len(values) > 1 else "mean-field theory of the largest",
    )


@style.styled
def draw_exponent_curves(
    parameter: ArrayLike,
    exponents: Mapping[str, ArrayLike],
    *,
    theory: Mapping[str, ArrayLike] | None = None,
    parameter_label: str = "gain g",
    label: str = "largest Lyapunov exponent (nats per step)",
    critical: float | None = None,
) -> Figure:
    """Draws an exponent against a parameter, with theory as black lines.

    Args:
      parameter: `[point]`.
      exponents: `[point]` or `[sample, point]` by name; marks at the median, bars from
        the smallest to the largest sample.
      theory: `[point]` by name.
      parameter_label: the horizontal axis, with its unit if it has one.
      label: the vertical axis.
      critical: where theory puts the transition, if anywhere.
    """
    figure = Figure(figsize=(style.WIDTH, 4.4), layout="constrained")
    axes = figure.subplots()
    where = np.asarray(parameter, float)
    dashes = ("-", (0, (5, 2)), ":")
    for (name, values), dash in zip((theory or {}).items(), dashes * 3, strict=False):
        axes.plot(where, values, color="black", linestyle=dash, label=name, lw=1.3)
    for index, (name, values) in enumerate(exponents.items()):
        samples = np.atleast_2d(np.asarray(values, float))
        middle = np.median(samples, axis=0)
        bars = np.stack([middle - samples.min(axis=0), samples.max(axis=0) - middle])
        mark = style.marker_style(index)
        axes.errorbar(where, middle, bars, capsize=2, elinewidth=1, label=name, **mark)
    axes.axhline(0, color="black", linewidth=1)
    if critical is not None:
        axes.axvline(critical, color=style.GREY, linestyle="--", label="critical")
    axes.set_xlabel(parameter_label)
    axes.set_ylabel(label)
    style.key_above(figure)
    return figure


@style.styled
def draw_singular_values(
    lengths: ArrayLike, log_values: Mapping[str, ArrayLike]
) -> Figure:
    """Draws the log singular values of products of Jacobians against their length.

    An isometry keeps all of them at zero; a spreading fan says that the product
    approaches rank one, even where its largest value stays level.

    Args:
      lengths: number of factors, `[length]`, ascending.
      log_values: ln σ by name, `[length, value]` descending, one panel each.
    """
    columns = min(len(log_values), _MAX_COLUMNS)
    rows = -(-len(log_values) // columns)
    figure = Figure(figsize=(style.WIDTH, 1 + 3 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    steps = np.asarray(lengths)
    for axes, (name, values) in zip(grid.flat, log_values.items(), strict=False):
        _draw_fan(axes, steps, np.asarray(values, float))
        axes.set_title(name)
        axes.axhline(0, color="black", linewidth=1, linestyle="--")
        axes.set_xlabel("steps of the product")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    for axes in grid.flat[len(log_values) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("ln singular value (nats)")
    style.key_above(figure, columns=5)
    return figure


def _draw_fan(axes: Axes, steps: np.ndarray, values: np.ndarray) -> None:
    """Draws extremes, median and outer tenths of the values of every length."""
    finite = np.where(np.isfinite(values), values, np.nan)
    lines = {share: np.nanquantile(finite, share / 100, axis=1) for share in _SHARES}
    axes.fill_between(
        steps, lines[0], lines[100], color=style.SKY, alpha=0.25, linewidth=0
    )
    axes.fill_between(
        steps,
        lines[10],
        lines[90],
        color=style.SKY,
        alpha=0.45,
        linewidth=0,
        label="middle 80%",
    )
    looks = {
        100: ("largest", style.BLUE, "-"),
        50: ("median", "black", (0, (5, 1.5))),
        0: ("smallest", style.VERMILION, (0, (1, 1.2))),
    }
    for share, (name, colour, dash) in looks.items():
        axes.plot(steps, lines[share], color=colour, linestyle=dash, label=name, lw=1.7)


@style.styled
def draw_condition_numbers(
    lengths: ArrayLike, log_condition_numbers: Mapping[str, ArrayLike]
) -> Figure:
    """Draws ln κ of products of Jacobians, ln largest − ln smallest singular value.

    Args:
      lengths: number of factors, `[length]`.
      log_condition_numbers: `[length]` by name.
    """
    figure = Figure(figsize=(style.WIDTH, 4.2), layout="constrained")
    axes = figure.subplots()
    for index, (name, values) in enumerate(log_condition_numbers.items()):
        axes.plot(np.asarray(lengths), values, label=name, **style.line_style(index))
    axes.axhline(0, color="black", linewidth=1, linestyle="--", label="isometry")
    axes.set_xlabel("steps of the product")
    axes.set_ylabel("ln condition number (nats)")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    style.add_powers(axes, "condition number")
    style.key_above(figure)
    return figure


@style.styled
def draw_eigenvalues(
    clouds: Mapping[str, ArrayLike], snapshots: Sequence[str] = ("",)
) -> Figure:
    """Draws clouds of eigenvalues in the complex plane around the unit circle.

    Args:
      clouds: complex, `[snapshot, eigenvalue]` by name; a row of panels each, or one
        panel each where there is one snapshot. The first cloud of a row stays visible
        behind the later ones.
      snapshots: when they were taken, such as `step 100`.
    """
    arrays = {name: np.asarray(values) for name, values in clouds.items()}
    one = len(snapshots) == 1
    columns = min(len(arrays), _MAX_COLUMNS) if one else len(snapshots)
    rows = -(-len(arrays) * len(snapshots) // columns)
    panel = min(style.WIDTH / columns, 4.6)
    figure = Figure(
        figsize=(style.WIDTH, 0.7 + 1.2 * panel * rows), layout="compressed"
    )
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    reach = 1.08 * max(1.0, *(float(np.max(np.abs(a))) for a in arrays.values()))
    panels = [
        (name, values, index)
        for name, values in arrays.items()
        for index in range(len(snapshots))
    ]
    for axes, (name, values, index) in zip(grid.flat, panels, strict=False):
        _draw_cloud(axes, values[index], values[0] if index else None, snapshots[0])
        title = ", ".join(filter(None, (name, snapshots[index])))
        axes.set_title(f"{title}\nlargest |λ| = {np.max(np.abs(values[index])):.4g}")
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-reach, reach)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes in grid.flat[len(panels) - columns : len(panels)]:
        axes.set_xlabel("real part")
        axes.tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel("imaginary part")
    style.key_above(figure)
    return figure


def _draw_cloud(
    axes: Axes, cloud: np.ndarray, first: np.ndarray | None, when: str
) -> None:
    angles = np.linspace(0, 2 * np.pi, 400)
    axes.plot(np.cos(angles), np.sin(angles), color="black", lw=1, label="|λ| = 1")
    dots: dict[str, Any] = {"linestyle": "none"}
    if first is not None:
        dots |= {"marker": ".", "color": style.ZERO_COLOUR, "markersize": 4}
        axes.plot(np.real(first), np.imag(first), label=when, **dots)
    dots |= {"marker": "o", "color": style.BLUE, "markersize": 3}
    axes.plot(np.real(cloud), np.imag(cloud), label="eigenvalues", **dots)
    axes.set_aspect("equal")
