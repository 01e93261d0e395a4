"""Answers to lines of JSON: the right ones, in order, whatever else is in the file."""

import dataclasses
import io
import json
import math
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from experiments import predict
from experiments.common.launch import BAD_FLAG, Exit, parse
from experiments.datasets.vocabulary import Vocabulary, words
from experiments.deployment import answering, requests
from experiments.deployment.answering import answer_requests, padded_length
from experiments.deployment.replies import make_reply, softmax
from experiments.deployment.requests import Request, make_parser, read_requests
from experiments.runs.served import load_model
from tests.experiments.small_runs import ROOT, command
from tests.experiments.untrained_run import (
    SERIES,
    TAGS,
    TEXT,
    WORDS,
    describe,
    write_run,
)

pytestmark = pytest.mark.usefixtures("optimised")

GRID = describe("mnist_rows", "classify", input_size=2)


@pytest.fixture(scope="module", autouse=True)
def programs(kept_programs: None) -> None:
    """Keeps compiled programs for the module."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("predict") / "run", TEXT)


def texts(count: int) -> list[str]:
    """Texts of 1 to 12 words, some of them unknown."""
    generator = np.random.default_rng(count)
    choices = [*WORDS[4:], "new"]
    return [
        " ".join(generator.choice(choices, generator.integers(1, 13)))
        for _ in range(count)
    ]


def write_lines(path: Path, values: list[Any]) -> Path:
    """Strings go into the file as they are."""
    lines = [value if isinstance(value, str) else json.dumps(value) for value in values]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def predicted(
    model: Path, source: Path, *flags: str, kind: str = "run_dir"
) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and the lines of the output."""
    output = source.with_suffix(".answers")
    arguments = [f"--{kind}={model}", f"--input={source}", f"--output={output}"]
    code = predict.main(parse([*arguments, *flags], predict.Options))
    assert not output.with_name(f"{output.name}.partial").exists()
    return code, [json.loads(line) for line in output.read_text().splitlines()]


