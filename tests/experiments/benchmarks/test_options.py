"""Flags of the benchmarks: what they choose, and that wrong ones end with code 2."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import benchmarks
from experiments.benchmarks import options as options_module
from experiments.benchmarks.options import METHODS, STUDIES, Options, Plan, Shape
from experiments.common.launch import Exit, parse
from seqjax.unroll import METHODS as LIBRARY_METHODS

ROOT = Path(__file__).parents[3]

# Arguments, and words that the one line must hold.
CASES = [
    (["--study=sped"], ["--study=sped", "did you mean speed?"]),
    (["--shapes=8x256x32"], ["--shapes=8x256x32", "BATCHxTIMExINPUTxHIDDEN"]),
    (["--shapes=8x0x32x64"], ["--shapes=8x0x32x64", "expected"]),
    (["--shapes=8x256x32x64,"], ["--shapes=:", "expected"]),
    (["--kinds=lstm,grus"], ["--kinds=grus", "lstm, gru, elman"]),
    (["--peers=pytorch"], ["--peers=pytorch", "torch, linen"]),
    (["--methods=fast"], ["--methods=fast", "auto, scan, checkpoint"]),
    (["--passes=both"], ["--passes=both", "forward, backward"]),
    (["--repetitions=0"], ["--repetitions=0", "at least 1"]),
    (["--seconds=0"], ["--seconds=0", "above 0"]),
    (["--timed"], ["--timed=true", "--study=memory"]),
    (["--host_devices=0"], ["--host_devices=0", "at least 1"]),
    (["--study=memory", "--peers=torch"], ["--peers=torch", "--study=memory"]),
    (["--study=longest", "--passes=forward"], ["--passes=forward", "longest"]),
    (["--study=norms", "--kinds=gru"], ["--kinds=gru", "some of lstm"]),
    (["--study=norms", "--methods=auto,scan"], ["--methods", "one method"]),
    (["--out_dir=/dev/null/bench", "--peers=linen"], ["--out_dir=/dev/null/bench"]),
]
DRIVER = """
import contextlib, io, json, runpy, sys
for line in sys.stdin:
    sys.argv[1:] = json.loads(line)
    err, code = io.StringIO(), None
    with contextlib.redirect_stderr(err):
        try:
            runpy.run_module("experiments.benchmarks", run_name="__main__")
        except SystemExit as error:
            code = error.code
    print(json.dumps([code, err.getvalue(), "jax" in sys.modules]))
"""


@pytest.fixture(scope="module")
def outcomes() -> list[tuple[int, str, bool]]:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input="\n".join(json.dumps(arguments) for arguments, _ in CASES),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    "index", range(len(CASES)), ids=[" ".join(a) for a, _ in CASES]
)
def test_bad_flags(index: int, outcomes: list[tuple[int, str, bool]]) -> None:
    code, err, jax_imported = outcomes[index]
    assert (code, jax_imported) == (2, False), err
    assert err.count("\n") == 1, err
    assert err.startswith("experiments.benchmarks: ")
    for word in CASES[index][1]:
        assert word in err


def test_help_names_the_launcher() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments.benchmarks", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Usage: python -m experiments.benchmarks [--flag" in done.stdout
    assert all(f"\n{study}: " in done.stdout for study in STUDIES)


def test_a_package_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def without_haiku(name: str) -> str:
        if name == "dm-haiku":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_haiku)
    benchmarks.require_packages(Options(peers="linen,torch").plan())
    with pytest.raises(Exit, match=r"--peers=haiku: .*dm-haiku.*pip install") as caught:
        benchmarks.require_packages(Options().plan())
    assert caught.value.code == 2


def test_methods_are_those_of_the_library() -> None:
    assert METHODS == LIBRARY_METHODS


@pytest.mark.parametrize("study", STUDIES)
def test_flags_that_are_not_set_mean_the_plan_of_the_study(study: str) -> None:
    assert Options(study=study).plan() == STUDIES[study]


def test_flags_replace_the_plan() -> None:
    arguments = ["--shapes=2x3x4x5,6x7x8x9,2x3x4x5", "--kinds=gru", "--peers=keras,nnx"]
    arguments += ["--methods=checkpoint", "--passes=backward", "--host_devices=2"]
    options = parse([*arguments, "--repetitions=7", "--seconds=1.5"], Options)
    assert options.plan() == Plan(
        study="speed",
        shapes=(Shape(2, 3, 4, 5), Shape(6, 7, 8, 9)),
        kinds=("gru",),
        peers=("keras", "nnx"),
        methods=("checkpoint",),
        passes=("backward",),
        repetitions=7,
        seconds=1.5,
        host_devices=2,
    )
    shape = options.plan().shapes[0]
    assert options_module.parse_shape(str(shape)) == shape
