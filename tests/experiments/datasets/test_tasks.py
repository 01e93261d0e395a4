"""From loaded data to sequences with targets: by hand on small cases."""

import functools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.datasets import music_tasks, series_tasks, text_tasks
from experiments.datasets.dataset import RollSplit, SeriesData, TextData, TextSplit
from experiments.datasets.language_tasks import cut_windows, whole_texts
from experiments.datasets.sequences import Ragged, SequenceData
from experiments.datasets.units import in_units, standardise
from experiments.datasets.vocabulary import build_vocabulary
from experiments.datasets.word_order import make_word_order
from experiments.runs import task_file


def targets_of(split) -> Ragged:
    assert isinstance(split.targets, Ragged)
    return split.targets


@pytest.mark.parametrize(("length", "window"), [(103, 10), (40, 8), (11, 10)])
def test_overlapping_windows_score_every_token_once(length: int, window: int) -> None:
    tokens = np.arange(length, dtype=np.int32)
    cut = cut_windows(tokens, window, overlap=True)
    assert cut.unscored is not None
    scored: list[int] = []
    targets = targets_of(cut).take(np.arange(len(cut.unscored)), window)
    inputs = cut.inputs.take(np.arange(len(cut.unscored)), window)
    np.testing.assert_array_equal(targets, inputs + 1)
    for row, skipped in zip(targets, cut.unscored, strict=True):
        scored += row[skipped:].tolist()
    # From the second token on, up to what does not fill half a window.
    assert scored == list(range(1, len(scored) + 1))
    assert len(scored) > length - 1 - window / 2


def test_training_windows_do_not_overlap() -> None:
    cut = cut_windows(np.arange(35, dtype=np.int32), 10, overlap=False)
    assert cut.inputs.values.tolist() == list(range(30))
    assert targets_of(cut).values.tolist() == list(range(1, 31))
    assert not np.any(cut.unscored)


def test_a_whole_text_has_a_start_and_an_end() -> None:
    vocabulary = build_vocabulary(["ab", "b"])
    cut = whole_texts(vocabulary, ["ab", "c"])
    decode = vocabulary.decode
    assert decode(cut.inputs.values) == ["<start>", "a", "b", "<start>", "<unk>"]
    assert decode(targets_of(cut).values) == ["a", "b", "<end>", "<unk>", "<end>"]
    assert cut.inputs.lengths.tolist() == targets_of(cut).lengths.tolist() == [3, 2]


def test_the_vocabulary_is_that_of_train() -> None:
    def split(*texts: str) -> TextSplit:
        return TextSplit(list(texts), np.arange(len(texts), dtype=np.int32) % 2)

    splits = {"train": split("a b", "a"), "valid": split("b"), "test": split("a z", "")}
    splits["test"] = split("a z", "b b b")
    data = TextData("some", ("no", "yes"), splits)
    task = text_tasks.tokenise(data, "words", 10)
    assert task.vocabulary[4:] == ("a", "b")
    assert task.splits["test"].inputs.values.tolist() == [4, 1, 5, 5, 5]
    assert (task.classes, task.output_size, task.kind) == (("no", "yes"), 2, "classify")
    assert task.baseline_metric == 0.5
    by_character = text_tasks.tokenise(data, "characters", 10)
    assert "".join(sorted(by_character.vocabulary[4:])) == " ab"


