"""Exported models: the bits of the run, in files that vouch for each other."""

import dataclasses
import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jaxtyping
import numpy as np
import pytest
import safetensors.numpy

from experiments import export
from experiments.common.launch import BAD_FLAG, Exit, parse
from experiments.datasets.sequences import SequenceData
from experiments.datasets.text_tasks import load_text_task
from experiments.deployment import artifact, models, verification
from experiments.deployment.compressed import compress
from experiments.deployment.replies import softmax
from experiments.runs.checkpoints import leaves_by_name
from experiments.runs.served import Served, load_model
from tests.experiments.untrained_run import SERIES, TAGS, TEXT, write_run

pytestmark = pytest.mark.usefixtures("optimised")

QUANTILES = dataclasses.replace(
    SERIES,
    channels=("price",),
    units=("$",),
    means=(5.0,),
    scales=(2.5,),
    answers=(0,),
    quantiles=(0.05, 0.5, 0.95),
)
KINDS = ("float32", "int8")
SHAPES = ((1, 1), (3, 8))


@pytest.fixture(scope="module", autouse=True)
def free_sizes(kept_programs: None) -> Iterator[None]:
    """Lets sizes be symbols, which the checker of types takes for no whole numbers."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the words task, whose data need no files."""
    return write_run(tmp_path_factory.mktemp("export") / "run", TEXT)


@pytest.fixture(scope="module")
def served(run: Path) -> Served:
    return load_model(run, "best")


def exported(
    folder: Path, served: Served, params: Any, **details: Any
) -> artifact.Artifact:
    artifact.write(folder, served.model, params, served.task, details)
    return artifact.load(folder)


def assert_same_bits(found: artifact.Artifact, served: Served, params: Any) -> None:
    infer = models.compiled(served, params)
    for shape in SHAPES:
        batch = verification.random_batch(served.task, *shape)
        np.testing.assert_array_equal(found.call(*batch), infer(*batch))


@pytest.mark.parametrize("quantisation", ["none", "int8"])
@pytest.mark.parametrize("sparsity", [0.0, 0.75])
def test_the_program_restores_what_was_compressed(
    quantisation: str, sparsity: float, served: Served, tmp_path: Path
) -> None:
    small = compress(served.params, quantisation, sparsity)
    found = exported(tmp_path, served, small)
    assert_same_bits(found, served, artifact.restore(small))
    dtypes = {entry["dtype"] for entry in found.signature["arguments"]}
    assert ("int8" in dtypes) == (quantisation == "int8")
    assert ("uint8" in dtypes) == (sparsity > 0)


@pytest.mark.parametrize(
    ("task", "flags"),
    [
        (TEXT, ("--model=bag_of_words",)),
        (TEXT, ("--bidirectional", "--pooling=max", "--cell=gru")),
        (SERIES, ("--cell=elman", "--method=scan")),
        (QUANTILES, ()),
        (TAGS, ("--zoneout=0.1", "--method=checkpoint")),
    ],
    ids=["bag of words", "both directions", "forecast", "quantiles", "labels"],
)
def test_batch_and_time_are_free(
    task: Any, flags: tuple[str, ...], tmp_path: Path
) -> None:
    served = load_model(write_run(tmp_path / "run", task, *flags), "best")
    served = served._replace(model=export.inference_model(served))
    found = exported(tmp_path / "files", served, served.params)
    assert_same_bits(found, load_model(tmp_path / "run", "best"), served.params)
    inputs = found.signature["arguments"][-2]
    assert inputs["shape"][:2] == ["batch", "time"]
    assert found.signature["outputs"]["shape"][0] == "batch"


def read_weights(data: bytes) -> dict[str, np.ndarray]:
    """As a program does that knows NumPy and JSON alone."""
    size = int.from_bytes(data[:8], "little")
    dtypes = {"F32": "<f4", "I8": "i1", "U8": "u1"}
    arrays = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        start, stop = (8 + size + offset for offset in entry["data_offsets"])
        numbers = np.frombuffer(data[start:stop], dtypes[entry["dtype"]])
        arrays[name] = numbers.reshape(entry["shape"])
    return arrays


