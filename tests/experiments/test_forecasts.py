"""Forecasts against what came: scores by hand, files, pages, and a whole run."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import predict
from experiments.common.launch import parse
from experiments.datasets.series_tasks import HeldOut, load_series, series_ranges
from experiments.reports import forecasts as page
from experiments.reports.plots import PICTURES, draw_plots, read_run
from experiments.reports.report_page import write_report
from experiments.runs import forecasts, loop
from tests.experiments.small_runs import options_of, record
from tests.experiments.synthetic_run import write_run
from tests.experiments.untrained_run import describe

TASK = describe(
    "weather",
    "forecast",
    output_size=1,
    horizon=2,
    channels=("temp",),
    means=(50.0,),
    scales=(10.0,),
    answers=(0,),
    from_last=True,
    quantiles=(0.05, 0.5, 0.95),
)
VALUES = np.array([[50.0], [52], [54], [53], [53], [60]], np.float32)


def part() -> HeldOut:
    """Three windows of two steps, after each of which two are forecast."""
    hours = np.datetime64("2013-11-01T00") + np.arange(6).astype("timedelta64[h]")
    starts = np.array([2, 3, 4])
    no_change = np.repeat(VALUES[starts - 1], 2, axis=1)[..., None]
    return HeldOut(
        names=("temp",),
        unit="°F",
        times=hours,
        values=VALUES,
        starts=starts,
        train_range=np.array([[40.0], [55]], np.float32),
        naive={"no change": no_change, "always 53": np.full_like(no_change, 53)},
    )


def made() -> forecasts.Forecasts:
    """The model says 0.1 more than the last, that is one degree, at both steps."""
    outputs = np.array([-0.05, 0.1, 0.3], np.float32) * np.ones(
        (3, 2, 1, 1), np.float32
    )
    return forecasts.make(TASK, part(), outputs)


def test_what_is_made_is_in_units() -> None:
    found = made()
    np.testing.assert_allclose(found.model[..., 0], [[53, 53], [55, 55], [54, 54]])
    np.testing.assert_allclose(found.low[..., 0], found.model[..., 0] - 1.5, rtol=1e-6)
    np.testing.assert_allclose(found.high[..., 0], found.model[..., 0] + 2, rtol=1e-6)
    np.testing.assert_array_equal(found.truth[..., 0], [[54, 53], [53, 53], [53, 60]])
    assert (found.interval, found.context) == (0.9, 2)


def test_scores_by_hand() -> None:
    scores = forecasts.score(made())
    # Errors one step ahead: 1, −2, −1; of no change 2, −1, 0.
    np.testing.assert_allclose(scores.rmse["model"], [math.sqrt(2), math.sqrt(40 / 3)])
    expected = [math.sqrt(5 / 3), math.sqrt(51 / 3)]
    np.testing.assert_allclose(scores.rmse["no change"], expected)
    assert scores.rmse["always 53"][0] == pytest.approx(math.sqrt(1 / 3))
    # Inside are those that are no more than 1.5 below and 2 above.
    np.testing.assert_allclose(scores.coverage, [2 / 3, 1 / 3])
    np.testing.assert_allclose(scores.width, [3.5, 3.5], rtol=1e-6)
    np.testing.assert_allclose(scores.saved, [1 - 6 / 5, 1 - 40 / 51], rtol=1e-6)
    # It always says that it gets warmer, as it does in one and in two of three.
    np.testing.assert_allclose(scores.up, [1 / 3, 2 / 3])
    np.testing.assert_array_equal(scores.direction, scores.up)
    assert np.isnan(scores.saved_error).all()


def test_without_an_interval_nothing_is_inside() -> None:
    task = dataclasses.replace(TASK, quantiles=())
    found = forecasts.make(task, part(), np.full((3, 2, 1), 0.1, np.float32))
    np.testing.assert_array_equal(found.model, made().model)
    assert np.isnan(forecasts.score(found).coverage).all()
    summary = forecasts.summary(found)
    assert not [name for name in summary if "coverage" in name or "width" in name]


def test_the_summary_names_steps_and_forecasts() -> None:
    summary = forecasts.summary(made())
    assert {"model_rmse_1", "no_change_rmse_2", "always_53_rmse_2"} <= set(summary)
    assert summary["coverage"] == pytest.approx(1 / 2)
    assert "saved_error_1" not in summary
    assert forecasts.told_leads(24) == [1, 6, 24]
    assert forecasts.told_leads(7) == [1, 6, 7]
    lines = forecasts.lines(made())
    assert lines[0].startswith(
        "hour 1 ahead, error in °F: model 1.414, no change 1.291"
    )
    assert lines[1].endswith("33.3% inside 90%")


def test_forecasts_survive_their_file(tmp_path: Path) -> None:
    assert forecasts.read(tmp_path) is None
    forecasts.write(tmp_path, made())
    first = (tmp_path / forecasts.NAME).read_bytes()
    forecasts.write(tmp_path, made())
    assert (tmp_path / forecasts.NAME).read_bytes() == first
    found = forecasts.read(tmp_path)
    assert found is not None
    assert list(found.naive) == ["no change", "always 53"]
    for name, value in made()._asdict().items():
        other = getattr(found, name)
        if name == "naive":
            value, other = list(value.values()), list(other.values())
        np.testing.assert_array_equal(other, value)
    (tmp_path / forecasts.NAME).write_bytes(first[:-30])
    with pytest.raises(ValueError, match=r"forecasts\.npz: damaged"):
        forecasts.read(tmp_path)


def test_the_page_holds_table_and_pictures(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    assert page.section(path) == ""
    plain = write_report(path).read_text()
    forecasts.write(path, made())
    table = page.section(path)
    assert "<td>1.414</td><td>1.291</td><td>0.5774</td>" in table
    assert "hours ahead" in table
    assert "−20.0 %" in table
    assert "66.7 %" in table
    # A run of one step has the course, one of several the errors by steps.
    assert {"forecast_errors", "forecast_windows"} <= set(draw_plots(path))
    drawn = write_report(path).read_text()
    for picture in PICTURES[:3]:
        assert picture.title not in plain
        assert (picture.title in drawn) == (picture.name != "forecast_course")


def test_pictures_show_the_numbers(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    forecasts.write(path, made())
    run = read_run(path)
    errors, _, windows = (picture.draw(run) for picture in PICTURES[:3])
    assert errors is not None
    assert windows is not None
    upper, lower = errors.axes
    assert "°F" in upper.get_ylabel()
    assert lower.get_xlabel() == "hours ahead"
    expected = forecasts.score(made()).rmse
    for line, (name, values) in zip(upper.lines, expected.items(), strict=True):
        assert line.get_label() == name
        np.testing.assert_allclose(np.asarray(line.get_ydata(), float), values)
    assert windows.axes[0].get_ylabel() == "temp (°F)"
    assert "2013-11-01 01:00 UTC" in windows.axes[0].get_title()
    lines = {line.get_label(): line.get_ydata() for line in windows.axes[0].lines}
    np.testing.assert_array_equal(np.asarray(lines["seen"]), [50, 52])
    np.testing.assert_array_equal(np.asarray(lines["what came"]), [54, 53])
    np.testing.assert_allclose(np.asarray(lines["model"], float), [53, 53])


def small_walk(path: Path, *flags: str) -> Any:
    options = options_of(
        path,
        "--length=100",
        "--task=random_walk",
        "--context=5",
        "--eval_size=0",
        *flags,
    )
    return dataclasses.replace(options, batch_size=50)


@pytest.mark.parametrize("flags", [(), ("--interval=0.8", "--horizon=3")])
def test_a_run_says_what_its_model_answers(
    flags: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "run"
    loop.train(small_walk(path, *flags))
    found = forecasts.read(path)
    assert found is not None
    result = record(path)["result"]
    error = float(np.mean((found.truth - found.model) ** 2.0))
    assert result["model_rmse_1"] == pytest.approx(
        forecasts.score(found).rmse["model"][0]
    )
    # The error of the run is over all steps, in units of the variance of train.
    walk = load_series("random_walk", tmp_path)
    ranges = series_ranges("random_walk", walk)
    variance = walk.values[ranges["train"]].var()
    if not flags:
        expected = result["test_mean_squared_error"] * variance
        # A mean of float32 numbers in two orders.
        assert error == pytest.approx(expected, rel=1e-4)
    else:
        assert result["coverage"] == forecasts.score(found).coverage.mean()
        assert result["test_loss"] != result["test_mean_squared_error"]
        assert (found.low <= found.model).all()
        assert (found.model <= found.high).all()
    # Asked with prices, the model answers with prices.
    prices = walk.values[ranges["test"], 0]
    lines = [{"values": prices[i : i + 5].tolist()} for i in (0, 9)]
    source, output = tmp_path / "in", tmp_path / "out"
    source.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    arguments = [f"--run_dir={path}", f"--input={source}", f"--output={output}"]
    assert predict.main(parse(arguments, predict.Options)) == 0
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    names = {"forecast": found.model, "low": found.low, "high": found.high}
    for answer, window in zip(answers, (0, 9), strict=True):
        assert set(answer) == {"line", *(names if flags else ["forecast"])}
        for name in set(answer) - {"line"}:
            values = np.array(answer[name]).reshape(-1, 1)
            # Batches of two sizes.
            np.testing.assert_allclose(values, names[name][window], rtol=1e-5)
