"""What training does to gradient flow: lead of the slope, and a scoreboard."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import ArrayLike

from experiments.pictures import style


class Trajectory(NamedTuple):
    """One run, measured at several training steps.

    Attributes:
      steps: training steps, `[point]`.
      rates: decay rates, nats per step, `[point]`.
      losses: `[point]`.
      opens_at: training step at which the rate counts as open, or NaN.
      learns_at: training step at which the loss counts as learnt, or NaN.
    """

    steps: ArrayLike
    rates: ArrayLike
    losses: ArrayLike
    opens_at: float = float("nan")
    learns_at: float = float("nan")


@style.styled
def draw_lead(
    runs: Mapping[str, Trajectory],
    *,
    baseline: float | None = None,
    loss_label: str = "validation loss",
) -> Figure:
    """Draws decay rate and loss of each run, and one against the other.

    On the left both against the training step, with the steps at which the channel
    opens (▲) and the loss falls (▼); on the right the way of each run from its first
    point (hollow) to its last (filled).

    Args:
      runs: by name.
      baseline: loss of a guess without memory.
      loss_label: what the loss is, with its unit.
    """
    figure = Figure(figsize=(style.WIDTH, 6), layout="constrained")
    panels = figure.subplot_mosaic(
        [["loss", "plane"], ["rate", "plane"]], width_ratios=(1.25, 1)
    )
    loss, rate, plane = panels["loss"], panels["rate"], panels["plane"]
    rate.sharex(loss)
    for index, (name, run) in enumerate(runs.items()):
        steps, rates, losses = (np.asarray(part, float) for part in run[:3])
        look = style.line_style(index)
        loss.plot(steps, losses, label=name, **look)
        rate.plot(steps, rates, **look)
        _mark_event(loss, run.learns_at, steps, losses, "v", look["color"])
        _mark_event(rate, run.opens_at, steps, rates, "^", look["color"])
        plane.plot(rates, losses, **look)
        ends: dict[str, Any] = {"color": look["color"], "marker": "o", "markersize": 6}
        plane.plot(rates[:1], losses[:1], markerfacecolor="white", **ends)
        plane.plot(rates[-1:], losses[-1:], **ends)
    for axes in (loss, plane):
        axes.set_yscale("log")
        axes.set_ylabel(loss_label)
        if baseline is not None:
            axes.axhline(baseline, color="black", linestyle=(0, (5, 3)), linewidth=1.2)
    rate.axhline(0, color="black", linewidth=1)
    plane.axvline(0, color="black", linewidth=1)
    loss.tick_params(labelbottom=False)
    rate.set(xlabel="training step", ylabel="decay rate (nats per step)")
    rate.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    rate.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    plane.set_xlabel("decay rate (nats per step)")
    style.key_above(figure, columns=5)
    figure.legend(handles=_lead_notes(baseline), loc="outside lower center", ncols=3)
    return figure


def _mark_event(
    axes: Axes,
    step: float,
    steps: np.ndarray,
    values: np.ndarray,
    marker: str,
    colour: str,
) -> None:
    if np.isfinite(step):
        height = np.interp(step, steps, values)
        axes.plot(step, height, marker, color=colour, markersize=8, zorder=4)


def _lead_notes(baseline: float | None) -> list[Line2D]:
    grey: dict[str, Any] = {"color": "#444444", "linestyle": "none"}
    notes = [
        Line2D([], [], marker="^", label="the channel opens", **grey),
        Line2D([], [], marker="v", label="the loss falls", **grey),
    ]
    if baseline is not None:
        name = "guess without memory"
        notes.append(Line2D([], [], color="black", linestyle=(0, (5, 3)), label=name))
    return notes


class Score(NamedTuple):
    """One run of the scoreboard.

    Attributes:
      name: cell or method; runs of one name share a mark.
      length: T of the task, steps.
      solved: whether it was solved.
      initial_rate: decay rate before training, nats per step.
      final_rate: decay rate after training, nats per step.
    """

    name: str
    length: int
    solved: bool
    initial_rate: float
    final_rate: float


@style.styled
def draw_scoreboard(scores: list[Score]) -> Figure:
    """Draws which tasks were solved against initial and final decay rate.

    Filled marks are solved. Left of the dotted curve the gradient of the first step
    is below what a float32 norm can show, by the rate alone.

    Args:
      scores: of all runs.
    """
    figure = Figure(figsize=(style.WIDTH, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    names = list(dict.fromkeys(score.name for score in scores))
    marks = {name: style.marker_style(index) for index, name in enumerate(names)}
    for axes, field in ((left, "initial_rate"), (right, "final_rate")):
        for score in scores:
            mark: dict[str, Any] = marks[score.name] | {"markersize": 8}
            fill = mark["color"] if score.solved else "none"
            rate = getattr(score, field)
            axes.plot(rate, score.length, **mark | {"markerfacecolor": fill})
        lengths = np.geomspace(*_span([score.length for score in scores]), 200)
        axes.plot(style.NORM_FLOOR / lengths, lengths, color="black", linestyle=":")
        axes.axvline(0, color="black", linewidth=1)
        axes.set_yscale("log")
        axes.set_ylim(lengths[0], lengths[-1])
        axes.set_xlabel(f"{field.replace('_', ' decay ')} (nats per step)")
    ticks = sorted({score.length for score in scores})
    left.set_yticks(ticks, labels=[f"{tick:,}" for tick in ticks])
    left.minorticks_off()
    left.set_ylabel("length T of the task (steps)")
    rates = [rate for score in scores for rate in score[3:]]
    margin = 0.08 * max(np.ptp([0.0, *rates]), 1e-3)
    left.set_xlim(min(0, *rates) - margin, max(0, *rates) + margin)
    left.set_title("before training")
    right.set_title("after training")
    handles = [Line2D([], [], label=name, **mark) for name, mark in marks.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=6)
    figure.legend(handles=_score_notes(), loc="outside lower center", ncols=3)
    return figure


def _span(lengths: list[int]) -> tuple[float, float]:
    return 0.8 * min(lengths), 1.25 * max(lengths)


def _score_notes() -> list[Line2D]:
    grey: dict[str, Any] = {"color": "#444444", "linestyle": "none", "marker": "o"}
    floor = f"rate · T = {style.NORM_FLOOR:.1f}: float32 norm reads 0"
    return [
        Line2D([], [], label="solved", **grey),
        Line2D([], [], label="not solved", markerfacecolor="none", **grey),
        Line2D([], [], color="black", linestyle=":", label=floor),
    ]
