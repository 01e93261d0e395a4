"""Pictures of gradient flow show the arrays they are given, floors and baselines."""

import functools
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.pictures import (
    curves,
    memory,
    parallel,
    phase,
    spectra,
    style,
    training,
)

ROOT = Path(__file__).parents[2]
LAG = np.arange(101)
VANISHING = np.stack([-0.9 * LAG, -1.0 * LAG, -1.1 * LAG])
POINTS = np.linspace(0.0, 1.0, 6)
STEPS = np.arange(0, 60, 10)


def line(axes: Axes, label: str) -> Line2D:
    (found,) = (line for line in axes.lines if line.get_label() == label)
    return found


def heights(found: Line2D) -> np.ndarray:
    return np.asarray(found.get_ydata(), float)


def texts(figure: Figure) -> str:
    return " | ".join(t.get_text() for x in figure.legends for t in x.get_texts())


def run(lead: float) -> training.Trajectory:
    return training.Trajectory(STEPS, -1 / (1 + STEPS), np.exp(-STEPS), 20.0, 20 + lead)


DRAWINGS: dict[str, Callable[[], Figure]] = {
    "log_norms": lambda: curves.draw_log_norms({"a": VANISHING}, over="lag"),
    "parts": lambda: curves.draw_carry_parts({"a": {"hidden": VANISHING}}),
    "paths": lambda: curves.draw_paths({"a": VANISHING, "b": 0.5 * VANISHING}),
    "lag_matrix": lambda: curves.draw_lag_matrix(np.zeros((2, 9)), [3, 8]),
    "lyapunov": lambda: spectra.draw_lyapunov_spectra({"a": [0.1, -1]}),
    "exponent": lambda: spectra.draw_exponent_curves(POINTS, {"a": POINTS}),
    "singular": lambda: spectra.draw_singular_values([1, 2], {"a": np.eye(2)}),
    "condition": lambda: spectra.draw_condition_numbers([1, 2], {"a": [0, 3]}),
    "eigenvalues": lambda: spectra.draw_eigenvalues({"a": np.ones((2, 3)) * 1j}, "st"),
    "phase": lambda: phase.draw_phase_diagram(
        POINTS, STEPS, np.ones((6, 6)), x_label="x", y_label="y"
    ),
    "bifurcation": lambda: phase.draw_bifurcation(POINTS, np.ones((6, 9))),
    "attractors": lambda: phase.draw_attractors({"a": np.ones((90, 2))}),
    "newton": lambda: parallel.draw_newton_errors({"a": [1, 1e-3, 0, math.nan]}),
    "iterations": lambda: parallel.draw_newton_iterations(
        {"a": [-1, 1]}, {"a": [3, 99]}, limit=50
    ),
    "sensitivity": lambda: memory.draw_sensitivity([0, 0.5, 0.9], {"a": [1, 2, 3]}),
    "lead": lambda: training.draw_lead({"a": run(10)}, baseline=1.0),
    "scoreboard": lambda: training.draw_scoreboard(
        [training.Score("a", 50, True, -0.5, -0.1)]
    ),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_visible_panel_names_its_axes(name: str) -> None:
    figure = DRAWINGS[name]()
    with style.context():
        figure.draw_without_rendering()
    panels = [a for a in figure.axes if a.get_visible() and a.get_subplotspec()]
    assert any(panel.get_xlabel() for panel in panels)
    assert any(panel.get_ylabel() for panel in panels)
    assert figure.get_figwidth() == style.WIDTH


def test_series_differ_without_colour() -> None:
    looks = [(str(style.line_style(i)["linestyle"]), i) for i in range(8)]
    markers = {style.marker_style(i)["marker"] for i in range(8)}
    assert len(markers) == 8
    # Two solid lines are dark blue and light blue.
    assert len({dash for dash, _ in looks}) >= 7


def test_floors_of_float32() -> None:
    tiny = np.finfo(np.float32).tiny
    assert math.exp(style.FLOAT32_FLOOR) == pytest.approx(tiny, rel=1e-6)
    below, above = math.exp(style.NORM_FLOOR - 1), math.exp(style.NORM_FLOOR + 1)
    assert np.float32(below) ** 2 < tiny < np.float32(above) ** 2


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    written = [
        style.save(DRAWINGS["condition"](), tmp_path / name).read_bytes()
        for name in ("a.png", "b.png")
    ]
    assert written[0] == written[1]
    assert b"matplotlib" not in written[0].lower()


# --- Curves -----------------------------------------------------------------------


def test_lines_are_medians_and_floors_are_drawn_where_near() -> None:
    figure = curves.draw_log_norms({"a": VANISHING, "b": 0.0 * LAG}, over="lag")
    axes = figure.axes[0]
    np.testing.assert_array_equal(heights(line(axes, "a")), -1.0 * LAG)
    levels = {round(heights(x)[0], 3) for x in axes.lines if len(heights(x)) == 2}
    assert levels == {round(style.NORM_FLOOR, 3), round(style.FLOAT32_FLOOR, 3)}
    assert "every entry is 0 below -87.3" in texts(figure)
    high = curves.draw_log_norms({"b": 0.0 * LAG}, over="lag")
    assert "float32" not in texts(high)


def test_exact_zeros_end_a_curve_with_a_cross() -> None:
    dying = np.where(LAG > 30, -np.inf, -0.1 * LAG)
    figure = curves.draw_log_norms({"a": dying}, over="lag")
    crosses = [x for x in figure.axes[0].lines if x.get_marker() == "x"]
    assert crosses[0].get_xdata() == [30]
    assert "exactly zero past" in texts(figure)


def test_by_lag_starts_at_the_last_carry_that_is_reached() -> None:
    over_time = np.array([[-3.0, -2.0, -1.0, -np.inf], [-6.0, -4.0, -2.0, -np.inf]])
    np.testing.assert_array_equal(curves.by_lag(over_time), over_time[:, 2::-1])
    relative = curves.by_lag(over_time, relative=True)
    np.testing.assert_array_equal(relative, [[0, -1, -2], [0, -2, -4]])


def test_quantiles_are_values_of_samples() -> None:
    samples = np.array([[-np.inf, 1.0], [0.0, np.nan], [1.0, np.nan]])
    np.testing.assert_array_equal(
        curves.quantiles(samples), [[-np.inf, 1], [0, 1], [1, 1]]
    )


def test_shares_of_paths_add_up_to_one_far_below_the_floor() -> None:
    figure = curves.draw_paths({"a": -1000.0 - LAG, "b": -1000.0 - 2 * LAG})
    shares = [heights(line(figure.axes[1], name)) for name in "ab"]
    np.testing.assert_allclose(shares[0] + shares[1], 1, rtol=1e-12)
    np.testing.assert_allclose(shares[0], 1 / (1 + np.exp(-1.0 * LAG)), rtol=1e-12)


def test_lag_matrix_leaves_out_what_comes_after_the_loss() -> None:
    values = np.array([[-1.0, 0.0, -np.inf, -np.inf], [-np.inf, -2.0, -1.0, 0.0]])
    figure = curves.draw_lag_matrix(values, [1, 3])
    (mesh,) = (c for c in figure.axes[0].collections if isinstance(c, QuadMesh))
    shown = mesh.get_array()
    assert isinstance(shown, np.ma.MaskedArray)
    np.testing.assert_array_equal(shown.mask, [[False, False, True, True], [False] * 4])
    assert shown[1, 0] < -2  # exactly zero, drawn below the scale
    assert figure.axes[0].get_legend() is not None


# --- Spectra, phases, training ----------------------------------------------------


def test_dimension_and_theory_are_marked() -> None:
    figure = spectra.draw_lyapunov_spectra(
        {"a": [0.5, -1.0]}, theory={"a": 0.4}, dimensions={"a": 1.5}
    )
    axes = figure.axes[0]
    mark = line(axes, "a: Kaplan-Yorke dimension 1.5")
    np.testing.assert_array_equal(mark.get_xydata(), [[1.5, 0]])
    assert heights(line(axes, "mean-field theory of the largest")).tolist() == [0.4]
    stable = spectra.draw_lyapunov_spectra({"a": [-1.0]}, dimensions={"a": 0.0})
    assert "dimension" not in texts(stable)


def test_zero_contour_only_where_the_rate_changes_sign() -> None:
    rates = np.broadcast_to(POINTS - 0.5, (6, 6))
    draw = functools.partial(phase.draw_phase_diagram, x_label="x", y_label="y")
    crossing = draw(POINTS, STEPS, rates)
    assert "measured rate 0" in texts(crossing)
    dead = np.where(rates < 0, np.nan, rates - 2)
    figure = draw(POINTS, STEPS, dead)
    assert "measured rate 0" not in texts(figure)
    assert "no rate" in texts(figure)


def test_hollow_marks_are_what_did_not_converge() -> None:
    axes = DRAWINGS["iterations"]().axes[0]
    hollow = [x for x in axes.lines if x.get_markerfacecolor() == "none"]
    assert [heights(x).tolist() for x in hollow] == [[50.0]]
    assert heights(line(axes, "a")).tolist() == [3.0]


def test_scoreboard_fills_what_was_solved() -> None:
    scores = [
        training.Score("a", 50, True, -0.5, -0.1),
        training.Score("a", 100, False, -0.5, -0.2),
    ]
    left = training.draw_scoreboard(scores).axes[0]
    fills = {
        heights(x)[0]: x.get_markerfacecolor()
        for x in left.lines
        if len(heights(x)) == 1
    }
    assert fills == {50: style.BLUE, 100: "none"}


def test_flags_of_the_laboratory_need_no_jax() -> None:
    code = (
        "import sys, experiments.gradient_norms, experiments.lyapunov, "
        "experiments.phase; sys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
