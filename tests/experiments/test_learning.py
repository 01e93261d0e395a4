"""What studies that train conclude from the curves of their runs."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from experiments.common.launch import Exit
from experiments.pictures.learning import Curve, Panel, draw_learning
from experiments.reports.plots import RunData
from experiments.studies import (
    flossing_delayed_xor,
    long_sentence,
    slope_leads_loss,
)
from experiments.studies.kit import training_runs
from experiments.studies.kit.learning import (
    Lead,
    Summary,
    first_step,
    measure_lead,
    summarise,
)

STEPS = range(0, 700, 100)
# At the steps 0, 100, 200 and 300: -0.25 from 100 on, with a high one among them.
PLATEAU = (0.0, -0.0625, -0.3125, -0.375)
NAN = math.nan


def run_of(
    rates: Sequence[float] = (), losses: Sequence[float] = (), **train: Sequence[float]
) -> RunData:
    """A run that was looked at every 100 steps, with other columns of `train` rows."""
    rows = [
        {"split": "train", "step": step, name: None if math.isnan(value) else value}
        for name, values in {"decay_rate": rates, **train}.items()
        for step, value in zip(STEPS, values, strict=False)
    ]
    rows += [
        {"split": "valid", "step": step, "loss": loss, "accuracy": 1 - loss}
        for step, loss in zip(STEPS, losses, strict=False)
    ]
    rows.append({"split": "test", "step": 200, "loss": 0.4, "accuracy": 0.7})
    return RunData(rows, None, {"metric": "accuracy"}, "done")


def test_the_first_step_or_none() -> None:
    assert first_step([0, 50, 100], [False, True, True]) == 50
    assert math.isnan(first_step([0, 50], [False, False]))
    assert math.isnan(first_step([], []))


@pytest.mark.parametrize(
    ("later", "losses", "expected"),
    [
        # Half of the plateau is -0.125; just that is not above it.
        ((-0.125, -0.09, 0.1), (1, 1, 1, 1, 1, 1, 0.09), (500, 600, 100)),
        ((-0.05, -0.15, 0.0), (1, 1, 1, 1, 0.05, 1, 1), (400, 400, 0)),
        ((-0.2, -0.2, -0.01), (1, 1, 1, 1, 1, 0.05, 1), (600, 500, -100)),
        ((-0.2, -0.2, -0.2), (1, 1, 1, 1, 1, 0.05, 1), (NAN, 500, NAN)),
        ((-0.2, NAN, -0.01), (1, 1, 1, 1, 1, 1, 0.1), (600, NAN, NAN)),
    ],
    ids=["slope first", "together", "loss first", "never opens", "never learns"],
)
def test_the_lead_of_the_slope(
    later: Sequence[float], losses: Sequence[float], expected: Sequence[float]
) -> None:
    lead = measure_lead(run_of((*PLATEAU, *later), losses), level=0.1)
    assert lead.plateau == -0.25
    np.testing.assert_equal((lead.opens_at, lead.learns_at, lead.steps), expected)


def test_leads_are_summed_up_over_all_runs() -> None:
    events = ((400, 800), (500, 500), (600, 500), (400, NAN))
    values = slope_leads_loss._values([Lead(-0.2, *event) for event in events])
    assert values["share_learnt"] == 0.75
    assert values["share_slope_first_or_together"] == 0.5
    assert values["share_slope_first"] == 0.25
    assert values["median_lead"] == 0
    assert (values["shortest_lead"], values["longest_lead"]) == (-100, 400)
    nothing = slope_leads_loss._values([Lead(-0.2, NAN, NAN)])
    assert math.isnan(nothing["median_lead"])
    assert nothing["share_slope_first_or_together"] == 0


def test_a_trajectory_holds_the_steps_that_have_both() -> None:
    run = run_of(PLATEAU[:3], (0.9, 0.8, 0.7, 0.6))
    found = slope_leads_loss._trajectory(run, Lead(-0.2, 100, 200))
    np.testing.assert_array_equal(found.steps, [0, 100, 200])
    np.testing.assert_array_equal(found.rates, PLATEAU[:3])
    np.testing.assert_array_equal(found.losses, [0.9, 0.8, 0.7])


def test_how_a_run_ended() -> None:
    end = summarise(run_of((-0.3, -0.2, NAN), (0.9, 0.5, 0.6)))
    # The metric is that of the test set; the loss of the end, not of the best state.
    assert end == (0.7, 0.6, -0.3, -0.2)
    assert math.isnan(summarise(run_of(losses=(0.9,))).final_rate)


def test_a_leap_is_not_the_final_loss() -> None:
    rows = [
        {"split": "valid", "step": step, "loss": loss, "accuracy": 0.0}
        for step, loss in enumerate((9, 8, 7, 6, 5, 4, 3, 3, 3, 0.5, 0.25, 7.0))
    ]
    rows.append({"split": "test", "step": 2, "loss": 0.4, "accuracy": 0.7})
    run = RunData(rows, None, {"metric": "accuracy"}, "done")
    # The median of the last three of twelve.
    assert summarise(run).loss == 0.5


def test_what_flossing_did_before_training() -> None:
    run = run_of(losses=(0.9, 0.5, 0.08, 0.05), penalty=(0.5, 0.1, 0.01, 0.0))
    steps, squares = flossing_delayed_xor._squares(run)
    np.testing.assert_array_equal(steps, [0, 100, 200])
    np.testing.assert_array_equal(squares, [0.5, 0.1, 0.01])
    never = run_of(losses=(0.9, 0.5, 0.5, 0.5))
    assert flossing_delayed_xor._solved_at([run, never]) == [200, 300]


def test_how_far_gradients_faded_in_solved_and_other_runs() -> None:
    ends = {
        "a_10": Summary(1.0, 0.0, -0.3, -0.1),
        "b_10": Summary(0.95, 0.0, -0.4, -0.1),
        "a_100": Summary(0.5, 0.0, -0.07, -0.1),
        "b_100": Summary(0.6, 0.0, -0.09, -0.1),
    }
    values = long_sentence._reach(ends)
    assert values["faded_most_and_solved"] == pytest.approx(4)
    assert values["faded_least_and_not_solved"] == pytest.approx(7)
    del ends["a_100"], ends["b_100"]
    assert math.isnan(long_sentence._reach(ends)["faded_least_and_not_solved"])


def test_curves_of_seeds_share_one_look_and_one_name() -> None:
    curves = {
        "a": [Curve([0, 1, 2], [3, NAN, 1]), Curve([0, 1], [2, 2])],
        "b": [Curve([0, 1], [1, 1])],
    }
    figure = draw_learning(
        [
            Panel("loss (nats)", curves, {"guess": 2.0}, log=True),
            Panel("rate", {"b": curves["b"]}, {}),
        ]
    )
    upper, lower = figure.axes
    first, second, other, guess = upper.lines
    np.testing.assert_array_equal(first.get_xdata(), [0, 2])
    assert first.get_color() == second.get_color() != other.get_color()
    assert lower.lines[0].get_color() == other.get_color()
    assert guess.get_ydata() == [2.0, 2.0]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["a", "b", "guess"]
    assert upper.get_yscale() == "log"
    assert lower.get_xlabel() == "training step"


def fake_launcher(
    monkeypatch: pytest.MonkeyPatch, code: int, status: str
) -> list[list[str]]:
    """Replaces the child process; returns the list that its commands are put in."""
    commands: list[list[str]] = []

    class Ended:
        returncode = code

        def __init__(self, command: list[str], **options: object) -> None:
            commands.append(command)
            path = Path(command[3].removeprefix("--run_dir="))
            path.mkdir(parents=True)
            (path / "run.json").write_text(json.dumps({"status": status}))
            (path / "metrics.jsonl").write_text('{"step": 7, "split": "train"}\n')

        def communicate(self) -> tuple[str, None]:
            return "first\nlast words\n", None

        def terminate(self) -> None:
            pass

    monkeypatch.setattr(training_runs.subprocess, "Popen", Ended)
    return commands


@pytest.mark.parametrize("code", [0, 5])
def test_runs_are_started_with_their_flags_and_read(
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands = fake_launcher(monkeypatch, code, "done")
    wanted = {"a": {"max_lag": None, "seed": 3}, "b": {"report": True}}
    found = training_runs.train(tmp_path, wanted, full=code == 5)
    folder = tmp_path / ("full" if code else "short")
    (first, second) = sorted(commands, key=lambda command: command[3])
    assert first[:4] == [
        sys.executable,
        "-m",
        "experiments.train",
        f"--run_dir={folder / 'a'}",
    ]
    assert {"--max_lag=none", "--seed=3", "--report=false"} <= set(first)
    assert "--report=true" in second
    assert list(found) == ["a", "b"]
    assert found["a"].rows == [{"step": 7, "split": "train"}]
    words = "was done before" if code else "last words"
    assert f"a: {words}" in capsys.readouterr().out


def test_a_run_that_fails_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By the launcher itself, which answers before it imports jax.
    words = "bad ended with code 2: .*--length=0"
    with pytest.raises(Exit, match=words):
        training_runs.train(tmp_path, {"bad": {"length": 0}}, full=False)
    assert not (tmp_path / "short").exists()
    # Locked by another process: the code of a run that is done, without its status.
    fake_launcher(monkeypatch, 5, "incomplete")
    words = "other ended with code 5: last words; or remove .*other$"
    with pytest.raises(Exit, match=words):
        training_runs.train(tmp_path, {"other": {}}, full=False)