def test_word_order_can_be_told_by_order_alone() -> None:
    data = make_word_order()
    seen: set[tuple[str, ...]] = set()
    for split in data.splits.values():
        bags = [tuple(sorted(text.split())) for text in split.texts]
        # The two of a pair share their words and differ in class.
        assert bags[::2] == bags[1::2]
        assert split.labels.tolist() == [0, 1] * (len(bags) // 2)
        for text, label in zip(split.texts, split.labels, strict=True):
            words = text.split()
            assert (words.index("不") == 1) == bool(label)
        assert len(set(bags)) == len(bags) / 2
        assert not seen & set(bags)
        seen |= set(bags)


def test_chorales_ask_for_the_next_chord(monkeypatch: pytest.MonkeyPatch) -> None:
    roll = np.zeros((3, 88), np.uint8)
    roll[[0, 1, 1, 2], [5, 6, 7, 5]] = 1
    splits = dict.fromkeys(("train", "valid", "test"), RollSplit([roll, roll[:2]], []))
    monkeypatch.setattr(music_tasks, "load_chorales", lambda folder: splits)
    load = functools.partial(music_tasks.load_chorale_task, None)  # pyright: ignore[reportArgumentType]
    task = load(transpose=0)
    train = task.splits["train"]
    assert train.inputs.lengths.tolist() == [3, 2]
    np.testing.assert_array_equal(targets_of(train).values[:3], roll)
    np.testing.assert_array_equal(train.inputs.values[1:3], roll[:2].astype(bool))
    assert not train.inputs.values[[0, 3]].any()
    # Notes 5, 6 and 7 sound in 3, 2 and 2 of 5 steps, the other 85 in none.
    on = (np.array([3, 2, 2] + [0] * 85) + 1) / 7
    share = np.array([3, 2, 2] + [0] * 85) / 5
    expected = -np.sum(share * np.log(on) + (1 - share) * np.log(1 - on))
    assert task.baseline_loss == pytest.approx(expected, rel=1e-6)
    # There is no room below for more than five semitones, above for all six.
    moved = load(transpose=6)
    assert moved.splits["train"].inputs.lengths.tolist() == [3] * 12 + [2] * 12
    chords = targets_of(moved.splits["train"]).values[: 12 * 3].reshape(12, 3, 88)
    for shift, chord in enumerate(chords):
        np.testing.assert_array_equal(chord[:, shift : shift + 3], roll[:, 5:8])
        assert chord.sum() == roll.sum()
    assert moved.splits["test"].inputs.lengths.tolist() == [3, 2]
    assert moved.baseline_loss == task.baseline_loss


def stored_weather(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Three channels of 200 hours, and their values."""
    times = np.datetime64("2013-01-01T00") + np.arange(200).astype("timedelta64[h]")
    values = np.random.default_rng(0).normal(60, 10, (200, 3)).astype(np.float32)
    names = ("EWR.temp", "JFK.temp", "JFK.dewp")
    series = SeriesData(names, times, values)
    monkeypatch.setattr(series_tasks, "load_weather", lambda folder: series)
    return values


def load(name: str, **sizes: Any) -> SequenceData:
    return series_tasks.load_series_task(name, Path(), **sizes)


def test_weather_asks_for_the_change_from_the_last_hour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = stored_weather(monkeypatch)
    task = load("weather", context=5, horizon=2)
    assert (task.input_size, task.output_size, task.horizon) == (2 + 2, 1, 2)
    train = task.splits["train"]
    assert isinstance(train.targets, np.ndarray)
    scale = values[:140, 1].astype(np.float64).std()
    expected = (values[5:7, 1] - values[4, 1]) / scale
    np.testing.assert_allclose(train.targets[0, :, 0], expected, rtol=1e-4)
    # No change is persistence, whose error the baseline is.
    test = task.splits["test"].targets
    assert isinstance(test, np.ndarray)
    assert task.baseline_loss == pytest.approx(np.mean(test**2), rel=1e-6)
    # Hour 6 is a quarter of a day.
    hours = series_tasks.load_series("weather", Path())
    np.testing.assert_allclose(hours.values[6, 2:], [1, 0], atol=1e-6)


def test_a_series_tells_its_channels_and_units(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = stored_weather(monkeypatch)
    task = load("weather", context=5, horizon=2)
    assert task.channels == ("JFK.temp", "JFK.dewp", "sin_day", "cos_day")
    assert task.units[:2] == ("°F", "°F")
    assert "24" in task.units[2]
    known = values[:140, 1:].astype(np.float64)
    # Float32 keeps seven digits.
    np.testing.assert_allclose(task.means[:2], known.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(task.scales[:2], known.std(axis=0), rtol=1e-6)
    assert (task.answers, task.from_last, task.quantiles) == ((0,), True, ())
    # As JSON and back, to the bit.
    record = json.loads(json.dumps(task.description()))
    assert task_file.parse(record).description() == task.description()
    # What the model reads and is asked for, out of the values as they were measured.
    raw = series_tasks.load_series("weather", Path()).values
    inputs = task.splits["test"].inputs.values.reshape(-1, 5, 4)
    np.testing.assert_array_equal(standardise(task, raw[160:165]), inputs[0])
    targets = task.splits["test"].targets
    assert isinstance(targets, np.ndarray)
    back = in_units(task, targets[:1], raw[164:165])
    # Differences of float32 numbers of about 60.
    np.testing.assert_allclose(back[0, :, 0], values[165:167, 1], atol=2e-5)


def test_an_interval_asks_for_quantiles(monkeypatch: pytest.MonkeyPatch) -> None:
    stored_weather(monkeypatch)
    task = load("weather", context=5, horizon=2, interval=0.8)
    assert task.quantiles == (0.1, 0.5, 0.9)
    train, test = (task.splits[name].targets for name in ("train", "test"))
    assert isinstance(train, np.ndarray)
    assert isinstance(test, np.ndarray)
    assert task.baseline_metric == pytest.approx(np.mean(test**2), rel=1e-6)
    # No change, and around it the quantiles of its errors in train.
    total = 0.0
    for step in range(2):
        for tau in task.quantiles:
            over = test[:, step, 0] - np.quantile(train[:, step, 0], tau)
            total += np.mean(np.where(over > 0, tau * over, (tau - 1) * over)) / 6
    assert task.baseline_loss == pytest.approx(total, rel=1e-5)


def test_stocks_without_change_have_no_return(monkeypatch: pytest.MonkeyPatch) -> None:
    returns = np.random.default_rng(0).normal(0.05, 0.1, (100, 2))
    prices = np.exp(np.cumsum(returns, axis=0)).astype(np.float32)
    days = np.datetime64("2013-01-01") + np.arange(100)
    series = SeriesData(("A", "B"), days, prices)
    monkeypatch.setattr(series_tasks, "load_stocks", lambda folder: series)
    task = load("stocks", context=4, horizon=1)
    found = np.diff(np.log(prices.astype(np.float64)), axis=0)
    scale = found[:69].std(axis=0)
    # Of 99 returns train has 69 and test the last 20, four of which are only seen.
    expected = np.mean((found[83:] / scale) ** 2)
    assert task.baseline_loss == pytest.approx(expected, rel=1e-4)
    part = series_tasks.load_held_out("stocks", Path(), context=4, horizon=1)
    assert not part.naive["no change"].any()
    mean = part.naive["mean of train"]
    assert mean.shape == (16, 1, 2)
    np.testing.assert_allclose(mean[3, 0], found[:69].mean(axis=0), rtol=1e-4)


def test_naive_forecasts_of_the_weather(monkeypatch: pytest.MonkeyPatch) -> None:
    values = stored_weather(monkeypatch)
    part = series_tasks.load_held_out("weather", Path(), context=24, horizon=3)
    assert list(part.naive) == ["no change", "same hour yesterday", "climatology"]
    assert (part.names, part.unit) == (("JFK.temp",), "°F")
    np.testing.assert_array_equal(part.values[:, 0], values[160:, 1])
    assert part.starts.tolist() == list(range(24, 38))
    np.testing.assert_array_equal(
        part.train_range[:, 0], np.sort(values[:140, 1])[[0, -1]]
    )
    # The forecast of hours 190 to 192.
    no_change, yesterday, _ = (naive[6, :, 0] for naive in part.naive.values())
    np.testing.assert_array_equal(no_change, values[[189] * 3, 1])
    np.testing.assert_array_equal(yesterday, values[166:169, 1])
    short = series_tasks.load_held_out("weather", Path(), context=23, horizon=3)
    assert list(short.naive) == ["no change", "climatology"]


def test_a_random_walk_has_the_windows_of_the_tutorials() -> None:
    task = series_tasks.load_series_task("random_walk", None, context=30, horizon=1)  # pyright: ignore[reportArgumentType]
    counts = {name: len(split.inputs.lengths) for name, split in task.splits.items()}
    assert counts == {"train": 800, "valid": 100, "test": 100}
    test = task.splits["test"]
    assert isinstance(test.targets, np.ndarray)
    last = test.inputs.take(np.arange(100), 30)[:, -1]
    # A window's answer is the last step of the next window.
    np.testing.assert_array_equal(test.targets[:-1], last[1:])
    naive = float(np.mean((test.targets - last) ** 2))
    assert math.isclose(task.baseline_loss, naive, rel_tol=1e-5)
