"""Every wrong command line ends with code 2 and one line that helps."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]

# The arguments, and words that the line must hold. RUN is a directory to be made, TMP
# an existing one.
CASES = [
    (["--run_dri=RUN"], ["--run_dri", "unknown flag", "did you mean --run_dir?"]),
    (["--zzzzzz=1"], ["--zzzzzz", "unknown flag", "--help"]),
    (["--nozzzzzz"], ["--nozzzzzz", "unknown flag"]),
    (["--cells=lstm"], ["--cells", "did you mean --cell?"]),
    (["--flagfiles=x"], ["--flagfiles", "did you mean --flagfile?"]),
    (["RUN"], ["expected --name=value"]),
    (["--cell", "lstm", "lstm"], ["'lstm'", "expected --name=value"]),
    (["--", "--cell=lstm"], ["expected --name=value"]),
    (["--seed"], ["--seed", "value is missing"]),
    (["--run_dir="], ["--run_dir", "required"]),
    ([], ["--run_dir", "required"]),
    (["--cell=lstmm"], ["--cell=lstmm", "gru", "did you mean lstm?"]),
    (["--cell="], ["--cell=", "one of elman, exprnn"]),
    (["--cell=LSTM"], ["--cell=LSTM", "one of elman, exprnn"]),
    (["--task=addding"], ["--task=addding", "did you mean adding?"]),
    (["--task=mnist"], ["--task=mnist", "mnist_rows"]),
    (["--optimizer=adamax"], ["--optimizer=adamax", "rmsprop", "did you mean adam"]),
    (["--schedule=linear"], ["--schedule=linear", "constant, cosine, step"]),
    (["--init=pytorch"], ["--init=pytorch", "did you mean torch?"]),
    (["--resume=yes"], ["--resume=yes", "auto, never, must"]),
    (["--progress=verbose"], ["--progress=verbose", "bar"]),
    (["--method=fast"], ["--method=fast", "scan"]),
    (["--product_dtype=float16"], ["--product_dtype=float16", "float32, bfloat16"]),
    (["--product_dtype=bfloat16", "--zoneout=0.1"], ["--product_dtype", "--zoneout"]),
    (["--task=chorales", "--bidirectional"], ["--bidirectional", "--task=chorales"]),
    (
        ["--task=word_order", "--model=bag_of_words"],
        ["--gradient_every=100", "expected 0", "bag_of_words"],
    ),
    (["--hidden_size=big"], ["--hidden_size=big", "whole number", "units"]),
    (["--hidden_size=3.5"], ["--hidden_size=3.5", "whole number"]),
    (["--hidden_size=0"], ["--hidden_size=0", "at least 1"]),
    (["--hidden_size=-4"], ["--hidden_size=-4", "at least 1"]),
    (["--hidden_size=99999999999999999999"], ["--hidden_size", "at most 65536"]),
    (["--num_steps=1e3"], ["--num_steps=1e3", "whole number"]),
    (["--num_steps=inf"], ["--num_steps=inf", "whole number"]),
    (["--batch_size=0"], ["--batch_size=0", "at least 1"]),
    (["--length=0"], ["--length=0", "at least 1"]),
    (["--seed=-1"], ["--seed=-1", "at least 0"]),
    (["--seed=2147483648"], ["--seed=2147483648", "at most 2147483647"]),
    (["--learning_rate=nan"], ["--learning_rate=nan", "above 0"]),
    (["--learning_rate=inf"], ["--learning_rate=inf", "at most 10"]),
    (["--learning_rate=0"], ["--learning_rate=0", "above 0"]),
    (["--learning_rate=-1e-3"], ["--learning_rate=-1e-3", "above 0"]),
    (["--learning_rate=1e400"], ["--learning_rate=1e400", "at most 10"]),
    (["--clip_norm=-1"], ["--clip_norm=-1", "at least 0"]),
    (["--dropout=1"], ["--dropout=1", "at most 0.99"]),
    (["--max_lag=2"], ["--max_lag=2", "above 2"]),
    (["--max_in_flight=300"], ["--max_in_flight=300", "at most 8"]),
    (["--bidirectional=maybe"], ["--bidirectional=maybe", "true or false"]),
    (["--nobidirectional=true"], ["--nobidirectional=true", "argument"]),
    (["--run_dir=a\nb"], ["--run_dir", "printable"]),
    (["--run_dir=RUN "], ["--run_dir", "blank"]),
    (["--list=cell"], ["--list=cell", "cells"]),
    (["--flagfile=TMP/missing.flags"], ["missing.flags", "no such file"]),
    (["--flagfile=TMP"], ["--flagfile", "is a directory"]),
    (["--flagfile=TMP/binary.flags"], ["binary.flags", "text file"]),
    (["--flagfile=TMP/zeros.flags"], ["zeros.flags", "text file"]),
    (["--flagfile=TMP/circle.flags"], ["other.flags", "includes itself"]),
    (["--flagfile=TMP/word.flags"], ["word.flags", "line 2", "hidden_size=4"]),
    (["--flagfile=TMP/typo.flags"], ["--hiden_size", "did you mean --hidden_size?"]),
    (["--flagfile=/dev/zero"], ["/dev/zero", "no such file"]),
    (["--flagfile"], ["--flagfile", "path"]),
    (["--forget_bias=1", "--max_lag=9"], ["--forget_bias", "--max_lag", "at most one"]),
    (["--noforget_gate", "--coupled"], ["--coupled", "--forget_gate=false"]),
    (["--cell=gru", "--projection_size=3"], ["--projection_size=3", "--cell=lstm"]),
    (["--cell=elman", "--max_lag=9"], ["--max_lag=9.0", "--cell=gru|lstm"]),
    (["--cell=irnn", "--init=keras"], ["--init=keras", "--cell=irnn"]),
    (["--activation=relu"], ["--activation=relu", "--cell=elman|jordan"]),
    (["--pooling=mean"], ["--pooling=mean", "--task=", "got --task=adding"]),
    (["--variant=6b"], ["--variant=6b", "halves", "--task=adding"]),
    (["--variant=half"], ["--variant=half", "did you mean halves?"]),
    (["--encoding=scalar"], ["--encoding=scalar", "--task=copy_memory"]),
    (["--task=mnist_rows", "--length=9"], ["--length=9", "--task=mnist_rows"]),
    (["--interval=0.9"], ["--interval=0.9", "--task=random_walk|stocks|weather"]),
    (["--task=random_walk", "--interval=1"], ["--interval=1", "at most 0.99"]),
    (["--task=random_walk", "--interval=90"], ["--interval=90", "at most 0.99"]),
    (["--task=random_walk", "--interval=-0.5"], ["--interval=-0.5", "at least 0"]),
    (["--merge=sum"], ["--merge=sum", "--bidirectional=true"]),
    (["--residual"], ["--residual", "--num_layers"]),
    (["--decay_every=9"], ["--decay_every=9", "--schedule=step"]),
    (["--momentum=0.9"], ["--momentum=0.9", "--optimizer=momentum|rmsprop|sgd"]),
    (["--weight_decay=0.1"], ["--weight_decay=0.1", "--optimizer=adamw"]),
    (["--cell=gru", "--h_detach=0.5"], ["--h_detach=0.5", "--cell=lstm"]),
    (["--h_detach=1"], ["--h_detach=1", "at most 0.99"]),
    (["--h_detach=0.5", "--product_dtype=bfloat16"], ["--product_dtype", "--h_detach"]),
    (["--bidirectional", "--omega=1"], ["--omega=1.0", "--bidirectional=false"]),
    (["--bidirectional", "--flossing=1"], ["--flossing=1.0", "--bidirectional=false"]),
    (["--host_devices=2", "--omega=1"], ["--omega=1.0", "--host_devices=1"]),
    (["--flossing_steps=9"], ["--flossing_steps=9", "--flossing above 0"]),
    (["--flossing_exponents=2"], ["--flossing_exponents=2", "--flossing above 0"]),
    (
        ["--cell=jordan", "--orthogonal_penalty=1"],
        ["--orthogonal_penalty=1.0", "--cell=elman|gru|irnn|lstm", "got --cell=jordan"],
    ),
    (["--cell=jordan", "--spectral_limit=1"], ["--spectral_limit=1.0", "--cell="]),
    (["--spectral_limit=0"], ["--spectral_limit=0", "above 0"]),
    (["--num_steps=9", "--warmup_steps=10"], ["--warmup_steps=10", "at most"]),
    (
        ["--task=mnist_rows", "--steps_per_call=9"],
        ["--steps_per_call=9", "on the host"],
    ),
    (["--host_devices=0"], ["--host_devices=0", "at least 1"]),
    (["--host_devices=4"], ["--host_devices=4", "divisor of --batch_size=50"]),
    (["--eval_size=0"], ["--eval_size=0", "adding"]),
    (["--run_dir=/dev/null/run"], ["--run_dir=/dev/null/run", "directory"]),
    (["--run_dir=TMP/word.flags"], ["--run_dir", "directory"]),
    (["--run_dir=TMP"], ["--run_dir", "holds files but no run"]),
    (["--run_dir=" + "a" * 300], ["--run_dir=aaa", "name too long"]),
]


# Runs the launcher once per line of standard input, each a JSON list of arguments, in
# one process: a process for each would cost a minute.
DRIVER = """
import contextlib, io, json, runpy, sys, traceback
for line in sys.stdin:
    sys.argv[1:] = json.loads(line)
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
        except SystemExit as error:
            code = error.code
        except BaseException:
            traceback.print_exc()
    print(json.dumps([code, out.getvalue(), err.getvalue(), "jax" in sys.modules]))
