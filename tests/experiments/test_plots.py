"""Pictures show the numbers in the files, and survive runs that went wrong."""

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from experiments.reports import plots
from experiments.reports.plots import PICTURES, RunData, draw_plots, read_run
from tests.experiments.synthetic_run import (
    CLASSIFY,
    FORECAST,
    STEPS,
    gradient_arrays,
    metric_rows,
    write_run,
)

NAMES = (
    *("training", "gradient_over_time", "gradient_channel", "decay_rate"),
    *("decay_rates", "lag_shares", "clipping"),
)
OLD = ("steps", "parts", "quantiles", "log_norms", "decay_rate", "half_life")


def run_data(**changes: Any) -> RunData:
    entries: dict[str, Any] = {
        "rows": metric_rows(),
        "gradients": gradient_arrays(),
        "task": FORECAST,
        "status": "done",
    }
    return RunData(**entries | changes)


def draw(name: str, run: RunData) -> Figure:
    """Draws a picture as far as positions and texts are settled."""
    figure = next(p for p in PICTURES if p.name == name).draw(run)
    assert figure is not None
    figure.draw_without_rendering()
    return figure


def line(figure: Figure, label: str, panel: int = 0) -> tuple[np.ndarray, np.ndarray]:
    (found,) = (x for x in figure.axes[panel].lines if x.get_label() == label)
    return np.asarray(found.get_xdata(), float), np.asarray(found.get_ydata(), float)


def texts(figure: Figure) -> str:
    legends = [*figure.legends, *(a.get_legend() for a in figure.axes)]
    return " | ".join(t.get_text() for legend in legends if legend
                      for t in legend.get_texts())  # fmt: skip


