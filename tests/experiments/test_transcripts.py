"""Strings of digits from end to end: data, training, report, answers, export."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import torch

from experiments import evaluate, export, predict, train
from experiments.common.launch import BAD_FLAG, Exit, parse
from experiments.datasets import frames, speech_tasks
from experiments.datasets.prepared import npz_bytes
from experiments.datasets.sequences import SequenceData
from experiments.pictures.transcript import draw_transcript
from experiments.reports import transcripts
from experiments.runs.logs import read_gradient_norms
from experiments.runs.options import Options
from experiments.runs.served import load_model
from experiments.runs.sources import first_examples, stored_source
from experiments.runs.transcript import read_off
from tests.experiments.datasets.stored import store
from tests.experiments.small_runs import rows


@pytest.fixture(scope="module", autouse=True)
def free_sizes(kept_programs: None) -> Iterator[None]:
    """Lets sizes be symbols, which the checker of types takes for no whole numbers."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


CLASSES = ("<blank>", *"0123456789")
NUM_STRINGS = {"train": 300, "valid": 40, "test": 30}


def recordings() -> dict[str, np.ndarray]:
    """Thirty of each digit, 3 to 6 frames; feature d stands out while d is said."""
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 10
    lengths = generator.integers(3, 7, 300)
    values = generator.normal(0, 0.3, (int(lengths.sum()), 13))
    values[np.arange(len(values)), np.repeat(labels, lengths)] += 3
    # A number of its own for each recording, by which it can be told.
    values[:, 12] = np.repeat(np.arange(300), lengths)
    return {"X": values.astype(np.float32), "y": labels, "lengths": lengths}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        contents = {"digits.npz": npz_bytes(recordings())}
        store(patch, frames, "SPOKEN_DIGITS", folder, contents)
        patch.setattr(speech_tasks, "_NUM_STRINGS", NUM_STRINGS)
        yield folder


@pytest.fixture(scope="module")
def data(data_dir: Path) -> SequenceData:
    return speech_tasks.load_digit_strings(data_dir)


