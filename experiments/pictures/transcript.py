"""What a model hears in every frame of a sequence whose labels have no places."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from experiments.pictures import style

_NAMED_FROM = 0.3  # probability of a label whose peak is named


@style.styled
def draw_transcript(
    probabilities: ArrayLike, classes: Sequence[str], labels: Sequence[int]
) -> Figure:
    """Draws the probability of every label against the frame, peaks named.

    The blank is dashed and grey. Labels that are neither right nor ever likely share a
    curve, the likeliest of them in each frame.

    Args:
      probabilities: `[time, classes]`; class 0 is the blank.
      classes: their names.
      labels: the right classes, in their order.
    """
    shares = np.asarray(probabilities, float)
    frames = np.arange(1, len(shares) + 1)
    figure = Figure(figsize=(style.WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        frames, shares[:, 0], color=style.GREY, linestyle=(0, (4, 2)), label="blank"
    )
    likely = 1 + np.flatnonzero(shares[:, 1:].max(axis=0) > _NAMED_FROM)
    shown = sorted({*labels, *likely.tolist()})
    for index, label in enumerate(shown):
        curve = shares[:, label]
        axes.plot(frames, curve, label=classes[label], **style.line_style(index))
        for start, stop in _stretches(curve > _NAMED_FROM):
            peak = start + int(curve[start:stop].argmax())
            axes.annotate(
                classes[label],
                (frames[peak], curve[peak]),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontweight="bold",
            )
    others = [label for label in range(1, len(classes)) if label not in shown]
    if others:
        rest = shares[:, others].max(axis=1)
        axes.plot(frames, rest, color=style.BLACK, linewidth=0.8, label="any other")
    axes.set_ylim(-0.02, 1.12)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("frame")
    axes.set_ylabel("probability")
    axes.set_title(f"said: {' '.join(classes[label] for label in labels)}")
    style.key_above(figure, columns=9)
    return figure


def _stretches(marked: np.ndarray) -> list[tuple[int, int]]:
    """Where runs of True begin and end."""
    edges = np.flatnonzero(np.diff(marked.astype(int), prepend=0, append=0))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