def test_pictures_are_files_of_1200_pixels(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", arrays=gradient_arrays())
    drawn = draw_plots(path)
    assert tuple(drawn) == NAMES
    for name, file in drawn.items():
        assert file == path / "plots" / f"{name}.png"
        data = file.read_bytes()
        assert data.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", data[16:24])
        assert width == 1200
        assert 500 < height < 1100
        assert len(data) < 400_000


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", arrays=gradient_arrays())
    first = {name: file.read_bytes() for name, file in draw_plots(path).items()}
    assert {n: f.read_bytes() for n, f in draw_plots(path).items()} == first


def test_a_run_of_an_older_version_still_has_its_pictures(tmp_path: Path) -> None:
    arrays = {name: gradient_arrays()[name] for name in OLD}
    assert tuple(draw_plots(write_run(tmp_path / "run", arrays=arrays))) == NAMES[:4]


def test_pictures_of_an_older_state_are_removed(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", arrays=gradient_arrays())
    draw_plots(path)
    (path / "gradient_norms.npz").unlink()
    assert list(draw_plots(path)) == ["training"]
    assert [file.name for file in (path / "plots").iterdir()] == ["training.png"]


def test_null_is_read_as_nan(tmp_path: Path) -> None:
    rows = [*metric_rows(), {"step": 350, "split": "train", "loss": None}]
    run = read_run(write_run(tmp_path / "run", rows=rows, status="diverged"))
    steps, values = run.series("train", "loss")
    assert steps[-1] == 350
    assert math.isnan(values[-1])
    assert run.status == "diverged"
    assert len(run.series("valid", "accuracy")[0]) == 0


# --- Loss and metric --------------------------------------------------------------


def test_an_error_that_is_the_loss_is_drawn_once() -> None:
    figure = draw("training", run_data())
    (axes,) = figure.axes
    steps, values = line(figure, "valid")
    np.testing.assert_array_equal(steps, STEPS)
    np.testing.assert_allclose(values, np.exp(-STEPS / 50))
    assert axes.get_yscale() == "log"
    assert line(figure, "naive baseline")[1].tolist() == [1 / 6, 1 / 6]
    assert axes.get_title() == "test 0.002479, naive baseline 0.1667"
    assert axes.get_xlabel() == "training step"
    assert axes.get_ylabel() == "loss\n(mean squared error)"


def test_accuracy_has_its_own_panel() -> None:
    rows = metric_rows("accuracy")
    figure = draw("training", run_data(rows=rows, task=CLASSIFY))
    loss, accuracy = figure.axes
    assert loss.get_ylabel() == "loss\n(cross-entropy, nats)"
    assert line(figure, "naive baseline", 0)[1][0] == pytest.approx(math.log(10))
    assert line(figure, "naive baseline", 1)[1][0] == 0.1135
    assert accuracy.get_yscale() == "linear"
    assert accuracy.get_ylim() == (-0.02, 1.02)
    np.testing.assert_allclose(line(figure, "valid", 1)[1], 1 - np.exp(-STEPS / 50))


def test_a_narrow_range_stays_linear() -> None:
    rows = [
        {"step": step, "split": "train", "loss": 0.2 - step / 10_000}
        for step in range(100)
    ]
    assert draw("training", run_data(rows=rows)).axes[0].get_yscale() == "linear"


def test_divergence_is_marked_at_its_first_step() -> None:
    rows = metric_rows()
    for row in rows:
        if row["step"] >= 200:
            row["loss"] = row["mean_squared_error"] = None
    figure = draw("training", run_data(rows=rows, status="diverged"))
    assert line(figure, "not finite from here")[0].tolist() == [200, 200]
    assert "not finite from here" in texts(figure)
    assert "not finite from here" not in texts(draw("training", run_data()))


# --- Gradient norm against time ---------------------------------------------------


def test_curves_are_the_medians_of_the_files() -> None:
    arrays = gradient_arrays()
    figure = draw("gradient_over_time", run_data(gradients=arrays))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["hidden", "cell", "whole carry"]
    chosen = [0, 1, 2, 4, 6]
    for axes in figure.axes:
        assert axes.get_xlabel() == "time t (steps)"
        for curve, index in zip(axes.lines, chosen, strict=True):
            np.testing.assert_array_equal(curve.get_xdata(), np.arange(41))
            np.testing.assert_array_equal(
                curve.get_ydata(), arrays["log_norms"][index, 0, 1]
            )
        assert len(axes.collections) == len(chosen)  # the bands
    assert figure.axes[0].get_ylabel() == "ln gradient norm (nats)"
    for words in ("step 0", "step 100", "step 300", "median", "middle 80%"):
        assert words in texts(figure)


@pytest.mark.parametrize("count", [1, 2, 5, 6, 7, 100, 3001])
def test_at_most_six_steps_first_and_last_among_them(count: int) -> None:
    arrays = gradient_arrays(("hidden", "joint"), num_steps=3)
    arrays["log_norms"] = np.repeat(arrays["log_norms"][:1], count, axis=0)
    arrays["steps"] = np.arange(count)
    figure = draw("gradient_over_time", run_data(gradients=arrays))
    legend = figure.legends[0].get_texts()
    steps = [int(t.get_text().split()[1].replace(",", "")) for t in legend]
    assert steps[0] == 0
    assert steps[-1] == count - 1
    assert steps == sorted(set(steps))
    assert min(count, 4) <= len(steps) <= 6


def test_a_carry_of_one_part_is_drawn_once() -> None:
    arrays = gradient_arrays(("hidden", "joint"))
    figure = draw("gradient_over_time", run_data(gradients=arrays))
    assert [axes.get_title() for axes in figure.axes] == ["hidden"]


def test_many_parts_fill_rows_of_three() -> None:
    parts = tuple(f"{i}.{name}" for i in (0, 1) for name in ("hidden", "cell"))
    arrays = gradient_arrays((*parts, "joint"))
    figure = draw("gradient_over_time", run_data(gradients=arrays))
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == [*parts, "whole carry"]
    assert shown[2].get_xlabel() == "time t (steps)"  # nothing stands below it


def test_the_float32_floor_is_drawn_only_near_it() -> None:
    floor = math.log(np.finfo(np.float32).tiny)
    far = draw("gradient_over_time", run_data())
    assert "float32" not in texts(far)
    arrays = gradient_arrays(num_steps=100)
    near = draw("gradient_over_time", run_data(gradients=arrays))
    assert "smallest normal float32 (ln = −87.3)" in texts(near)
    for axes in near.axes:
        assert axes.lines[-1].get_ydata() == pytest.approx([floor, floor])


def test_the_axis_on_the_right_reads_in_powers_of_ten() -> None:
    figure = draw("gradient_over_time", run_data())
    (right,) = figure.axes[-1].child_axes
    low, high = figure.axes[-1].get_ylim()
    np.testing.assert_allclose(
        right.get_ylim(), (low / math.log(10), high / math.log(10))
    )
    assert right.get_ylabel() == "gradient norm"


def test_exact_zeros_are_gaps_with_a_mark() -> None:
    arrays = gradient_arrays(("hidden", "joint"))
    arrays["log_norms"][..., :10] = -np.inf
    figure = draw("gradient_over_time", run_data(gradients=arrays))
    curve, mark = figure.axes[0].lines[:2]
    assert np.isnan(np.asarray(curve.get_ydata(), float)).sum() == 10
    assert np.asarray(mark.get_xdata()).tolist() == [10]
    assert "exactly zero before" in texts(figure)


def test_a_final_carry_without_loss_is_left_out() -> None:
    arrays = gradient_arrays(("hidden", "joint"))
    arrays["log_norms"][..., -1] = -np.inf
    run = run_data(gradients=arrays)
    figure = draw("gradient_over_time", run)
    assert figure.axes[0].get_xlim() == (0, 39)
    assert "exactly zero" not in texts(figure)
    # Lag 0 is then the carry before.
    (mesh,) = (c for c in draw("gradient_channel", run).axes[1].collections
               if isinstance(c, QuadMesh))  # fmt: skip
    assert np.asarray(mesh.get_array())[:2, 0] == pytest.approx([0, -1])


# --- Map over lag and step --------------------------------------------------------


def lag_map(figure: Figure) -> np.ma.MaskedArray:
    (mesh,) = (c for c in figure.axes[1].collections if isinstance(c, QuadMesh))
    return np.ma.asarray(mesh.get_array())


def test_the_map_holds_the_joint_median_relative_to_lag_0() -> None:
    arrays = gradient_arrays()
    arrays["log_norms"][:, 0] = 99  # another part must not matter
    arrays["log_norms"] += np.float32(5)  # nor must a common factor
    figure = draw("gradient_channel", run_data(gradients=arrays))
    rates = -1 / (1 + STEPS / 50)
    expected = np.arange(41)[:, None] * rates
    # float32 in the file
    np.testing.assert_allclose(lag_map(figure), expected, atol=1e-5)
    lower = figure.axes[1]
    assert lower.get_ylabel() == "lag (steps back in time)"
    assert lower.get_xlabel() == "training step"
    assert figure.axes[0].get_ylabel().startswith("loss")
    assert lower.get_shared_x_axes().joined(lower, figure.axes[0])
    assert figure.axes[2].get_ylabel() == "gradient norm / its value at lag 0"
    assert "exactly zero" not in texts(figure)


def test_exact_zeros_have_their_own_colour() -> None:
    arrays = gradient_arrays()
    arrays["log_norms"][0, :, :, :10] = -np.inf
    figure = draw("gradient_channel", run_data(gradients=arrays))
    (mesh,) = (c for c in figure.axes[1].collections if isinstance(c, QuadMesh))
    colours = mesh.to_rgba(lag_map(figure))
    np.testing.assert_allclose(colours[-1, 0, :3], [0xB3 / 255] * 3)
    assert not np.allclose(colours[-1, 1], colours[-1, 0])
    assert "exactly zero" in texts(figure)


def test_long_sequences_are_thinned_out() -> None:
    arrays = gradient_arrays(("hidden", "joint"), num_steps=30_000)
    figure = draw("gradient_channel", run_data(gradients=arrays))
    assert lag_map(figure).shape[0] <= 1000
    assert figure.axes[1].get_ylim()[1] > 29_000


def test_the_map_needs_two_measurements() -> None:
    arrays = gradient_arrays()
    short = {k: v if k in ("parts", "quantiles") else v[:1] for k, v in arrays.items()}
    assert plots.draw_channel(run_data(gradients=short)) is None
    assert plots.draw_rate_and_loss(run_data(gradients=short)) is not None


# --- Decay rate -------------------------------------------------------------------


def test_rates_and_half_lives() -> None:
    arrays = gradient_arrays()
    arrays["half_life"][-2:] = np.nan
    figure = draw("decay_rate", run_data(gradients=arrays))
    lower = figure.axes[1]
    settled, hollow = lower.lines[1:3]
    np.testing.assert_array_equal(settled.get_xdata(), STEPS[:-2])
    np.testing.assert_array_equal(settled.get_ydata(), arrays["decay_rate"][:-2])
    np.testing.assert_array_equal(hollow.get_xdata(), STEPS[-2:])
    assert hollow.get_markerfacecolor() == "white"
    assert f"last: {5 * math.log(2):.3g} steps" in texts(figure)
    assert lower.get_ylabel() == "decay rate (nats per step)"
    (right,) = lower.child_axes
    assert right.get_ylabel() == "half-life (steps)"
    marks = {t.get_text(): t.get_position()[1] for t in right.get_yticklabels()}
    assert marks["∞"] == 0
    assert marks["1"] == pytest.approx(-math.log(2))
    assert marks["2"] == pytest.approx(-math.log(2) / 2)


def test_explosion_is_read_as_doubling() -> None:
    arrays = gradient_arrays()
    arrays["decay_rate"] = -arrays["decay_rate"]
    figure = draw("decay_rate", run_data(gradients=arrays))
    (right,) = figure.axes[1].child_axes
    assert "doubling time" in right.get_ylabel()
    marks = {t.get_text(): t.get_position()[1] for t in right.get_yticklabels()}
    assert marks["1"] == pytest.approx(math.log(2))


# --- Runs that went wrong ---------------------------------------------------------


def odd_arrays(kind: str) -> dict[str, np.ndarray] | None:
    arrays = gradient_arrays(num_steps=1 if kind == "one step" else 40)
    if kind in ("one measurement", "no measurement"):
        count = int(kind == "one measurement")
        for name in arrays.keys() - {"parts", "quantiles", "lag_edges"}:
            arrays[name] = arrays[name][:count]
    if kind in ("all zero", "all nan"):
        arrays["log_norms"][:] = -np.inf if kind == "all zero" else np.nan
        for name in arrays.keys() - {*OLD[:4], "lag_edges", "clip_norms"}:
            arrays[name][:] = np.nan
    if kind == "ends in nan":
        arrays["log_norms"][-2:] = np.nan
        arrays["decay_rate"][-2:] = arrays["half_life"][-2:] = np.nan
    if kind == "zeros between":
        arrays["log_norms"][:, :, 1, 10:20] = -np.inf
    if kind == "overflow":
        arrays["log_norms"][:, :, 2] = np.inf
    if kind == "one step":
        arrays["log_norms"][..., -1] = -np.inf
        arrays["decay_rates"][:] = arrays["lag_shares"][:] = np.nan
    return arrays


@pytest.mark.parametrize(
    ("kind", "drawn"),
    [
        ("one measurement", {"training", "gradient_over_time", "decay_rate"}),
        ("no measurement", {"training"}),
        ("all zero", {"training", "clipping"}),
        ("all nan", {"training", "clipping"}),
        ("ends in nan", set(NAMES)),
        ("zeros between", set(NAMES)),
        ("overflow", set(NAMES)),
        ("one step", {"training", "gradient_over_time", "decay_rate", "clipping"}),
    ],
)
def test_odd_gradients(kind: str, drawn: set[str], tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", arrays=odd_arrays(kind))
    assert set(draw_plots(path)) == drawn


@pytest.mark.parametrize(
    ("rows", "drawn"),
    [
        ([], False),
        ([{"step": 0, "split": "train", "loss": None}], False),
        ([{"step": 0, "split": "valid", "loss": 0.5}], True),
        ([{"step": s, "split": "train", "loss": 0.0} for s in (0, 1)], True),
        ([{"step": s, "split": "train", "loss": 10.0**-s} for s in range(30)], True),
        ([{"step": 0, "split": "train", "loss": 1.0},
          {"step": 1, "split": "train", "loss": None}], True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("task", [{}, FORECAST, CLASSIFY])
def test_odd_metrics(
    rows: list[dict[str, Any]], drawn: bool, task: dict[str, Any], tmp_path: Path
) -> None:
    path = write_run(tmp_path / "run", rows=rows, task=task)
    assert set(draw_plots(path)) == ({"training"} if drawn else set())


def test_a_run_that_never_began_has_no_picture(tmp_path: Path) -> None:
    assert draw_plots(tmp_path) == {}


# --- Gradient flow while training -------------------------------------------------


def test_the_spread_of_the_rate_is_a_band_around_the_median() -> None:
    arrays = gradient_arrays()
    figure = draw("decay_rates", run_data(gradients=arrays))
    np.testing.assert_allclose(line(figure, "median sequence")[1], arrays["decay_rate"])
    (band,) = figure.axes[0].collections
    heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
    assert heights.min() == pytest.approx(1.5 * arrays["decay_rate"].min())
    assert heights.max() == pytest.approx(0.5 * arrays["decay_rate"].max())
    assert "middle 80% of the sequences" in texts(figure)
    (horizon,) = figure.axes[1].lines
    heights = np.asarray(horizon.get_ydata(), float)
    np.testing.assert_allclose(heights, arrays["horizon"])


def test_shares_by_lag_are_stacked_up_to_one() -> None:
    figure = draw("lag_shares", run_data())
    paths = [area.get_paths()[0] for area in figure.axes[0].collections]
    tops = [np.asarray(path.vertices)[:, 1].max() for path in paths]
    np.testing.assert_allclose(tops, [0.5, 0.8, 1.0])
    assert texts(figure) == "lag 0 | lag 1 to 9 | lag 10 and more"


def test_clipping_is_shown_by_length_direction_and_frequency() -> None:
    arrays = gradient_arrays()
    figure = draw("clipping", run_data(gradients=arrays))
    before = line(figure, "norm before clipping")[1]
    np.testing.assert_allclose(before, arrays["clip_norms"][:, 0])
    rates = line(figure, "share of updates longer than --clip_norm", 1)
    np.testing.assert_array_equal(rates, [STEPS, np.full(len(STEPS), 0.5)])
    cosines = line(figure, "cosine of the angle between", 1)[1]
    np.testing.assert_array_equal(cosines, arrays["clip_cosine"])
    arrays["clip_norms"][:, 0] = 1
    rows = [row | {"clip_rate": 0.0} for row in metric_rows()]
    picture = next(p for p in PICTURES if p.name == "clipping")
    assert picture.draw(run_data(gradients=arrays, rows=rows)) is None
