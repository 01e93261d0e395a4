"""Text and music that tiny runs make up, from tiny texts and pieces."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import generate, train
from experiments.common.launch import BAD_FLAG, NO_CHECKPOINT, Exit, parse
from experiments.datasets import literature
from experiments.datasets.description import TaskDescription
from experiments.datasets.midi import midi_bytes
from experiments.datasets.vocabulary import END, START
from experiments.generation import verse as verse_module
from experiments.generation.chords import Chords
from experiments.generation.language import Language
from experiments.generation.sampler import Sampler
from experiments.generation.verse import verse_shares
from experiments.runs import task_file, training_state
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.factories import build_model
from experiments.runs.options import Options, format_flags
from experiments.runs.served import Served, initial_state, load_model
from experiments.studies.kit import answers
from seqjax import cells, combinators, decoding, models
from tests.experiments.datasets.stored import store
from tests.experiments.small_runs import ROOT, command
from tests.helpers import random_like

HAN = "山水風花雪月春秋天地人心日夜江河"
LETTERS = "HAMLET.\nTo be, or not to be.\n"
SPECIALS = ("<pad>", "<unk>", "<start>", "<end>")
SMALL = ("--hidden_size=6", "--batch_size=2", "--gradient_every=0", "--progress=none")


def poem(rng: random.Random, size: int) -> str:
    lines = ["".join(rng.choices(HAN, k=size)) for _ in range(4)]
    return "{}，{}。{}，{}。".format(*lines)


def description(name: str, characters: str, features: int = 0) -> TaskDescription:
    """What task.json says of a task."""
    vocabulary = (*SPECIALS, *sorted(set(characters))) if characters else ()
    return TaskDescription(
        name=name,
        kind="label" if characters else "multilabel",
        metric="bits_per_token" if characters else "binary_cross_entropy",
        input_size=features,
        output_size=features or len(vocabulary),
        baseline_loss=1.0,
        baseline_metric=1.0,
        tokens="characters" if characters else "",
        vocabulary=vocabulary,
    )


def write_run(path: Path, task: TaskDescription, *flags: str) -> None:
    """Writes the directory of a run whose parameters are random."""
    options = parse(
        [*SMALL, f"--task={task.name}", f"--run_dir={path}", *flags], Options
    )
    model = build_model(options, task)
    shapes = jax.eval_shape(lambda: initial_state(options, task, model))
    state = random_like(shapes, seed=0)
    path.mkdir()
    (path / "flags.txt").write_text(format_flags(options))
    task_file.write(path, task)
    training = training_state.start(state).evaluated(0, 1.0, better=True)
    Checkpoints(path / "checkpoints").save(0, training)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, kept_programs: None) -> Path:
    """A folder with runs of three tasks."""
    folder = tmp_path_factory.mktemp("generate")
    write_run(
        folder / "quatrains", description("quatrains", HAN + "，。"), "--cell=gru"
    )
    write_run(
        folder / "shakespeare", description("shakespeare", LETTERS), "--num_layers=2"
    )
    write_run(folder / "chorales", description("chorales", "", 88))
    return folder


def options_of(run: Path, *arguments: str) -> generate.Options:
    return parse([f"--run_dir={run}", *arguments], generate.Options)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]):
    """Runs the launcher and returns what it writes on the terminal."""

    def said(run: Path, *arguments: str) -> str:
        capsys.readouterr()
        assert generate.main(options_of(run, *arguments)) == 0
        return capsys.readouterr().out

    return said


def test_a_run_that_was_trained_goes_on_without_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say
) -> None:
    rng = random.Random(0)
    poems = "".join(f"{poem(rng, size)}\n" for size in (5, 7) * 20)
    contents = {"quatrains.txt": poems.encode()}
    data = store(monkeypatch, literature, "_QUATRAINS", tmp_path, contents)
    flags = (f"--data_dir={tmp_path}", "--num_steps=2", "--eval_size=2", "--noreport")
    run = tmp_path / "run"
    task = "--task=quatrains"
    train.main(parse([*SMALL, *flags, task, f"--run_dir={run}"], Options))
    shutil.rmtree(data)
    assert literature.QUATRAIN.fullmatch(say(run, "--form=7").strip())


def test_the_same_flags_give_the_same_text(runs: Path, say) -> None:
    run = runs / "shakespeare"
    first, again, other = (
        say(run, "--num_tokens=60", f"--seed={seed}") for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other
    assert len(first) == 60 + 1


def test_samples_differ_and_do_not_depend_on_their_number(runs: Path, say) -> None:
    run = runs / "quatrains"
    flags = ("--form=5", "--seed=1")
    three = say(run, "--num_samples=3", *flags).split("\n\n")
    assert len({text.strip() for text in three}) == 3
    assert say(run, *flags) == three[0] + "\n"


@pytest.mark.parametrize(
    ("flags", "temperature", "top_k", "top_p"),
    [
        (("--temperature=1.5", "--top_k=9"), 1.5, 9, None),
        (("--temperature=2", "--top_p=0.6"), 2.0, None, 0.6),
    ],
)
def test_text_is_what_the_library_generates(
    runs: Path,
    say,
    flags: tuple[str, ...],
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> None:
    served = load_model(runs / "shakespeare", "best")
    vocabulary = served.task.vocabulary
    read = jnp.array([vocabulary.index(c) for c in "\nHAM"], jnp.int32)

    def sample(logits: jax.Array, key: jax.Array) -> jax.Array:
        letters = jnp.where(jnp.arange(len(vocabulary)) < 4, -jnp.inf, logits)
        return decoding.sample_logits(
            letters, key, temperature=temperature, top_k=top_k, top_p=top_p
        )

    @jax.jit
    def generated(key: jax.Array) -> jax.Array:
        outputs: Any = served.model.apply({"params": served.params}, read[:-1])
        _, step = decoding.language_step(served.model, served.params)
        key = jax.random.fold_in(key, 0)
        return decoding.generate(
            step, outputs[0], read[-1], key, 50, sample_fn=sample
        ).tokens

    tokens = generated(jax.random.key(5))
    expected = "HAM" + "".join(vocabulary[int(token)] for token in tokens)
    arguments = ("--prompt=HAM", "--num_tokens=50", "--seed=5", *flags)
    assert say(runs / "shakespeare", *arguments) == expected + "\n"


def test_at_temperature_zero_nothing_is_left_to_chance(runs: Path, say) -> None:
    run = runs / "shakespeare"
    texts = {
        say(run, "--temperature=0", "--num_tokens=30", f"--seed={s}") for s in (0, 1)
    }
    assert len(texts) == 1


@pytest.mark.parametrize(("size", "prompt"), [(5, ""), (7, "日日日日日日日，月")])
def test_a_form_is_kept(
    runs: Path, capsys: pytest.CaptureFixture[str], size: int, prompt: str
) -> None:
    arguments = ("--num_samples=5", f"--form={size}", f"--prompt={prompt}")
    generate.main(options_of(runs / "quatrains", *arguments))
    out, err = capsys.readouterr()
    line = f"[{HAN}]{{{size}}}"
    form = re.compile(f"{line}，{line}。{line}，{line}。")
    texts = out.removesuffix("\n").split("\n\n")
    assert len(texts) == 5
    for text in texts:
        assert form.fullmatch(text)
        assert text.startswith(prompt)
    fives, sevens = (5, 0) if size == 5 else (0, 5)
    form, verse = err.splitlines()
    assert form == f"form kept: 5 of 5 (lines of 5: {fives}, of 7: {sevens})"
    rhyming = verse_shares(texts).rhyme
    assert verse.startswith(f"in today's Mandarin {rhyming:.0%} of them rhyme")


def test_a_text_ends_at_its_end_and_has_no_special_token(runs: Path, say) -> None:
    # To a random model every token is about as likely as any other.
    texts = say(runs / "quatrains", "--num_samples=20").removesuffix("\n").split("\n\n")
    assert len(texts) == 20
    lengths = [len(text) for text in texts]
    assert len(set(lengths)) > 5
    assert max(lengths) < 400
    assert set("".join(texts)) <= {*HAN, "，", "。"}


def test_text_without_an_end_goes_on(runs: Path, say) -> None:
    text = say(runs / "shakespeare", "--num_tokens=2000")
    assert len(text) == 2001
    assert set(text) == set(LETTERS)


def test_a_cut_poem_has_not_kept_its_form(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--form=5", "--num_tokens=23", "--num_samples=2")
    generate.main(options_of(runs / "quatrains", *arguments))
    assert "form kept: 0 of 2" in capsys.readouterr().err


def test_forms_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    language, rng = (
        Language(description("quatrains", HAN + "，。"), None),
        random.Random(1),
    )
    texts = [poem(rng, 5), poem(rng, 7), poem(rng, 7), poem(rng, 6), poem(rng, 5)[:-1]]
    language.report([list(language.read(text)) for text in texts])
    form, verse = capsys.readouterr().err.splitlines()
    assert form == "form kept: 3 of 5 (lines of 5: 1, of 7: 2)"
    assert f"{verse_shares(texts[:3]).alternation:.0%} of all lines" in verse


def test_without_readings_rhymes_are_said_to_be_unknown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verse_module.importlib.util, "find_spec", lambda name: None)
    language = Language(description("quatrains", HAN + "，。"), None)
    language.report([list(language.read(poem(random.Random(1), 5)))])
    told = capsys.readouterr().err.splitlines()[1]
    assert told.startswith("rhyme and tones were not looked at: pypinyin is missing")


def test_a_study_looks_at_200_poems(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(
        answers, "verse_shares", lambda poems: seen.extend(poems) or verse_shares(poems)
    )
    found = answers.measure_answers(runs / "quatrains")
    assert found == verse_shares(seen)._asdict()
    assert len(seen) == 200
    assert len(set(seen)) > 150
    assert all(literature.QUATRAIN.fullmatch(text) for text in seen)
    assert answers.measure_answers(runs / "shakespeare") == {}


def test_a_file_holds_what_was_shown(runs: Path, say, tmp_path: Path) -> None:
    output = tmp_path / "poems.txt"
    arguments = ("--form=7", "--num_samples=3", f"--output={output}")
    shown = say(runs / "quatrains", *arguments)
    assert output.read_text() == shown


def test_poems_begin_at_the_start_token_and_text_without_beginning_at_a_line() -> None:
    verse = Language(description("quatrains", HAN + "，。"), None)
    assert (verse.start, verse.end) == (START, END)
    text = Language(description("shakespeare", LETTERS), None)
    assert (text.show(text.start), text.end) == ("\n", None)


def test_line_breaks_and_backslashes_can_be_written() -> None:
    language = Language(description("shakespeare", LETTERS + "\\"), None)
    for prompt, text in ((r"H\nT", "H\nT"), (r"H\\nT", r"H\nT"), (r"\\\n", "\\\n")):
        shown = "".join(map(language.show, language.read(prompt)))
        assert shown == text


def test_chords_are_shown_and_written(runs: Path, say, tmp_path: Path) -> None:
    output = tmp_path / "song.mid"
    arguments = ("--num_tokens=6", "--prompt=C3,G3,E4 rest", f"--output={output}")
    shown = say(runs / "chorales", *arguments)
    lines = shown.splitlines()
    assert len(lines) == 2 + 6
    assert lines[:2] == ["C3,G3,E4", "rest"]
    roll = Chords().read(" ".join(lines))
    np.testing.assert_array_equal(np.flatnonzero(roll[0]) + 21, [48, 55, 64])
    assert output.read_bytes() == midi_bytes(roll)


def test_several_pieces_are_several_files(runs: Path, say, tmp_path: Path) -> None:
    arguments = ("--num_tokens=3", "--num_samples=2")
    shown = say(runs / "chorales", *arguments, f"--output={tmp_path / 'a.mid'}")
    pieces = shown.removesuffix("\n").split("\n\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-1.mid", "a-2.mid"]
    for number, piece in enumerate(pieces, start=1):
        roll = Chords().read(" ".join(piece.split()))
        assert (tmp_path / f"a-{number}.mid").read_bytes() == midi_bytes(roll)
    assert pieces[0] != pieces[1]


def test_chords_are_what_the_library_generates(runs: Path, say) -> None:
    served = load_model(runs / "chorales", "best")

    def sample(logits: jax.Array, key: jax.Array) -> jax.Array:
        return decoding.sample_bernoulli(logits, key, temperature=0.5)

    @jax.jit
    def generated(key: jax.Array) -> jax.Array:
        carry, step = decoding.language_step(served.model, served.params)
        key = jax.random.fold_in(key, 0)
        silence = jnp.zeros(88)
        return decoding.generate(step, carry, silence, key, 10, sample_fn=sample).tokens

    shown = say(runs / "chorales", "--num_tokens=10", "--temperature=0.5")
    np.testing.assert_array_equal(Chords().read(shown), generated(jax.random.key(0)))


def test_notes_have_their_names() -> None:
    roll = Chords().read("A0 C8 C4 A4 Bb3,F#4 rest B#3,Cb4")
    pitches = [(np.flatnonzero(chord) + 21).tolist() for chord in roll]
    assert pitches == [[21], [108], [60], [69], [58, 66], [], [59, 60]]
    shown = "".join(map(Chords().show, roll))
    assert shown == "A0\nC8\nC4\nA4\nA#3,F#4\nrest\nB3,C4\n"


def test_a_learned_carry_outlives_a_sample() -> None:
    cell = combinators.learned_carry(cells.gru(3, 4))
    model = models.LanguageModel(cell, 9, embedding_size=3)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(1, jnp.int32))
    params = random_like(shapes["params"], seed=0)
    served = Served(None, None, model, params, 0)  # pyright: ignore[reportArgumentType]
    start = np.asarray(2, np.int32)
    sampler = Sampler(served, start, None, decoding.sample_logits)

    def drawn() -> list[int]:
        tokens = sampler.draw(np.zeros(0, np.int32), jax.random.key(1))
        return [int(next(tokens)) for _ in range(9)]

    assert drawn() == drawn()


@pytest.mark.parametrize(
    ("task", "arguments", "words"),
    [
        (
            "shakespeare",
            ["--prompt=café"],
            "--prompt: the run has not seen 'c', 'a', 'f', 'é'",
        ),
        ("quatrains", ["--prompt=龍"], "--prompt: the run has not seen '龍'"),
        ("shakespeare", ["--form=5"], "--form=5: expected none for a run of --task=sh"),
        ("chorales", ["--form=5"], "--form: has no meaning for chords"),
        ("chorales", ["--top_k=3"], "--top_k: has no meaning for chords"),
        ("chorales", ["--top_p=0.5"], "--top_p: has no meaning for chords"),
        ("chorales", ["--prompt=H4"], "'H4' is no note from A0 to C8"),
        ("chorales", ["--prompt=C3,"], "'' is no note from A0 to C8"),
        ("chorales", ["--prompt=C#8"], "'C#8' is no note from A0 to C8"),
        ("chorales", ["--prompt=G0"], "'G0' is no note from A0 to C8"),
        (
            "quatrains",
            ["--form=5", "--prompt=山水，"],
            "--prompt: '，' as character 3 does not fit --form",
        ),
        (
            "quatrains",
            ["--form=7", "--prompt=山水山水山水，"],
            "--prompt: '，' as character 7",
        ),
        ("quatrains", ["--output=/nowhere/a.txt"], "--output=/nowhere/a.txt: expected"),
        ("quatrains", ["--output=/tmp"], "--output=/tmp: expected a file in a folder"),
        ("nothing", [], "holds no run"),
    ],
)
def test_what_does_not_fit_is_one_line(
    runs: Path, task: str, arguments: list[str], words: str
) -> None:
    with pytest.raises(Exit) as caught:
        generate.main(options_of(runs / task, *arguments))
    assert words in str(caught.value)
    assert caught.value.code == BAD_FLAG


def test_a_missing_checkpoint_is_named(runs: Path) -> None:
    with pytest.raises(Exit, match="no checkpoint of step 9") as caught:
        generate.main(options_of(runs / "quatrains", "--checkpoint=9"))
    assert caught.value.code == NO_CHECKPOINT


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--task=adding", "a run of --task=adding; expected one of melodies, quatr"),
        ("--task=reuters_r8", "a run of --task=reuters_r8; expected one of melodies"),
        ("--task=quatrains\n--bidirectional", "--bidirectional: expected false"),
    ],
)
def test_runs_that_cannot_go_on_are_refused(
    runs: Path, tmp_path: Path, flags: str, words: str
) -> None:
    shutil.copy(runs / "quatrains" / "task.json", tmp_path / "task.json")
    (tmp_path / "flags.txt").write_text(f"--run_dir={tmp_path}\n{flags}\n")
    with pytest.raises(Exit, match=words) as caught:
        generate.main(options_of(tmp_path))
    assert caught.value.code == BAD_FLAG


def test_a_damaged_vocabulary_is_one_line(runs: Path, tmp_path: Path) -> None:
    shutil.copy(runs / "quatrains" / "flags.txt", tmp_path / "flags.txt")
    record = json.loads((runs / "quatrains" / "task.json").read_text())
    record["vocabulary"] = record["vocabulary"][1:]
    (tmp_path / "task.json").write_text(json.dumps(record))
    with pytest.raises(Exit, match=r"task.json is damaged \(expected tokens") as caught:
        generate.main(options_of(tmp_path))
    assert caught.value.code == BAD_FLAG


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--help"], 0, "--temperature: "),
        (["--num_tokens=0"], 2, "--num_tokens=0"),
        (["--checkpoint=first"], 2, "expected latest, best or a step"),
        (["--form=6"], 2, "one of 5, 7"),
        (["--prompt=龍"], 2, "the run has not seen"),
    ],
)
def test_wrong_flags_do_not_need_jax(
    runs: Path, arguments: list[str], code: int, words: str
) -> None:
    flags = [f"--run_dir={runs / 'quatrains'}", *arguments]
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['experiments.generate', *{flags!r}]\n"
        "try:\n"
        "    runpy.run_module('experiments.generate', run_name='__main__')\n"
        "finally:\n"
        "    assert 'jax' not in sys.modules\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == code, result.stderr
    assert words in result.stdout + result.stderr
    if code:
        assert result.stderr.count("\n") == 1


def started(run: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A launcher that would go on for minutes."""
    flags = (f"--run_dir={run}", "--num_tokens=1000000", *arguments)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    return subprocess.Popen(
        command(*flags, module="experiments.generate"),
        cwd=ROOT,
        env=environment | {"PYTHONUTF8": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_an_interrupt_ends_it_with_what_was_written(runs: Path, tmp_path: Path) -> None:
    output = tmp_path / "text.txt"
    with started(runs / "shakespeare", f"--output={output}") as process:
        assert process.stdout is not None
        seen = os.read(process.stdout.fileno(), 1 << 16)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == b""
    assert 0 < len(seen) < 4096  # it did not wait for a buffer to fill
    # The signal may fall between noting a token and showing it.
    assert output.read_bytes().startswith(seen + rest)
    assert len(output.read_bytes()) <= len(seen + rest) + 2


def test_a_reader_that_leaves_ends_it(runs: Path) -> None:
    with started(runs / "chorales") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(20)
        process.stdout.close()
        assert process.wait(timeout=60) == 128 + signal.SIGPIPE
        assert process.stderr.read() == b""
