"""Pictures of a run, made only from the files in its directory."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, StrMethodFormatter

from experiments.common import files
from experiments.pictures import style
from experiments.reports import flow_plots, forecast_plots, gradient_plots
from experiments.runs import forecasts, logs, run_dir
from experiments.runs.forecasts import Forecasts

_TRAIN, _VALID, _TEST = style.SKY, style.BLUE, style.VERMILION
_LOG_FROM = 10  # largest over smallest value from which an axis is logarithmic
_PLAIN_BELOW = 30  # up to this ratio a logarithmic axis is labelled 0.2, 0.3, …
_METRICS = {
    "accuracy": "accuracy\n(share of right answers)",
    "label_error_rate": "label error rate\n(errors per right label)",
    "mean_squared_error": "mean squared error",
}
_LOSSES = {
    "forecast": "mean squared error",
    "transcribe": "−ln P of the labels, nats",
}


@dataclasses.dataclass(frozen=True, eq=False)
class RunData:
    """What the pictures of a run are made from.

    Attributes:
      rows: the rows of metrics.jsonl.
      gradients: the arrays of gradient_norms.npz, or None where there is no such file.
      task: name, metric, kind and naive baselines; empty where the run never got there.
      status: how the run ended.
      forecasts: of a series, its test part; None where there are none.
    """

    rows: Sequence[dict[str, Any]]
    gradients: dict[str, np.ndarray] | None
    task: dict[str, Any]
    status: str
    forecasts: Forecasts | None = None

    def series(self, split: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the steps `[n]` and values `[n]` of one split; null becomes NaN."""
        found = [
            (row["step"], np.nan if row[name] is None else row[name])
            for row in self.rows
            if row["split"] == split and name in row
        ]
        steps, values = zip(*found, strict=True) if found else ((), ())
        return np.array(steps, float), np.array(values, float)

    def same(self, first: str, second: str) -> bool:
        """Says whether two columns hold equal numbers, as an error that is the loss."""
        return all(
            np.array_equal(
                self.series(split, first)[1], self.series(split, second)[1], True
            )
            for split in ("train", "valid", "test")
        )


def read_run(path: Path) -> RunData:
    """Reads the files of a run directory.

    Raises:
      ValueError: a file is damaged.
      Exit: run.json is damaged.
    """
    record = run_dir.read_record(path)
    norms = path / "gradient_norms.npz"
    return RunData(
        rows=files.read_json_lines(path / "metrics.jsonl"),
        gradients=logs.read_gradient_norms(norms) if norms.exists() else None,
        task=record.get("task") or {},
        status=record.get("status", "incomplete"),
        forecasts=forecasts.read(path),
    )


@dataclasses.dataclass(frozen=True)
class Picture:
    """One kind of picture.

    Attributes:
      name: file name without its ending.
      title: what it shows.
      reading: one sentence that says how to read it.
      absent: one sentence for a run that it cannot be drawn for; "" leaves it out.
      draw: returns the figure, or None where the run has too little for it.
    """

    name: str
    title: str
    reading: str
    absent: str
    draw: Callable[[RunData], Figure | None]


def draw_plots(path: Path) -> dict[str, Path]:
    """Draws every picture that the files of a run allow, as PNG of 1200 pixels width.

    Args:
      path: the run directory; pictures go to its folder `plots`.

    Returns:
      The file of every picture by the picture's name. One that cannot be drawn is
      absent, and so is any older file of it.
    """
    run = read_run(path)
    folder = path / "plots"
    folder.mkdir(exist_ok=True)
    drawn = {}
    with style.context():
        for picture in PICTURES:
            target = folder / f"{picture.name}.png"
            figure = picture.draw(run)
            if figure is None:
                target.unlink(missing_ok=True)
                continue
            drawn[picture.name] = style.save(figure, target)
    return drawn


