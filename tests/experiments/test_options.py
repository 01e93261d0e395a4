"""Flags: they round-trip through flags.txt, and say the truth in --help and --list."""

import dataclasses
import inspect
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from experiments.common import names
from experiments.common.launch import Exit, expand_flagfiles, flag, parse
from experiments.datasets.mnist import MNIST_TASKS
from experiments.datasets.texts import TEXT_LOADERS
from experiments.runs.options import Options, format_flags
from seqjax import initializers, tasks, training
from seqjax.cells import CELLS
from seqjax.cells.elman import ACTIVATIONS
from seqjax.unroll import METHODS

FIELDS = dataclasses.fields(Options)
ROOT = Path(__file__).parents[2]
FLAGFILES = sorted((ROOT / "experiments" / "flagfiles").glob("*.flags"))
_TEXT = st.text(st.characters(categories=["L", "N", "P", "S"]) | st.just(" "))


def _values(field: dataclasses.Field) -> st.SearchStrategy:
    """Any legal value of a flag, taken alone."""
    spec, optional = field.metadata["flag"], "None" in str(field.type)
    if spec.choices:
        values = st.sampled_from(spec.choices)
    elif field.type is bool:
        values = st.booleans()
    elif field.type is str:
        values = _TEXT.map(str.strip).filter(bool)
    elif "int" in str(field.type):
        values = st.integers(int(spec.low), int(spec.high))
    else:
        low = spec.low if spec.above is None else spec.above
        values = st.floats(low, spec.high, exclude_min=spec.above is not None)
    return values | st.none() if optional else values


@st.composite
def _assignments(draw: st.DrawFn) -> dict:
    """Legal values of some flags, each with a meaning beside the others."""
    used = {other for field in FIELDS for other in field.metadata["flag"].only}
    values = {f.name: draw(_values(f)) for f in FIELDS if f.name in used}
    for field in FIELDS:
        only = field.metadata["flag"].only
        meant = all(values[other] in legal for other, legal in only.items())
        if field.name not in used and meant and draw(st.booleans()):
            values[field.name] = draw(_values(field))
    unmeant = {
        "flossing_exponents": not values.get("flossing"),
        "flossing_steps": not values.get("flossing"),
        "residual": values.get("num_layers", 1) == 1,
        "steps_per_call": values["task"] not in names.TASKS,
    }
    values = {name: values[name] for name in values if not unmeant.get(name)}
    # Of two numbers drawn apart, one hardly ever divides the other.
    shares = draw(st.integers(1, 900))
    values["batch_size"] = shares * values.get("host_devices", 1)
    values["warmup_steps"] = min(
        values.get("warmup_steps", 0), values.get("num_steps", Options.num_steps)
    )
    return {"run_dir": "runs/a"} | values


# Seventy flags are slow to draw, which on a busy machine is no fault.
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(_assignments())
def test_flags_text_gives_the_same_options(values: dict) -> None:
    arguments = [
        f"--{name}={'none' if value is None else value}"
        for name, value in values.items()
    ]
    try:
        options = parse(arguments, Options)
    except Exit:
        assume(False)
    for name, value in values.items():
        assert getattr(options, name) == value
    lines = [x for x in format_flags(options).split("\n") if x.startswith("--")]
    assert parse(lines, Options) == options


def test_flags_text_holds_every_flag_once_and_the_changed_default() -> None:
    options = parse(["--run_dir=runs/a b#c", "--hidden_size=7"], Options)
    lines = format_flags(options).split("\n")
    assert [x[2:].split("=")[0] for x in lines if x.startswith("--")] == [
        field.name for group in _groups() for field in group
    ]
    assert lines[lines.index("--hidden_size=7") - 1] == "# default: 64 units"
    assert "--run_dir=runs/a b#c" in lines
    assert "--forget_bias=none" in lines


def _groups() -> list[tuple]:
    return [dataclasses.fields(base) for base in Options.__bases__]


def test_every_flag_explains_itself() -> None:
    for field in FIELDS:
        assert len(field.metadata["flag"].help) >= 20, field.name


