"""Works take turns, are counted right, and stop in time."""

import pytest

from experiments.benchmarks import timing


def alternate(repetitions: int, seconds: float) -> tuple[list[str], dict]:
    calls: list[str] = []
    works = {name: lambda name=name: calls.append(name) for name in "abc"}
    return calls, timing.alternate(works, repetitions, seconds)


def test_every_turn_runs_every_work_once_in_changing_order() -> None:
    calls, samples = alternate(30, 60.0)
    turns = ["".join(calls[k : k + 3]) for k in range(0, len(calls), 3)]
    assert len(turns) == 2 + 30  # with the warm-up
    assert all(sorted(turn) == list("abc") for turn in turns)
    assert len(set(turns[2:])) == 6
    assert {name: len(times) for name, times in samples.items()} == dict.fromkeys(
        "abc", 30
    )
    assert all(time > 0 for times in samples.values() for time in times)


@pytest.mark.parametrize(("repetitions", "expected"), [(3, 3), (1000, 5)])
def test_the_time_limit_leaves_five_turns(repetitions: int, expected: int) -> None:
    _, samples = alternate(repetitions, 1e-9)
    assert len(samples["a"]) == expected


def test_quartiles_and_ratios_of_neighbours() -> None:
    assert timing.quartiles([5.0, 1.0, 3.0, 2.0, 4.0]) == {
        "median": 3.0,
        "lower": 2.0,
        "upper": 4.0,
    }
    # A machine that slows down tenfold half-way: each turn still has the ratio 2.
    reference = [1.0, 1.0, 10.0, 10.0]
    ratio = timing.ratios([2.0, 2.0, 20.0, 20.0], reference)
    assert ratio == {"median": 2.0, "lower": 2.0, "upper": 2.0}