def restore_weights(
    signature: dict[str, Any], arrays: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The same, for weights that are stored with a mask or a scale."""
    arrays = dict(arrays)
    for entry in signature["parameters"]:
        name, shape = entry["name"], entry["shape"]
        for stem in (name, f"{name}.values"):
            if f"{stem}.mask" in arrays:
                nonzero = arrays.pop(f"{stem}.nonzero")
                dense = np.zeros(shape, nonzero.dtype)
                bits = np.unpackbits(arrays.pop(f"{stem}.mask"), count=dense.size)
                dense[bits.reshape(shape) > 0] = nonzero
                arrays[stem] = dense
        if f"{name}.scale" in arrays:
            arrays[name] = arrays.pop(f"{name}.values") * arrays.pop(f"{name}.scale")
    return arrays


@pytest.mark.parametrize(("stored", "sparsity"), [("none", 0.75), ("int8", 0.75)])
def test_other_programs_can_restore_the_weights(
    stored: str, sparsity: float, served: Served, tmp_path: Path
) -> None:
    small = compress(served.params, stored, sparsity)
    signature = artifact.write(tmp_path, served.model, small, served.task, {})
    arrays = read_weights((tmp_path / artifact.WEIGHTS).read_bytes())
    found = restore_weights(signature, arrays)
    expected = leaves_by_name(artifact.restore(small))
    assert sorted(found) == sorted(expected)
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])


def test_the_signature_lists_what_goes_in(served: Served, tmp_path: Path) -> None:
    small = compress(served.params, "int8", 0.75)
    signature = exported(tmp_path, served, small, step=0).signature
    arrays = safetensors.numpy.load((tmp_path / artifact.WEIGHTS).read_bytes())
    *weights, inputs, lengths = signature["arguments"]
    assert [entry["name"] for entry in weights] == sorted(arrays)
    for entry in weights:
        assert list(arrays[entry["name"]].shape) == entry["shape"]
        assert arrays[entry["name"]].dtype == entry["dtype"]
    assert inputs == {"name": "inputs", "shape": ["batch", "time"], "dtype": "int32"}
    assert lengths == {"name": "lengths", "shape": ["batch"], "dtype": "int32"}
    wanted = {"name": "logits", "shape": ["batch", 2], "dtype": "float32"}
    assert signature["outputs"] == wanted
    assert artifact.load(tmp_path).task == TEXT
    assert signature["step"] == 0
    # The arguments of the program, in the order of the signature.
    program = jax.export.deserialize(
        bytearray((tmp_path / artifact.PROGRAM).read_bytes())
    )
    assert [str(a.dtype) for a in program.in_avals] == [
        entry["dtype"] for entry in signature["arguments"]
    ]
    assert set(program.platforms) == {"cpu", "cuda", "tpu"}


def test_an_exported_series_says_its_units_and_answers_in_them(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", QUANTILES)
    served = load_model(run, "best")
    signature = exported(tmp_path / "files", served, served.params, max_length=0)
    found = signature.signature["task"]
    assert (found["channels"], found["units"]) == (["price"], ["$"])
    assert (found["means"], found["scales"], found["answers"]) == ([5.0], [2.5], [0])
    assert signature.signature["outputs"]["shape"] == ["batch", 3, 1, 3]
    prices, lengths = np.array([[[5.0], [7.5]]], np.float32), np.array([2], np.int32)
    answer = models.model_of_export(tmp_path / "files").infer(prices, lengths)
    again = models.model_of_run(run, "best").infer(prices, lengths)
    np.testing.assert_array_equal(answer, again)
    # The program itself reads and answers standardised numbers.
    bare = np.asarray(signature.call(np.array([[[0.0], [1]]], np.float32), lengths))
    np.testing.assert_allclose(answer, 5 + 2.5 * bare, rtol=1e-6)


def test_the_same_export_has_the_same_bytes_and_no_paths(
    served: Served, tmp_path: Path
) -> None:
    option = "jax_traceback_in_locations_limit"
    setting = getattr(jax.config, option)
    for name in ("a", "b"):
        exported(tmp_path / name, served, served.params)
    assert getattr(jax.config, option) == setting != 0
    files = (artifact.PROGRAM, artifact.WEIGHTS, artifact.SIGNATURE)
    for name in files:
        data = (tmp_path / "a" / name).read_bytes()
        assert data == (tmp_path / "b" / name).read_bytes()
        assert b".py" not in data
        assert str(Path(__file__).parents[2]).encode() not in data


@pytest.mark.parametrize("name", [artifact.PROGRAM, artifact.WEIGHTS])
def test_a_changed_byte_is_noticed(name: str, served: Served, tmp_path: Path) -> None:
    exported(tmp_path, served, served.params)
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(Exit, match=f"{name} has another SHA-256") as caught:
        artifact.load(tmp_path)
    assert caught.value.code == BAD_FLAG


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"format": 2}', "expected format 1, got 2"),
    ],
)
def test_what_is_no_export_is_refused(
    content: str | None, words: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / artifact.SIGNATURE).write_text(content)
    with pytest.raises(Exit, match=words) as caught:
        artifact.load(tmp_path)
    assert caught.value.code == BAD_FLAG


def options_of(run: Path, out_dir: Path, *flags: str) -> export.Options:
    return parse([f"--run_dir={run}", f"--out_dir={out_dir}", *flags], export.Options)


def test_a_fresh_process_gives_the_same_bits(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--quantise=int8", "--sparsity=0.5")
    assert export.main(options_of(run, tmp_path / "new", *flags)) == 0
    shown = capsys.readouterr().out
    assert "against the run: the same bits" in shown
    for name in (artifact.PROGRAM, artifact.WEIGHTS):
        size = (tmp_path / "new" / name).stat().st_size
        assert f"{name}: {size:,} bytes" in shown
    signature = json.loads((tmp_path / "new" / artifact.SIGNATURE).read_text())
    assert signature["compression"] == {"quantise": "int8", "sparsity": 0.5}
    assert signature["model"]["hidden_size"] == 6


def test_other_weights_fail(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write = artifact.write

    def write_another(folder: Path, model: Any, params: Any, *rest: Any) -> Any:
        return write(folder, model, jax.tree.map(lambda a: 1.001 * a, params), *rest)

    monkeypatch.setattr(artifact, "write", write_another)
    assert export.main(options_of(run, tmp_path)) == 1
    assert "a largest difference of" in capsys.readouterr().out


def test_a_process_that_fails_is_quoted(served: Served, tmp_path: Path) -> None:
    verdict = verification.verify(
        tmp_path, TEXT, models.compiled(served, served.params)
    )
    assert not verdict.passed
    assert re.search(r"could not answer: .*No such file", verdict.text)


@pytest.mark.parametrize(
    ("error", "passed", "words"),
    [
        (0.0, True, "the same bits"),
        (1e-5, True, "a largest difference of 1e-05 in answers up to 2"),
        (1e-4, False, "a largest difference of 0.0001 in answers up to 2"),
        (np.nan, False, "a largest difference of nan"),
    ],
)
def test_what_counts_as_rounding(error: float, passed: bool, words: str) -> None:
    expected = [np.array([1.0, -2.0], np.float32), np.zeros(1, np.float32)]
    found = [expected[0], expected[1] + np.float32(error)]
    verdict = verification.compare(found, expected)
    assert verdict.passed == passed
    assert verdict.text.startswith(words)


def test_compressions_are_compared_on_the_test_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The vocabulary that the data really have.
    data = load_text_task("word_order", tmp_path, tokens=None, vocab_size=10_000)
    task = dataclasses.replace(TEXT, vocabulary=data.vocabulary)
    run = write_run(tmp_path / "run", task, "--embedding_size=8")
    flags = ("--table", "--noverify", "--eval_size=8")
    assert export.main(options_of(run, tmp_path / "files", *flags)) == 0
    assert "a guess without memory has accuracy 0.5" in capsys.readouterr().out
    lines = (tmp_path / "files" / "compression.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    kinds = [(stored, sparsity) for stored in KINDS for sparsity in (0, 0.5, 0.8, 0.9)]
    assert [(row["stored"], row["sparsity"]) for row in rows] == kinds
    for row in rows[:4]:
        assert row["zeros"] == pytest.approx(row["sparsity"], abs=0.02)
    sizes = [row["bytes"] for row in rows]
    assert sizes[0] == (tmp_path / "files" / artifact.WEIGHTS).stat().st_size
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3]
    assert sizes[4] < 0.6 * sizes[0]
    expected = measure_by_hand(load_model(run, "best"), data)
    for row, stored, sparsity in ((rows[0], "none", 0), (rows[6], "int8", 0.8)):
        loss, accuracy = expected(stored, sparsity)
        # Means in another order.
        assert row["loss"] == pytest.approx(loss, rel=1e-5)
        assert row["accuracy"] == accuracy
    assert rows[0]["loss"] != rows[6]["loss"]


def measure_by_hand(
    served: Served, data: SequenceData
) -> Callable[[str, float], tuple[float, float]]:
    """Loss and accuracy on 8 sentences of test, spread evenly, one after another."""
    inputs, labels = data.splits["test"][:2]
    assert isinstance(labels, np.ndarray)
    chosen = np.arange(8) * len(inputs.lengths) // 8
    sentences = inputs.take(chosen, 8)

    def measure(stored: str, sparsity: float) -> tuple[float, float]:
        small = compress(served.params, stored, sparsity)
        infer = models.compiled(served, artifact.restore(small))
        logits = np.asarray(infer(sentences, inputs.lengths[chosen].astype(np.int32)))
        right = labels[chosen]
        losses = -np.log(softmax(logits)[np.arange(8), right])
        return float(losses.mean()), float(np.mean(logits.argmax(1) == right))

    return measure


def test_a_package_that_is_missing_is_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "safetensors" else find(name),
    )
    with pytest.raises(Exit, match="need safetensors, which is missing") as caught:
        export.main(options_of(run, tmp_path))
    assert caught.value.code == 1


def test_two_inputs_are_refused(served: Served) -> None:
    task = dataclasses.replace(TEXT, source_vocabulary=TEXT.vocabulary)
    with pytest.raises(Exit, match="reads two sequences") as caught:
        export.inference_model(served._replace(task=task))
    assert caught.value.code == BAD_FLAG


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--out_dir=x",), "--run_dir: required"),
        (("--run_dir=x",), "--out_dir: required"),
        (("--run_dir=x", "--out_dir=y", "--eval_size=3"), "only with --table=true"),
        (
            ("--run_dir=x", "--out_dir=y", "--quantise=int4"),
            "one of none, int8",
        ),
        (("--run_dir=x", "--out_dir=y", "--checkpoint=last"), "latest, best or a step"),
    ],
)
def test_wrong_flags_are_named(flags: tuple[str, ...], words: str) -> None:
    with pytest.raises(Exit, match=words) as caught:
        parse(flags, export.Options)
    assert caught.value.code == BAD_FLAG