def draw_training(run: RunData) -> Figure | None:
    """Draws loss and task metric against the training step."""
    if not any(np.isfinite(run.series(s, "loss")[1]).any() for s in ("train", "valid")):
        return None
    names = ["loss"]
    metric = run.task.get("metric")
    if metric and not run.same("loss", metric):
        names.append(metric)
    figure = Figure(figsize=(8, 3.9 if len(names) == 1 else 3.6), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        _draw_curves(axes, run, name)
        axes.set_xlabel("training step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8 // len(names)))
    _explain(figure, panels[-1])
    return figure


def draw_rate_and_loss(run: RunData) -> Figure | None:
    """Draws the loss above the decay rate of the gradient, on one axis of steps."""
    return _above(run, gradient_plots.draw_decay_rate, 4.9, (1, 1.15))


def draw_channel(run: RunData) -> Figure | None:
    """Draws the loss above the map of the gradient over lag and training step."""
    return _above(run, gradient_plots.draw_lag_map, 6.6, (1, 2))


def draw_gradients_over_time(run: RunData) -> Figure | None:
    """Draws the gradient norm against time at several training steps."""
    if run.gradients is None:
        return None
    return gradient_plots.draw_over_time(run.gradients)


def draw_gradient_rates(run: RunData) -> Figure | None:
    """Draws how the decay rate spreads over the sequences, and the horizon."""
    return None if run.gradients is None else flow_plots.draw_rates(run.gradients)


def draw_lag_shares(run: RunData) -> Figure | None:
    """Draws which lags the parameter gradient comes from."""
    return None if run.gradients is None else flow_plots.draw_shares(run.gradients)


def draw_clipping(run: RunData) -> Figure | None:
    """Draws what clipping does to the gradient, and how often."""
    if run.gradients is None:
        return None
    return flow_plots.draw_clipping(run.gradients, run.series("train", "clip_rate"))


def _of_forecasts(
    draw: Callable[[Forecasts], Figure | None],
) -> Callable[[RunData], Figure | None]:
    return lambda run: None if run.forecasts is None else draw(run.forecasts)


def _above(
    run: RunData,
    draw: Callable[[Axes, dict[str, np.ndarray]], bool],
    height: float,
    ratios: tuple[float, float],
) -> Figure | None:
    """Puts the loss above the panel that `draw` fills."""
    figure = Figure(figsize=(8, height), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=ratios)
    if run.gradients is None or not draw(lower, run.gradients):
        return None
    _draw_curves(upper, run, "loss")
    _explain(figure, upper)
    lower.set_xlabel("training step")
    return figure


def _draw_curves(axes: Axes, run: RunData, name: str) -> None:
    """Draws one quantity of train, valid and test, and its naive baseline."""
    steps, values = run.series("train", name)
    axes.plot(steps, values, color=_TRAIN, linewidth=1, label="train, one batch")
    steps, values = run.series("valid", name)
    few = len(steps) <= 40
    axes.plot(
        steps,
        values,
        color=_VALID,
        linewidth=1.8,
        label="valid",
        marker="o" if few else "",
        markersize=3.5,
    )
    steps, values = run.series("test", name)
    numbers = []
    if np.isfinite(values).any():
        axes.plot(
            steps[-1:],
            values[-1:],
            "*",
            color=_TEST,
            markersize=11,
            label="test",
            linestyle="none",
            clip_on=False,
            zorder=3,
        )
        numbers.append(f"test {values[-1]:.4g}")
    baseline = run.task.get("baseline_loss" if name == "loss" else "baseline_metric")
    if baseline is not None:
        axes.axhline(
            baseline,
            color="black",
            linestyle=(0, (5, 3)),
            linewidth=1.2,
            label="naive baseline",
        )
        numbers.append(f"naive baseline {baseline:.4g}")
    axes.set_title(", ".join(numbers), fontsize=9.5)
    _mark_divergence(axes, run, name)
    _scale(axes, run, name, baseline)
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_ylabel(_axis_name(run, name))


def _scale(axes: Axes, run: RunData, name: str, baseline: float | None) -> None:
    """Chooses a logarithmic axis where that shows more; shares go from 0 to 1."""
    if name == "accuracy":
        axes.set_ylim(-0.02, 1.02)
        return
    values = np.concatenate([run.series(s, name)[1] for s in ("train", "valid")])
    values = np.append(
        values[np.isfinite(values)], [] if baseline is None else baseline
    )
    if values.size and values.min() > 0 and values.max() > _LOG_FROM * values.min():
        axes.set_yscale("log")
        if values.max() < _PLAIN_BELOW * values.min():
            axes.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
            axes.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _mark_divergence(axes: Axes, run: RunData, name: str) -> None:
    """Marks the first step at which a value was not finite."""
    for split in ("train", "valid"):
        steps, values = run.series(split, name)
        if np.isnan(values).any():
            axes.axvline(
                steps[np.isnan(values)][0],
                color=_TEST,
                linestyle=":",
                label="not finite from here",
            )
            return


def _explain(figure: Figure, axes: Axes) -> None:
    """Puts the key of one panel above the whole figure."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5)


def _axis_name(run: RunData, name: str) -> str:
    if name != "loss":
        return _METRICS.get(name, name)
    kind = _LOSSES.get(run.task.get("kind", ""), "cross-entropy, nats")
    kind = "pinball loss" if run.task.get("quantiles") else kind
    return f"loss\n({kind})"


PICTURES = (
    Picture(
        "forecast_errors",
        "Error by steps ahead",
        "A forecast is worth its cost where it lies below all that need no learning; "
        "points below the dashed line say that the interval is too narrow there.",
        "",
        _of_forecasts(forecast_plots.draw_by_lead),
    ),
    Picture(
        "forecast_course",
        "Forecasts over the test part",
        "Where what came leaves the grey range, the model is asked about values that "
        "it never saw in training, where bounded units cannot follow.",
        "",
        _of_forecasts(forecast_plots.draw_course),
    ),
    Picture(
        "forecast_windows",
        "A few windows of the test part",
        "To the left of the line what the model saw, to the right what it said and "
        "what came; the windows are spread evenly, none was picked.",
        "",
        _of_forecasts(forecast_plots.draw_windows),
    ),
    Picture(
        "training",
        "Loss and task metric",
        "A model has learnt something only where its curve leaves the dashed line, "
        "the best answer that does not look at the input.",
        "Nothing was logged yet.",
        draw_training,
    ),
    Picture(
        "gradient_over_time",
        "Gradient norm against time",
        "Read from right to left, the way the gradient travels: a straight fall is "
        "exponential vanishing, a rise is explosion, a level line is memory kept; the "
        "band holds the middle sequences of the batch.",
        "Not drawn: no gradient norms were recorded (--gradient_every).",
        draw_gradients_over_time,
    ),
    Picture(
        "gradient_channel",
        "How far back the gradient reaches while training",
        "A column is one training step: the higher the bright colours climb, the "
        "further back the loss is felt; watch whether the channel opens before the "
        "loss falls.",
        "Not drawn: it needs two measurements of the gradient (--gradient_every).",
        draw_channel,
    ),
    Picture(
        "decay_rate",
        "Decay rate of the gradient beside the loss",
        "Below the zero line gradients vanish, above it they explode; the axis on the "
        "right turns a rate into the number of steps over which the gradient halves.",
        "Not drawn: no decay rate was recorded (--gradient_every).",
        draw_rate_and_loss,
    ),
    Picture(
        "decay_rates",
        "Spread of the decay rate, and the gradient's horizon",
        "A wide band means that sequences differ in how far back they are felt. The "
        "horizon is the longest lag whose gradient float32 still tells apart from "
        "zero beside the one at lag 0, in the median sequence.",
        "Not drawn: it needs two measurements of the gradient (--gradient_every).",
        draw_gradient_rates,
    ),
    Picture(
        "lag_shares",
        "Where in time the parameter gradient comes from",
        "What the cell's parameters are told by the steps that lie so far before the "
        "output they act through, as shares of the buckets' norms; while the channel "
        "is closed, the long lags say next to nothing.",
        "Not drawn: it needs two measurements of the shares by lag (--gradient_every, "
        "--lag_sequences), and a cell that reads in one direction.",
        draw_lag_shares,
    ),
    Picture(
        "clipping",
        "What clipping does to the gradient",
        "Where the upper curves part, clipping shortens the gradient. A cosine of 1 "
        "means that it keeps the direction, as clipping by the norm always does.",
        "Not drawn: nothing was clipped (--clip_norm, --clip_value), or the gradient "
        "was not measured twice (--gradient_every).",
        draw_clipping,
    ),
)