@pytest.fixture(scope="module")
def run(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learnt to write the strings down."""
    path = tmp_path_factory.mktemp("runs") / "run"
    flags = [
        f"--run_dir={path}",
        f"--data_dir={data_dir}",
        "--task=digit_strings",
        "--cell=gru",
        "--hidden_size=16",
        "--batch_size=16",
        "--learning_rate=3e-2",
        "--num_steps=250",
        "--eval_every=125",
        "--save_every=250",
        "--eval_size=0",
        "--gradient_every=200",
        "--lag_sequences=2",
        "--progress=none",
    ]
    train.main(parse(flags, Options))
    return path


# --- data ------------------------------------------------------------------------


def test_strings_of_two_splits_share_no_recording(data: SequenceData) -> None:
    used = {}
    for name, split in data.splits.items():
        numbers = split.inputs.values[:, 12]
        used[name] = set(np.unique(numbers).tolist())
        assert len(split.inputs.lengths) == NUM_STRINGS[name]
    for one, other in itertools.combinations(used.values(), 2):
        assert one
        assert not one & other


def test_labels_are_the_digits_plus_one_in_their_order(data: SequenceData) -> None:
    assert data.classes == CLASSES
    split = data.splits["valid"]
    assert isinstance(split.targets, np.ndarray)
    assert set(np.sum(split.targets > 0, axis=1).tolist()) == {1, 2, 3, 4, 5}
    for start, stop, labels in zip(
        split.inputs.starts, split.inputs.starts[1:], split.targets, strict=False
    ):
        values = split.inputs.values[start:stop]
        heard = values[:, :10].argmax(axis=1)
        # A recording ends where its number changes; one may stand twice in a row.
        turns = np.flatnonzero(np.diff(values[:, 12], prepend=-1))
        digits = [key for key, _ in itertools.groupby(labels[labels > 0] - 1)]
        assert [key for key, _ in itertools.groupby(heard[turns].tolist())] == digits
        assert not np.any(np.diff((labels > 0).astype(int)) > 0)


def distance(answer: tuple[int, ...], labels: tuple[int, ...]) -> int:
    if not answer or not labels:
        return len(answer) + len(labels)
    return min(
        distance(answer[1:], labels[1:]) + (answer[0] != labels[0]),
        distance(answer[1:], labels) + 1,
        distance(answer, labels[1:]) + 1,
    )


def test_the_constant_answer_is_counted_right() -> None:
    generator = np.random.default_rng(1)
    labels = np.zeros((60, 4), np.int32)
    for row in labels:
        size = generator.integers(0, 5)
        row[:size] = generator.choice([1, 1, 1, 2, 3], size)
    strings = [tuple(row[row > 0].tolist()) for row in labels]
    answers = [s for n in range(5) for s in itertools.product((1, 2, 3), repeat=n)]
    errors = {a: sum(distance(a, s) for s in strings) for a in answers}
    for answer in answers[::7]:
        assert speech_tasks.label_errors([*answer], labels) == errors[answer]
    loss, rate = speech_tasks.constant_transcript(labels, labels, 4)
    assert rate == min(errors.values()) / sum(map(len, strings)) < 1
    counts = np.bincount([len(s) for s in strings], minlength=5) + 1
    digits = np.bincount(labels[labels > 0], minlength=4) + 1
    expected = -np.mean(
        [
            np.log(counts[len(s)] / counts.sum())
            + sum(np.log(digits[d] / digits.sum()) for d in s)
            for s in strings
        ]
    )
    assert loss == pytest.approx(expected, rel=1e-12)


def test_a_batch_knows_its_frames_and_its_labels(data: SequenceData) -> None:
    source = stored_source(data, batch_size=8, seed=0, max_length=0, num_buckets=2)
    assert source.lower_is_better
    raw, count = list(source.eval_batches("test", 13))[-1]
    count -= 1
    assert count > 0
    example = first_examples(source.expand(raw), jnp.asarray(count))
    num_steps = example.inputs.shape[1]
    expected = np.arange(num_steps)[None] < raw.lengths[:, None]
    expected[count:] = False
    np.testing.assert_array_equal(example.mask, expected)
    np.testing.assert_array_equal(example.scored, expected)
    np.testing.assert_array_equal(example.targets, raw.targets)
    assert example.targets.shape == (8, 5)


# --- training --------------------------------------------------------------------


def test_a_run_learns_and_measures_its_gradient(run: Path, data: SequenceData) -> None:
    result = json.loads((run / "run.json").read_text())["result"]
    assert result["test_label_error_rate"] < 0.25
    assert 0.5 < result["baseline_label_error_rate"] < 1
    assert result["test_loss"] < result["baseline_loss"] / 3
    assert result["best_step"] in (125, 250)
    arrays = read_gradient_norms(run / "gradient_norms.npz")
    longest = max(split.inputs.lengths.max() for split in data.splits.values())
    assert arrays["log_norms"].shape == (2, 2, 3, longest + 1)
    assert np.isfinite(arrays["log_norms"][:, :, 1, 0]).all()
    np.testing.assert_allclose(arrays["lag_projections"].sum(axis=1), 1, atol=1e-5)
    assert all("lag_shares" in row for row in rows(run) if "decay_rate" in row)


def test_the_measured_numbers_are_those_of_the_model_alone(
    run: Path, data: SequenceData, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sequence by sequence, by torch and by the textbook."""
    served, split = load_model(run, "best"), data.splits["test"]
    assert isinstance(split.targets, np.ndarray)
    everything = split.inputs.take(np.arange(len(split.targets)), 40)
    # The cell reads forward: what stands behind the end reaches nothing before it.
    _, logits = jax.jit(served.model.apply)({"params": served.params}, everything)
    totals = np.zeros(3)
    for row, (labels, length) in enumerate(
        zip(split.targets, split.inputs.lengths.tolist(), strict=True)
    ):
        real = torch.tensor(np.asarray(logits)[row, :length])
        right = tuple(labels[labels > 0].tolist())
        sizes = torch.tensor(length), torch.tensor(len(right))
        loss = torch.nn.functional.ctc_loss(
            torch.log_softmax(real, -1), torch.tensor(right), *sizes
        )
        path = real.argmax(1).tolist()
        answer = tuple(key for key, _ in itertools.groupby(path) if key)
        totals += [len(right) * float(loss), distance(answer, right), len(right)]
    evaluate.main(parse([f"--run_dir={run}"], evaluate.Options))
    found = json.loads(capsys.readouterr().out)
    # Float32 sums of other shapes.
    assert found["loss"] == pytest.approx(totals[0] / len(split.targets), rel=1e-4)
    assert found["label_error_rate"] == pytest.approx(totals[1] / totals[2], abs=1e-9)


def test_cut_frames_and_a_pooled_answer_are_refused(tmp_path: Path) -> None:
    for flag in ("--max_length=9", "--pooling=mean"):
        with pytest.raises(Exit, match=f"{flag}: has a meaning only with") as caught:
            parse([f"--run_dir={tmp_path}", "--task=digit_strings", flag], Options)
        assert caught.value.code == BAD_FLAG


def test_missing_recordings_are_one_line(tmp_path: Path) -> None:
    flags = ["--task=digit_strings", f"--data_dir={tmp_path}", "--dry_run"]
    with pytest.raises(Exit, match="--fetch=spoken_digits") as caught:
        train.main(parse(flags, Options))
    assert caught.value.code == BAD_FLAG


# --- what is shown ---------------------------------------------------------------


def test_the_report_shows_a_sequence_frame_by_frame(run: Path) -> None:
    page = json.loads((run / "transcript.json").read_text())
    assert page["classes"] == [*CLASSES]
    assert len(page["labels"]) == 5
    assert distance(tuple(page["answer"]), tuple(page["labels"])) <= 1
    np.testing.assert_allclose(np.sum(page["probabilities"], axis=1), 1, atol=1e-3)
    path = [int(np.argmax(row)) for row in page["probabilities"]]
    assert [k for k, _ in itertools.groupby(path) if k] == page["answer"]
    html = (run / "report.html").read_text()
    said, answer = (
        " ".join(CLASSES[i] for i in page[name]) for name in ("labels", "answer")
    )
    assert f"Said: {said}. Written down: {answer}, with probability" in html
    assert (run / "plots" / "transcript.png").stat().st_size > 1000


def test_a_page_without_a_sequence_and_a_damaged_one(tmp_path: Path) -> None:
    assert transcripts.section(tmp_path) == ""
    (tmp_path / "transcript.json").write_text('{"classes": []}')
    with pytest.raises(ValueError, match=r"transcript\.json: damaged"):
        transcripts.section(tmp_path)


def test_peaks_are_named_and_the_blank_is_told_apart() -> None:
    shares = np.full((9, 4), 0.02)
    shares[:, 0] = 0.9
    shares[2:4, 3] = [0.5, 0.8]
    shares[6, 1] = 0.4
    (axes,) = draw_transcript(shares, ["<blank>", "a", "b", "c"], [3, 2]).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("frame", "probability")
    assert axes.get_title() == "said: c b"
    names = [line.get_label() for line in axes.lines]
    assert names == ["blank", "a", "b", "c"]
    peaks = {(text.get_text(), text.xy) for text in axes.texts}  # pyright: ignore[reportAttributeAccessIssue]
    assert peaks == {("c", (4, 0.8)), ("a", (7, 0.4))}


# --- answers ---------------------------------------------------------------------


def ask(source: Path, *flags: str) -> list[dict]:
    output = source.with_suffix(".answers")
    arguments = [f"--input={source}", f"--output={output}", *flags]
    assert predict.main(parse(arguments, predict.Options)) == 0
    return [json.loads(line) for line in output.read_text().splitlines()]


def test_lines_are_answered_with_labels_and_their_probability(
    run: Path, data: SequenceData, tmp_path: Path
) -> None:
    split = data.splits["test"]
    parts = np.split(split.inputs.values, split.inputs.starts[1:-1])[:6]
    source = tmp_path / "in"
    lines = [json.dumps({"inputs": part.tolist()}) for part in parts]
    source.write_text("".join(f"{line}\n" for line in lines))
    answers = ask(source, f"--run_dir={run}", "--all_scores")
    served = load_model(run, "best")
    everything = split.inputs.take(np.arange(6), 40)
    lengths = split.inputs.lengths[:6].astype(np.int32)
    apply = jax.jit(served.model.apply)
    _, logits = apply({"params": served.params}, everything, lengths)
    for line, (part, answer) in enumerate(zip(parts, answers, strict=True), start=1):
        labels, score = read_off(np.asarray(logits)[line - 1], len(part))
        assert answer["line"] == line
        assert answer["labels"] == [CLASSES[i] for i in labels]
        assert answer["score"] == pytest.approx(score, rel=1e-4)
        assert 0 < answer["score"] <= 1
        assert len(answer["all_scores"]) == len(part)
        assert set(answer["all_scores"][0]) == set(CLASSES)
    found = [answer["labels"] for answer in answers]
    assert isinstance(split.targets, np.ndarray)
    right = [[CLASSES[i] for i in row[row > 0]] for row in split.targets[:6]]
    assert sum(a == b for a, b in zip(found, right, strict=True)) >= 4

    out_dir = tmp_path / "export"
    flags = [f"--run_dir={run}", f"--out_dir={out_dir}", "--noverify"]
    assert export.main(parse(flags, export.Options)) == 0
    signature = json.loads((out_dir / "signature.json").read_text())
    assert signature["task"]["kind"] == "transcribe"
    assert signature["outputs"]["name"] == "logits"
    assert ask(source, f"--export_dir={out_dir}", "--all_scores") == answers
