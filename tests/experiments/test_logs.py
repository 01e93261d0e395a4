"""metrics.jsonl and gradient_norms.npz: complete rows, each of them once."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from experiments.common import files
from experiments.runs.logs import GradientLog, MetricsLog, read_gradient_norms


def _rows(path: Path) -> list[tuple[int, str]]:
    return [(row["step"], row["split"]) for row in files.read_json_lines(path)]


def _write(
    path: Path,
    rows: list[tuple[int, str]],
    resumed_step: int = 0,
    evaluated_step: int = -1,
) -> None:
    log = MetricsLog(path, resumed_step, evaluated_step)
    for step, split in rows:
        log.write({"step": step, "split": split, "loss": 0.5})


ROWS = [(0, "valid"), (0, "train"), (1, "train"), (2, "valid"), (2, "train")]


def test_not_a_number_becomes_null(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m", 0, -1)
    log.write({"step": 0, "split": "train", "loss": math.nan, "rates": [math.inf, 1]})
    assert json.loads((tmp_path / "m").read_text()) == {
        "step": 0,
        "split": "train",
        "loss": None,
        "rates": [None, 1],
    }


def test_resuming_keeps_what_will_not_be_written_again(tmp_path: Path) -> None:
    path = tmp_path / "m"
    _write(path, [*ROWS, (2, "test")])
    # At step 2 the validation is done, and the batch of update 3 is not.
    _write(path, [(2, "train"), (3, "train")], resumed_step=2, evaluated_step=2)
    assert _rows(path) == [*ROWS, (3, "train")]


def test_an_evaluation_that_the_state_does_not_know_of_is_dropped(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m"
    _write(path, ROWS)
    _write(path, [(2, "valid"), (2, "train")], resumed_step=2, evaluated_step=1)
    assert _rows(path) == ROWS


@pytest.mark.parametrize("size", range(1, 60, 7))
def test_a_torn_line_is_repaired(tmp_path: Path, size: int) -> None:
    path = tmp_path / "m"
    _write(path, ROWS)
    line = files.json_line({"step": 3, "split": "train", "loss": 0.25, "more": "ü" * 9})
    path.write_bytes(path.read_bytes() + line[:-1][:size])
    _write(path, [(3, "train")], resumed_step=3, evaluated_step=2)
    assert _rows(path) == [*ROWS, (3, "train")]


def test_a_damaged_line_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "m"
    _write(path, ROWS)
    path.write_text(path.read_text().replace("step", "st\\ep", 1))
    with pytest.raises(ValueError, match="line 1: not JSON"):
        MetricsLog(path, 0, -1)


def _log_norms(step: int) -> np.ndarray:
    values = np.arange(2 * 3 * 5, dtype=np.float32).reshape(2, 3, 5) - step
    values[0, 0, 0] = -np.inf
    return values


def _measured(step: int, rate: float, half_life: float) -> dict:
    return {
        "log_norms": _log_norms(step),
        "decay_rate": rate,
        "half_life": half_life,
        "lag_shares": [0.25, 0.75],
    }


def test_gradient_norms_return_as_written_up_to_the_resumed_step(
    tmp_path: Path,
) -> None:
    path, parts = tmp_path / "g.npz", ("hidden", "joint")
    log = GradientLog(path, parts, 0, lag_edges=(0, 1))
    log.save()
    assert not path.exists()
    for step in (0, 10, 20):
        log.add(step, _measured(step, -0.1, math.nan))
    log.save()
    resumed = GradientLog(path, parts, 20, lag_edges=(0, 1))
    # What was not measured before the break is not known there.
    resumed.add(20, _measured(21, -0.2, 3.5) | {"horizon": 7.0})
    resumed.save()
    arrays = read_gradient_norms(path)
    np.testing.assert_array_equal(arrays["steps"], [0, 10, 20])
    np.testing.assert_array_equal(arrays["log_norms"][1], _log_norms(10))
    np.testing.assert_array_equal(arrays["log_norms"][2], _log_norms(21))
    np.testing.assert_array_equal(arrays["half_life"], [np.nan, np.nan, 3.5])
    np.testing.assert_array_equal(arrays["decay_rate"], [-0.1, -0.1, -0.2])
    np.testing.assert_array_equal(arrays["horizon"], [np.nan, np.nan, 7])
    np.testing.assert_array_equal(arrays["lag_shares"], [[0.25, 0.75]] * 3)
    assert arrays["lag_edges"].tolist() == [0, 1]
    assert arrays["log_norms"].dtype == np.float32
    assert arrays["parts"].tolist() == ["hidden", "joint"]
    assert arrays["quantiles"].tolist() == [0.1, 0.5, 0.9]


def test_a_damaged_record_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "g.npz"
    log = GradientLog(path, ("joint",), 0)
    log.add(0, _measured(0, -0.1, 1.0))
    log.save()
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"g\.npz: not an intact record"):
        GradientLog(path, ("joint",), 0)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "g.npz"
    np.savez(path, steps=np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="not an intact record"):
        read_gradient_norms(path)


def test_an_interrupted_replacement_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.json"
    files.write_json(path, {"a": 1})

    def fail(descriptor: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        files.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