def expected_answers(run: Path, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Of the model itself, one sequence after another, without any padding."""
    served = load_model(run, "best")
    apply = jax.jit(served.model.apply)
    return [
        np.asarray(apply({"params": served.params}, sequence[None])[1][0])
        for sequence in inputs
    ]


def test_every_text_has_its_own_answer(run: Path, tmp_path: Path) -> None:
    asked = texts(30)
    source = write_lines(tmp_path / "in", [{"text": text} for text in asked])
    flags = ("--batch_size=4", "--window=11", "--all_scores")
    code, answers = predicted(run, source, *flags)
    assert code == 0
    assert [answer["line"] for answer in answers] == list(range(1, 31))
    encode = Vocabulary(WORDS).encode
    expected = expected_answers(run, [encode(words(text)) for text in asked])
    for answer, logits in zip(answers, expected, strict=True):
        scores = softmax(logits)
        label = TEXT.classes[scores.argmax()]
        assert answer["label"] == label
        assert answer["score"] == answer["scores"][label]
        # Six digits are given, of what float32 rounds at the seventh or eighth.
        found = [answer["scores"][name] for name in TEXT.classes]
        np.testing.assert_allclose(found, scores, rtol=2e-6)


def test_batches_and_windows_change_nothing(run: Path, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in", [{"text": text} for text in texts(20)])
    _, one_by_one = predicted(run, source, "--window=1", "--batch_size=1")
    _, together = predicted(run, source)
    for a, b in zip(one_by_one, together, strict=True):
        assert (a["line"], a["label"]) == (b["line"], b["label"])
        np.testing.assert_allclose(a["score"], b["score"], rtol=2e-6)


def test_the_first_steps_are_read(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", TEXT, "--max_length=3")
    lines = [{"text": "我 不 喜欢 w1 w1"}, {"text": "我 不 喜欢"}, {"text": "我 不"}]
    source = write_lines(tmp_path / "in", lines)
    _, answers = predicted(run, source)
    scores = [answer["score"] for answer in answers]
    assert scores[0] == scores[1] != scores[2]
    _, answers = predicted(run, source, "--max_length=0")
    assert answers[0]["score"] != answers[1]["score"] == scores[1]
    _, answers = predicted(run, source, "--max_length=2")
    assert len({answer["score"] for answer in answers}) == 1


def test_an_export_answers_as_the_run(run: Path, tmp_path: Path) -> None:
    # In processes of their own: the suite's checker of types knows no symbolic sizes.
    out_dir = tmp_path / "files"
    flags = (f"--run_dir={run}", f"--out_dir={out_dir}", "--noverify")
    subprocess.run(
        command(*flags, module="experiments.export"),
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    source = write_lines(tmp_path / "in", [{"text": text} for text in texts(9)])
    flags = ("--batch_size=4", "--all_scores")
    assert predicted(out_dir, source, *flags, kind="export_dir") == predicted(
        run, source, *flags
    )


def test_forecasts_take_values(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", SERIES)
    values = [0.5, -1, 2e-3]
    rows = [[value] for value in values]
    source = write_lines(tmp_path / "in", [{"values": values}, {"inputs": rows}])
    code, answers = predicted(run, source)
    assert code == 0
    assert answers[0]["forecast"] == answers[1]["forecast"]
    (expected,) = expected_answers(run, [np.array(rows, np.float32)])
    found = np.array(answers[0]["forecast"], np.float32)
    assert found.shape == (3, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # The shortest decimals that are the same float32.
    assert max(len(str(value)) for (value,) in answers[0]["forecast"]) <= 14


def test_labels_of_steps_end_with_the_sequence(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", TAGS)
    # The first is padded to 6 steps.
    lines = [{"inputs": [[1], [0], [1], [0], [1]]}, {"inputs": [[1]]}]
    _, answers = predicted(run, write_lines(tmp_path / "in", lines), "--all_scores")
    assert [len(answer["labels"]) for answer in answers] == [5, 1]
    for answer in answers:
        for label, score, every in zip(
            answer["labels"], answer["scores"], answer["all_scores"], strict=True
        ):
            assert score == every[str(label)] == max(every.values())
            assert sum(every.values()) == pytest.approx(1, abs=1e-5)


WEATHER = describe(
    "weather",
    "forecast",
    input_size=2,
    output_size=1,
    horizon=3,
    channels=("temp", "wind"),
    units=("°F", "mph"),
    means=(50.0, 8.0),
    scales=(10.0, 4.0),
    answers=(0,),
    from_last=True,
    quantiles=(0.05, 0.5, 0.95),
)


def test_a_series_is_asked_and_answered_in_its_own_units(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", WEATHER)
    # Five, which are padded to six.
    steps = [[50, 8], [50, 8], [60, 8], [40, 10], [55, 0]]
    columns = {"wind": [8, 8, 8, 10, 0], "temp": [50, 50, 60, 40, 55], "more": 1}
    source = write_lines(tmp_path / "in", [{"inputs": steps}, {"inputs": columns}])
    code, answers = predicted(run, source)
    assert code == 0
    assert answers[0] | {"line": 2} == answers[1]
    read = np.array([[0, 0], [0, 0], [1, 0], [-1, 0.5], [0.5, -2]], np.float32)
    (outputs,) = expected_answers(run, [read])
    for name, place in {"low": 0, "forecast": 1, "high": 2}.items():
        # From the last temperature on; a product and a sum in float32.
        expected = 55 + 10 * outputs[:, :, place]
        np.testing.assert_allclose(answers[0][name], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ([[1]], "2 numbers (temp, wind), got the shape [1, 1]"),
        ({"temp": [1]}, '"inputs": expected a list for wind'),
        ({"temp": [1], "wind": 2}, '"inputs": expected a list for wind'),
        ({"temp": [1], "wind": [2, 3]}, "of one length, got temp 1, wind 2"),
        ({"temp": [], "wind": []}, "got the shape [0]"),
        ({"temp": ["1"], "wind": [2]}, "got what is no number"),
    ],
)
def test_channels_that_do_not_fit_are_named(inputs: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        make_parser(WEATHER, 0)({"inputs": inputs})


def test_a_run_without_units_answers_as_the_model_does(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", SERIES)
    record = json.loads((run / "task.json").read_text())
    for name in ("channels", "units", "means", "scales", "answers", "from_last"):
        del record[name]
    del record["quantiles"]
    (run / "task.json").write_text(json.dumps(record))
    source = write_lines(tmp_path / "in", [{"values": [0.5, -1]}])
    _, answers = predicted(run, source)
    (expected,) = expected_answers(run, [np.array([[0.5], [-1]], np.float32)])
    np.testing.assert_allclose(answers[0]["forecast"], expected, rtol=1e-6)


BAD_TEXTS = [
    ("{", "not JSON: "),
    ("", "not JSON: "),
    ("[" * 100_000, "not JSON: too many brackets inside each other"),
    ("9" * 5000, "Exceeds the limit"),
    ("[1]", 'expected an object with "text"'),
    ('{"values": [1]}', '"text": missing'),
    ('{"text": 3}', '"text": expected a string'),
    ('{"text": " "}', '"text": there are no words in it'),
]
BAD_FEATURES = [
    ('{"values": [1, 2]}', '"inputs": missing'),
    ('{"inputs": 3}', "got the shape []"),
    ('{"inputs": []}', "got the shape [0]"),
    ('{"inputs": [[1, 2], [3]]}', "got lists of several lengths"),
    ('{"inputs": [[1, 2, 3]]}', "a list of 2 numbers, got the shape [1, 3]"),
    ('{"inputs": [[1, "2"]]}', "got what is no number"),
    ('{"inputs": [[true, false]]}', "got what is no number"),
    ('{"inputs": [[1, null]]}', "got what is no number"),
    ('{"inputs": [[1, NaN]]}', "expected numbers that float32 can hold"),
    ('{"inputs": [[1, 1e39]]}', "expected numbers that float32 can hold"),
]


@pytest.mark.parametrize(("task", "cases"), [(TEXT, BAD_TEXTS), (GRID, BAD_FEATURES)])
def test_a_bad_line_is_named_and_not_the_end(task: Any, cases: Any) -> None:
    good = '{"text": "我", "more": 1}' if task is TEXT else '{"inputs": [[1, 2.5]]}'
    text = "".join(f"{line}\n" for line, _ in cases) + good
    parser = make_parser(task, 0)
    found = list(read_requests(io.BytesIO(text.encode()), parser))
    assert [request.line for request in found] == list(range(1, len(cases) + 2))
    for request, (line, reason) in zip(found, cases, strict=False):
        assert reason in request.error, line[:50]
        assert "\n" not in request.error
        assert request.inputs is None
    assert found[-1].error == ""
    assert found[-1].inputs is not None


def test_bytes_that_are_no_text() -> None:
    stream = io.BytesIO(b'{"text": "\xff"}\n\n')
    found = list(read_requests(stream, make_parser(TEXT, 0)))
    assert [request.error[:20] for request in found] == [
        "not UTF-8 at byte 11",
        "not JSON: Expecting ",
    ]


def test_a_line_without_end_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_LINE_BYTES", 32)
    good = b'{"text": "w1"}\n'
    # Of 32 bytes with the line break, of 32 without, and of several pieces.
    exact = b'{"text": "w1 w1"}'.ljust(31) + b"\n"
    lines = [good, exact, b" " * 32 + b"\n", b"x" * 100 + b"\n", good, b"y" * 64]
    found = list(read_requests(io.BytesIO(b"".join(lines)), make_parser(TEXT, 0)))
    errors = [request.error for request in found]
    too_long = "longer than 32 bytes"
    assert errors == ["", "", too_long, too_long, "", too_long]


def test_errors_are_told_twice_and_cost_the_exit_code(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_lines(tmp_path / "in", ["x", {"text": "我"}, {"text": ""}])
    code, answers = predicted(run, source)
    assert code == 1
    assert list(answers[0]) == ["line", "error"]
    assert "label" in answers[1]
    told = capsys.readouterr().err.splitlines()
    assert told == [
        f"line 1: {answers[0]['error']}",
        f"line 3: {answers[2]['error']}",
        "3 lines, 2 of them bad",
    ]


def test_an_answer_that_is_no_number_is_an_error() -> None:
    lines: list[bytes] = []
    inputs = np.ones((1, 2), np.float32)
    answers = [
        (Request(1, inputs), np.array([np.nan, 1])),
        (Request(2, inputs), np.array([0.0, 1])),
    ]
    counts = predict.write_answers(
        answers, make_reply(GRID, all_scores=False), lines.append
    )
    assert counts == (2, 1)
    assert json.loads(lines[0]) == {"line": 1, "error": "the answer is not finite"}
    score = round(1 / (1 + math.exp(-1)), 6)
    assert json.loads(lines[1]) == {"line": 2, "label": 1, "score": score}


def test_an_empty_file_has_an_empty_answer(run: Path, tmp_path: Path) -> None:
    assert predicted(run, write_lines(tmp_path / "in", [])) == (0, [])


def sums(inputs: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """A model that tells what it saw: the sum of its inputs, length and batch."""
    shape = [np.full(len(inputs), size) for size in inputs.shape]
    return np.stack([inputs.sum((1, 2)), lengths, *shape[:2]], axis=1)


def sequences(count: int) -> Iterator[Request]:
    for number in range(1, count + 1):
        length = 1 + number * 7 % 50
        yield Request(number, np.full((length, 1), number, np.float32))


def test_no_more_than_a_window_is_read_ahead() -> None:
    read = number = 0

    def counted() -> Iterator[Request]:
        nonlocal read
        for request in sequences(100_000):
            read += 1
            yield request

    answers = answer_requests(counted(), sums, batch_size=16, window=100)
    for number, (request, output) in enumerate(answers, start=1):
        assert request.line == number
        assert read <= number + 99
        assert request.inputs is not None
        assert output is not None
        np.testing.assert_array_equal(
            output[:2], [number * len(request.inputs), len(request.inputs)]
        )
    assert number == read == 100_000


def test_long_sequences_end_a_window_and_share_no_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answering, "WINDOW_NUMBERS", 100)
    monkeypatch.setattr(answering, "BATCH_STEPS", 64)
    sizes = [len(part) for part in answering.windows(sequences(50), 1000)]
    assert sum(sizes) == 50
    assert len(sizes) > 1
    # A sequence of 50 steps at most comes on top of less than 100.
    parts = list(answering.windows(sequences(50), 1000))
    held = [sum(r.inputs.size for r in part if r.inputs is not None) for part in parts]
    assert max(held) < 150
    for request, output in answer_requests(
        sequences(50), sums, batch_size=16, window=50
    ):
        assert request.inputs is not None
        assert output is not None
        rows, num_steps = output[2:]
        assert rows == min(16, 64 // num_steps)
        assert num_steps == padded_length(len(request.inputs))


def test_bad_requests_keep_their_place() -> None:
    bad = Request(2, None, "bad")
    asked = [*sequences(1), bad, Request(3, np.ones((1, 1), np.float32))]
    found = list(answer_requests(asked, sums, batch_size=4, window=10))
    assert [request.line for request, _ in found] == [1, 2, 3]
    assert found[1] == (bad, None)


def test_padded_lengths() -> None:
    sizes = [padded_length(n) for n in range(1, 26)]
    assert sorted(set(sizes)) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]
    for n, size in enumerate(sizes, start=1):
        assert n <= size <= max(n, 3 * n / 2)


def test_softmax_of_extremes() -> None:
    logits = np.array([[3e38, -3e38], [0, 0]], np.float32)
    np.testing.assert_array_equal(softmax(logits), [[1, 0], [0.5, 0.5]])


@pytest.mark.parametrize(
    "task",
    [describe("chorales", "multilabel"), dataclasses.replace(TEXT, kind="label")],
)
def test_models_that_go_on_are_refused(task: Any) -> None:
    with pytest.raises(ValueError, match=r"try experiments\.generate"):
        make_reply(task, all_scores=False)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--input=a", "--output=b"), "--run_dir, --export_dir: expected one"),
        (("--run_dir=r", "--export_dir=e", "--input=a", "--output=b"), "expected one"),
        (("--run_dir=r", "--output=b"), "--input: required"),
        (("--run_dir=r", "--input=a"), "--output: required"),
        (
            ("--run_dir=r", "--input=a", "--output=a"),
            "expected another file than input",
        ),
        (
            ("--export_dir=e", "--checkpoint=latest", "--input=a", "--output=b"),
            "has a meaning only with --run_dir",
        ),
    ],
)
def test_wrong_flags_are_named(flags: tuple[str, ...], words: str) -> None:
    with pytest.raises(Exit, match=words) as caught:
        parse(flags, predict.Options)
    assert caught.value.code == BAD_FLAG


def test_files_that_are_not_there(run: Path, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in", [{"text": "我"}])
    for model, given, output, reason in (
        (run, tmp_path / "no", tmp_path / "out", "--input=.*No such file"),
        (run, tmp_path, tmp_path / "out", "--input=.*Is a directory"),
        (run, source, tmp_path / "no" / "out", "--output=.*No such file"),
        (tmp_path, source, tmp_path / "out", "holds no run"),
    ):
        flags = [f"--run_dir={model}", f"--input={given}", f"--output={output}"]
        with pytest.raises(Exit, match=reason) as caught:
            predict.main(parse(flags, predict.Options))
        assert caught.value.code == BAD_FLAG
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_ctrl_c_leaves_what_was_written(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    flags = (f"--run_dir={run}", "--input=-", f"--output={output}", "--window=1")
    with subprocess.Popen(
        command(*flags, module="experiments.predict"),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(b'{"text": "w1"}\n' * 2)
            process.stdin.flush()
            partial = tmp_path / "out.partial"
            deadline = time.monotonic() + 120
            while not partial.exists() or partial.read_bytes().count(b"\n") < 2:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 130
        finally:
            process.kill()
    lines = partial.read_bytes().splitlines()
    assert [json.loads(line)["line"] for line in lines] == [1, 2]
    assert not output.exists()


def test_stdout_that_nobody_reads(run: Path) -> None:
    flags = (f"--run_dir={run}", "--input=-", "--output=-")
    with subprocess.Popen(
        command(*flags, module="experiments.predict"),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, told = process.communicate(b'{"text": "w1"}\n' * 2, timeout=120)
    assert process.returncode == 128 + signal.SIGPIPE
    assert told == b""
