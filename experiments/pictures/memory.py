"""Sensitivity of a linear memory to its eigenvalue: the curse of memory."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from experiments.pictures import style


@style.styled
def draw_sensitivity(
    eigenvalues: ArrayLike,
    measured: Mapping[str, ArrayLike],
    *,
    theory: Mapping[str, ArrayLike] | None = None,
) -> Figure:
    """Draws sizes and sensitivities of a linear recurrence against its memory.

    The horizontal axis is 1 / (1 − λ), the steps that the memory lasts.

    Args:
      eigenvalues: λ in [0, 1), `[point]`, ascending.
      measured: such as E[h²] and E[(dh/dλ)²], `[point]` by name; marks.
      theory: closed forms by name, `[point]`; black lines.
    """
    values = np.asarray(eigenvalues, float)
    steps = 1 / (1 - values)
    figure = Figure(figsize=(style.WIDTH, 4.6), layout="constrained")
    axes = figure.subplots()
    dashes = ("-", (0, (5, 2)), ":", (0, (5, 2, 1, 2)))
    for (name, curve), dash in zip((theory or {}).items(), dashes * 2, strict=False):
        axes.plot(steps, curve, color="black", linestyle=dash, lw=1.3, label=name)
    for index, (name, curve) in enumerate(measured.items()):
        axes.plot(steps, curve, label=name, **style.marker_style(index))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("memory 1 / (1 − λ) (steps)")
    axes.set_ylabel("mean square")
    upper = axes.secondary_xaxis("top", functions=(lambda x: x, lambda x: x))
    longest = steps[-1] * (1 + 1e-9)
    marks = [t for t in (1, 2, 10, 100, 1000, 10_000) if steps[0] <= t <= longest]
    upper.set_xticks(marks, labels=[f"{1 - 1 / t:.6g}" for t in marks])
    upper.minorticks_off()
    upper.set_xlabel("eigenvalue λ")
    style.key_above(figure, columns=3)
    return figure