def test_legal_names_are_those_of_the_library() -> None:
    assert set(names.CELLS) == set(CELLS)
    assert set(names.TASKS) == set(tasks.TASKS)
    assert set(names.INITS) == set(initializers.PRESETS)
    assert set(names.ACTIVATIONS) == set(ACTIVATIONS)
    assert set(names.OPTIMIZERS) == set(training.OPTIMIZERS)
    assert set(names.SCHEDULES) == set(training.SCHEDULES)
    assert set(names.PIXELS) == set(MNIST_TASKS)
    assert set(names.TEXTS) == {*TEXT_LOADERS, "word_order"}
    assert names.METHODS == METHODS


@pytest.mark.parametrize("task", names.TASKS)
def test_first_variant_is_the_default_and_all_are_accepted(task: str) -> None:
    make = tasks.TASKS[task]
    assert (
        inspect.signature(make).parameters["variant"].default
        == (names.VARIANTS[task][0])
    )
    for variant in names.VARIANTS[task]:
        make(30, variant=variant)


def test_later_flags_win_over_a_flagfile_and_the_other_way_round(tmp_path) -> None:
    base = tmp_path / "base.flags"
    base.write_text("# a comment\n// another\n\n--seed=1\n--hidden_size=5\n")
    (tmp_path / "top.flags").write_text("--flagfile=base.flags\n--hidden_size=6\n")
    top = f"--flagfile={tmp_path}/top.flags"
    given_last = parse([top, "--seed=2", "--run_dir=a"], Options)
    assert (given_last.seed, given_last.hidden_size) == (2, 6)
    given_first = parse(["--seed=2", "--run_dir=a", top], Options)
    assert (given_first.seed, given_first.hidden_size) == (1, 6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unbounded:
    """Numbers: without limits."""

    number: float = flag(0.0, "Any number that one can write down.")
    count: int | None = flag(None, "Any whole number, or none at all.")


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999"])
def test_numbers_are_finite_also_without_bounds(text: str) -> None:
    assert parse(["--number=-1e300", "--count=-7"], Unbounded).count == -7
    with pytest.raises(Exit, match=rf"--number={text}: expected a number$"):
        parse([f"--number={text}"], Unbounded)


def test_flagfile_may_be_a_separate_word(tmp_path) -> None:
    (tmp_path / "a.flags").write_bytes(b"\xef\xbb\xbf--seed=1\r\n")
    expanded = expand_flagfiles(["--flagfile", "a.flags", "--cell=gru"], tmp_path)
    assert expanded == ["--seed=1", "--cell=gru"]


def test_identity_leaves_out_operational_flags_only() -> None:
    options = parse(["--run_dir=a"], Options)
    identity = options.identity()
    assert {"cell", "seed", "learning_rate", "batch_size", "init"} <= set(identity)
    assert {"product_dtype", "host_devices", "method"} <= set(identity)
    operational = {"run_dir", "num_steps", "save_every", "progress", "steps_per_call"}
    assert not operational & set(identity)
    cosine = dataclasses.replace(options, schedule="cosine")
    assert "num_steps" in cosine.identity()


def _train(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import atexit, runpy, sys;"
        "atexit.register(lambda: print('jax' in sys.modules));"
        f"sys.argv[1:] = {arguments!r};"
        "runpy.run_module('experiments.train', run_name='__main__', alter_sys=True)"
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )


def test_help_shows_every_flag_in_groups_without_jax() -> None:
    done = _train("--cell=nonsense", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for field in FIELDS:
        assert f"\n  --{field.name}: " in done.stdout
    for group in Options.__bases__:
        assert f"\n\n{group.__doc__}\n" in done.stdout
    assert max(map(len, done.stdout.split("\n"))) <= 88
    assert done.stdout.endswith("False\n")


def test_list_prints_names_without_jax() -> None:
    done = _train("--list=cells,tasks,optimizers,schedules,inits,datasets")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        "cells: elman exprnn gru irnn jordan lru lstm\ntasks: adding"
    )
    assert len(done.stdout.split("\n")) == 8
    assert done.stdout.endswith("False\n")


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: path.name)
def test_flagfiles_parse_and_say_what_to_expect(path: Path) -> None:
    text = path.read_text()
    for word in ("Question", "Source", "Command", "Cost", "Expected"):
        assert f"# {word}: " in text
    if re.search(r"# Command: python -m experiments\.train\b", text):
        parse([f"--flagfile={path}", "--run_dir=a"], Options)


def test_help_that_nobody_reads_is_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "experiments.train", "--help"],
        cwd=ROOT,
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")
