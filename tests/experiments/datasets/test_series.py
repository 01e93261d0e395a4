"""Series: what is parsed, and that no gap is filled in from the future."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from experiments.datasets import series
from experiments.datasets.dataset import DataError, SeriesData
from experiments.datasets.forecasting import forecast_splits
from experiments.datasets.series import (
    AIRPORTS,
    CHANNELS,
    forward_fill,
    load_stocks,
    load_weather,
    parse_weather,
    random_walk,
)
from experiments.datasets.series_tasks import series_ranges
from tests.experiments.datasets.stored import store

STOCKS = gzip.compress(
    b"Date,AAPL,AMD\n1990-01-02,0.264,4.125\n1990-01-03,0.266,4.0\n1990-01-05,1,2\n"
)


def weather(
    changes: dict[tuple[str, int, str], str], skip: frozenset[int] = frozenset()
) -> bytes:
    """A table of six hours: temperatures 10 a, 10 a + 1, … at the a-th airport."""
    lines = [",".join(("origin", *CHANNELS, "wind_gust", "time_hour"))]
    for place, airport in enumerate(AIRPORTS):
        for hour in sorted(set(range(6)) - skip):
            row = dict.fromkeys(CHANNELS, "7") | {"temp": str(10 * place + hour)}
            row |= {
                c: v for (a, h, c), v in changes.items() if (a, h) == (airport, hour)
            }
            values = [row[channel] for channel in CHANNELS]
            lines.append(
                ",".join((airport, *values, "NA", f"2013-01-01T{hour:02}:00:00Z"))
            )
    return "\n".join(lines).encode() + b"\n"


def channel(data: SeriesData, name: str) -> list[float]:
    return data.values[:, data.names.index(name)].tolist()


def test_stocks_are_read_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(monkeypatch, series, "STOCKS", tmp_path, {"closes.csv.gz": STOCKS})
    data = load_stocks(tmp_path)
    assert data.names == ("AAPL", "AMD")
    assert data.times.astype(str).tolist() == ["1990-01-02", "1990-01-03", "1990-01-05"]
    assert data.values.dtype == np.float32
    expected = np.array([[0.264, 4.125], [0.266, 4.0], [1, 2]], np.float32)
    np.testing.assert_array_equal(data.values, expected)


def test_weather_is_on_an_hourly_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = weather({}, skip=frozenset({2, 3}))
    store(monkeypatch, series, "WEATHER", tmp_path, {"weather.csv": table})
    data = load_weather(tmp_path)
    assert data.names[:2] == ("JFK.temp", "JFK.dewp")
    assert len(data.names) == 21
    assert np.diff(data.times).tolist() == [np.timedelta64(1, "h")] * 5
    assert data.values.dtype == np.float32
    # Two hours are missing at all airports: the last ones known stay.
    assert channel(data, "JFK.temp") == [0, 1, 1, 1, 4, 5]
    assert channel(data, "LGA.temp") == [20, 21, 21, 21, 24, 25]


def test_gaps_and_impossible_winds_keep_the_last_value() -> None:
    changes = {
        ("EWR", 3, "temp"): "NA",
        ("EWR", 4, "temp"): "NA",
        ("JFK", 2, "wind_speed"): "1048.36",
        ("JFK", 3, "wind_speed"): "100",
    }
    data = parse_weather(weather(changes))
    assert channel(data, "EWR.temp") == [10, 11, 12, 12, 12, 15]
    assert channel(data, "JFK.wind_speed") == [7, 7, 7, 100, 7, 7]
    assert channel(data, "LGA.wind_speed") == [7] * 6


def test_the_series_begins_where_all_is_known() -> None:
    changes = {("LGA", 0, "wind_dir"): "NA", ("LGA", 1, "wind_dir"): "NA"}
    data = parse_weather(weather(changes))
    assert data.times[0] == np.datetime64("2013-01-01T02")
    assert channel(data, "JFK.temp") == [2, 3, 4, 5]


def test_filling_does_not_look_ahead() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 4)).astype(np.float32)
    values[rng.random(values.shape) < 0.5] = np.nan
    filled = forward_fill(values)
    for time in range(50):
        # A prefix alone is filled in as it is inside the whole series.
        np.testing.assert_array_equal(
            forward_fill(values[: time + 1])[time], filled[time]
        )
    # The slow definition.
    for place in range(4):
        last = np.nan
        for time in range(50):
            last = last if np.isnan(values[time, place]) else values[time, place]
            np.testing.assert_array_equal(filled[time, place], last)


def test_random_walk_is_noise_summed_around_a_sine() -> None:
    data = random_walk(3, 200, step_size=2.0, amplitude=5.0, period=40.0)
    prices = data.values[:, 0].astype(np.float64)
    times = np.arange(200)
    noise = np.diff(prices - 5 * np.sin(2 * np.pi * times / 40)) / 2
    # Prices of up to 64 in float32 are known to 4e-6; a difference of two, halved.
    expected = np.random.RandomState(3).standard_normal(200)
    np.testing.assert_allclose(noise, expected[1:], atol=1e-5)
    np.testing.assert_allclose(prices[0], 2 * expected[0], rtol=1e-6)
    np.testing.assert_array_equal(data.times, times)
    assert not np.array_equal(prices, random_walk(4, 200).values[:, 0])


def test_the_ranges_of_the_walk_give_800_and_100_windows() -> None:
    walk = random_walk(0, 1090)
    ranges = series_ranges("random_walk", walk)
    data = forecast_splits(walk, ranges, window=30, horizon=1)
    sizes = {name: cut.inputs.shape for name, cut in data.splits.items()}
    assert sizes == dict.fromkeys(ranges, (100, 30, 1)) | {"train": (800, 30, 1)}
    assert data.splits["train"].steps.max() < data.splits["test"].steps.min() - 30


LOADERS = {"STOCKS": load_stocks, "WEATHER": load_weather}


@pytest.mark.parametrize("entry", LOADERS)
def test_missing_and_damaged_files_are_named_with_the_remedy(
    entry: str, tmp_path: Path
) -> None:
    load: Callable[[Path], SeriesData] = LOADERS[entry]
    dataset = getattr(series, entry)
    path = tmp_path / dataset.name / dataset.members[0].file_name
    for state in ("missing", "damaged"):
        with pytest.raises(DataError, match=state) as caught:
            load(tmp_path)
        assert f"--fetch={dataset.name} --data_dir={tmp_path}" in str(caught.value)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"something else")
