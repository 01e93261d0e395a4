"""Two updates of every system from its flagfile and of the options; studies of data.

A few made-up examples stand in place of every stored data set.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import train
from experiments.common.launch import flag_spec, format_value, parse
from experiments.common.names import SYSTEMS
from experiments.reports import plots
from experiments.reproduction import bands
from experiments.runs.options import Options
from experiments.studies import decay_on_real_data, text_baselines, variable_lengths
from experiments.studies.kit import answers, system
from tests.experiments.small_runs import options_of, record, rows
from tests.experiments.tiny_data import use_tiny_data

# What a flagfile says of the kind of the model stays; its sizes and length do not.
_SMALL = {
    "batch_size": 4,
    "num_steps": 2,
    "eval_every": 2,
    "save_every": 2,
    "eval_size": 4,
    "num_buckets": 1,
    "progress": "none",
    "report": False,
}
_SMALL_MODEL = {"hidden_size": 4, "embedding_size": 3}


def train_here(
    folder: Path,
    runs: Mapping[str, Mapping[str, Any]],
    *,
    full: bool,
    lag_sequences: int = 2,
    **_: Any,
) -> dict[str, plots.RunData]:
    """Trains in this process, in place of one for each run."""
    logged = {}
    for name, flags in runs.items():
        path = folder / ("full" if full else "short") / name
        arguments = [f"--run_dir={path}", *_words(flags)]
        given = parse(arguments, Options)
        sizes = {
            name: size
            for name, size in _SMALL_MODEL.items()
            if all(
                getattr(given, other) in legal
                for other, legal in flag_spec(Options, name).only.items()
            )
        }
        sizes["gradient_every"] = 2 if given.gradient_every else 0
        sizes["lag_sequences"] = lag_sequences
        train.main(parse([*arguments, *_words(_SMALL | sizes)], Options))
        logged[name] = plots.read_run(path)
    return logged


def _words(flags: Mapping[str, Any]) -> list[str]:
    return [f"--{name}={format_value(value)}" for name, value in flags.items()]


@pytest.fixture(autouse=True)
def tiny_data(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_data(monkeypatch)


def expected(name: str, full: bool) -> set[str]:
    """The numbers that a flagfile has bands for."""
    header = bands.read_header(bands.FLAGFILES / f"{name}.flags")
    return {band.name for band in header.expected(full=full)}


@pytest.mark.usefixtures("kept_programs")
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_measures_what_its_flagfile_expects(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_without_lags = functools.partial(train_here, lag_sequences=0)
    monkeypatch.setattr(system, "train", train_without_lags)
    monkeypatch.setattr(answers, "_NUM_POEMS", 2)
    monkeypatch.setattr(answers, "_MAX_WORDS", 4)
    flagfile = bands.FLAGFILES / f"{name}.flags"
    result = system.measure_system(flagfile, tmp_path, True, (), "")
    names = expected(name, True) | expected(name, False)
    assert names <= set(result.values)
    assert np.all(np.isfinite([result.values[name] for name in names]))
    assert result.values["steps"] == 2
    # The diagnostics are the same for all, but for a bag of words, which has no time.
    measured = (tmp_path / "full" / name / "gradient_norms.npz").exists()
    assert measured == (not name.endswith("_bag"))


@pytest.mark.parametrize(
    "arguments",
    [
        (
            *("--task=parity", "--cell=elman", "--zoneout=0.1"),
            *("--accumulate_steps=2", "--gradient_every=0"),
        ),
        (
            *("--variant=hochreiter", "--length=20", "--cell=irnn", "--window=4"),
            *("--optimizer=rmsprop", "--schedule=cosine", "--warmup_steps=1"),
            *("--recurrent_learning_rate=1e-4", "--gradient_every=0"),
        ),
        (
            *("--method=two_level", "--product_dtype=bfloat16", "--num_layers=2"),
            *("--residual", "--dropout=0.1"),
        ),
        (
            *("--omega=0.1", "--orthogonal_penalty=0.1", "--spectral_limit=0.5"),
            *("--flossing=1", "--flossing_exponents=2", "--flossing_steps=1"),
            *("--h_detach=0.5", "--clip_value=1e-4", "--gradient_every=0"),
        ),
    ],
    ids=["noise", "optimiser", "rounded", "remedies"],
)
def test_two_steps_of_everything(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    path = tmp_path / "run"
    train.main(options_of(path, "--num_steps=2", *arguments))
    assert record(path)["status"] == "done"
    assert all(row["loss"] is not None for row in rows(path))


def test_texts_of_unequal_length_give_one_gradient_in_three_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"_BATCH": 4, "_BUCKETS": 2, "_VOCABULARY": 9, "_EMBEDDING": 3}
    for name, size in (sizes | {"_HIDDEN": 4}).items():
        monkeypatch.setattr(variable_lengths, name, size)
    values = variable_lengths.measure(tmp_path, False, "").values
    assert set(values) == expected("variable_lengths", True)
    # Of 24 texts three each have 3 words, 4, ... 10.
    assert values["padding_wasted"] == pytest.approx(1 - 6.5 / 10)
    assert values["packing_wasted"] < values["padding_wasted"]
    for way in ("buckets", "packing"):
        # A sum over 24 texts in another order.
        assert values[f"{way}_gradient_error"] < 1e-6


def test_counts_of_words_know_classes_but_not_their_order(tmp_path: Path) -> None:
    values = dict(text_baselines.measure(tmp_path, False, "").values)
    assert set(values) == expected("text_baselines", True)
    # Each class has a word of its own, but for that of the order.
    assert values.pop("word_order_accuracy") == 0.5
    assert set(values.values()) == {1.0}


def test_decay_is_followed_on_every_kind_of_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decay_on_real_data, "train", train_here)
    runs = {
        "adding": {"task": "adding", "length": 40},
        "shakespeare": {"task": "shakespeare", "max_length": 40},
    }
    monkeypatch.setattr(decay_on_real_data, "_RUNS", runs)
    labels = {name: decay_on_real_data._LABELS[name] for name in runs}
    monkeypatch.setattr(decay_on_real_data, "_LABELS", labels)
    result = decay_on_real_data.measure(tmp_path, False, "")
    names = expected("decay_on_real_data", False)
    named = {name for name in names if name.startswith(tuple(runs))}
    assert named <= set(result.values)
    for name in runs:
        # After two updates the LSTM still forgets.
        assert result.values[f"{name}_trained_rate"] < 0
        assert 0 < result.values[f"{name}_far_share"] < 1
    assert [picture.path.exists() for picture in result.pictures] == [True, True]