"""


class Outcome(NamedTuple):
    code: int | None
    out: str
    err: str
    jax_imported: bool


def _make_files(folder: Path) -> None:
    texts = {
        "circle.flags": "--flagfile=other.flags\n",
        "other.flags": "--flagfile=other.flags\n",
        "word.flags": "--seed=1\nhidden_size=4\n",
        "typo.flags": "--hiden_size=4\n",
        "zeros.flags": "\0\0\0\0",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "binary.flags").write_bytes(bytes(range(256)))


def _filled(arguments: list[str], folder: Path) -> list[str]:
    run = str(folder / "run")
    filled = [a.replace("RUN", run).replace("TMP", str(folder)) for a in arguments]
    if arguments and not any("run_dir" in argument for argument in arguments):
        filled.insert(0, f"--run_dir={run}")
    return filled


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """What each of the cases ended in; none of them left a file behind."""
    folder = tmp_path_factory.mktemp("flags")
    _make_files(folder)
    before = sorted(folder.rglob("*"))
    lines = [json.dumps(_filled(arguments, folder)) for arguments, _ in CASES]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert sorted(folder.rglob("*")) == before
    return [Outcome(*json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    "index", range(len(CASES)), ids=[" ".join(a)[:60] or "none" for a, _ in CASES]
)
def test_bad_flags(index: int, outcomes: list[Outcome]) -> None:
    outcome = outcomes[index]
    assert (outcome.code, outcome.out) == (2, ""), outcome.err
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err.startswith("experiments.train: ")
    assert not outcome.jax_imported
    for word in CASES[index][1]:
        assert word in outcome.err


def test_the_process_itself_ends_with_code_2() -> None:
    command = [sys.executable, "-m", "experiments.train", "--cell=lstmm"]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
