"""Translation from end to end, from a language into its words written backwards."""

import io
import itertools
import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import train, translate
from experiments.common.launch import BAD_FLAG, Exit, parse
from experiments.datasets import translations
from experiments.datasets.dataset import PairSplit
from experiments.datasets.vocabulary import START, Vocabulary, characters, words
from experiments.pictures import attention
from experiments.reports import translations as translations_page
from experiments.runs.logs import read_gradient_norms
from experiments.runs.options import Options, format_flags
from experiments.runs.served import Served, load_model
from experiments.studies.kit.answers import measure_answers
from experiments.translation import evaluation, scores
from experiments.translation.retrieval import commonest_target, nearest_targets
from experiments.translation.search import Search, attention_weights
from experiments.translation.text import join_words
from tests.experiments.datasets.stored import store
from tests.experiments.small_runs import options_of, rows

WORDS = {"甲": "one", "乙": "two", "丙": "three", "丁": "four", "戊": "five"}


def translated(source: str) -> str:
    """The made-up language: word by word, from the last one on."""
    return " ".join(WORDS[letter] for letter in reversed(source)).capitalize() + "."


def make_lines() -> list[str]:
    generator = random.Random(0)
    sources = [
        "".join(letters)
        for size in (2, 3, 4)
        for letters in itertools.product(WORDS, repeat=size)
    ]
    return [f"{s}\t{translated(s)}\n" for s in sorted(generator.sample(sources, 600))]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("data")
    contents = {"pairs.tsv": "".join(make_lines()).encode()}
    with pytest.MonkeyPatch.context() as patch:
        store(patch, translations, "_HELP_ZH_EN", folder, contents)
        yield folder


@pytest.fixture(scope="module")
def run(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learnt the language."""
    path = tmp_path_factory.mktemp("runs") / "run"
    flags = [
        f"--run_dir={path}",
        f"--data_dir={data_dir}",
        "--task=help_zh_en",
        "--cell=gru",
        "--hidden_size=24",
        "--embedding_size=16",
        "--bidirectional",
        "--batch_size=32",
        "--learning_rate=1e-2",
        "--num_steps=250",
        "--eval_every=125",
        "--save_every=250",
        "--eval_size=64",
        "--gradient_every=200",
        "--progress=none",
        "--noreport",
    ]
    train.main(parse(flags, Options))
    return path


@pytest.fixture(scope="module")
def served(run: Path) -> Served:
    return load_model(run, "best")


def options(path: Path, *flags: str) -> translate.Options:
    return parse([f"--run_dir={path}", *flags], translate.Options)


# --- training --------------------------------------------------------------------


def test_a_run_learns_and_measures_its_decoder(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    result = record["result"]
    assert result["test_bits_per_token"] < 0.2 < result["baseline_bits_per_token"]
    task = json.loads((run / "task.json").read_text())
    assert sorted(task["source_vocabulary"][4:]) == sorted(WORDS)
    assert sorted(task["vocabulary"][4:]) == sorted([*WORDS.values(), "."])
    arrays = read_gradient_norms(run / "gradient_norms.npz")
    assert arrays["parts"].tolist() == ["hidden", "joint"]
    # Four words, a full stop, the end token: carries 0 to 6.
    assert arrays["log_norms"].shape == (2, 2, 3, 7)
    assert np.all(np.isfinite(arrays["log_norms"][..., :5]))
    assert "lag_shares" not in rows(run)[0]


def test_terms_that_see_the_decoder_alone_are_refused(tmp_path: Path) -> None:
    for name in ("omega", "flossing"):
        with pytest.raises(Exit, match=f"--{name}=1: expected 0 for --task=help_zh_en"):
            parse(
                [f"--run_dir={tmp_path}", "--task=help_zh_en", f"--{name}=1"], Options
            )


# --- search ----------------------------------------------------------------------


def test_greedy_search_writes_the_likeliest_token_after_each_prefix(
    served: Served,
) -> None:
    sentence = "甲丙丙乙"
    made = Search(served, num_beams=1, max_length=9).words([sentence])[0]
    sources = Vocabulary(served.task.source_vocabulary)
    targets = Vocabulary(served.task.vocabulary)
    source = jnp.asarray(sources.encode(characters(sentence)))
    read = jnp.asarray([START, *targets.encode(made)], jnp.int32)
    apply: Any = jax.jit(served.model.apply)
    outputs = apply({"params": served.params}, (source, read))
    likeliest = np.asarray(outputs[1]).argmax(axis=1)
    assert targets.decode(likeliest) == [*made, "<end>"]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_translations_keep_the_order_and_do_not_touch_each_other(
    served: Served, num_beams: int
) -> None:
    sentences = ["甲乙丙", "", "丁", "戊丙甲乙", "丙癸"]
    many = Search(served, num_beams=num_beams, max_length=9, batch_size=2)
    one = Search(served, num_beams=num_beams, max_length=9, batch_size=1)
    made = many.translate(sentences)
    assert made[0] == "three two one."
    assert made[1] == ""
    assert made[3] == "two one three five."
    assert made == [one.translate([sentence])[0] for sentence in sentences]
    assert Search(served, num_beams=num_beams, max_length=1).words(["甲乙丙"]) == [
        ["three", "two"]
    ]


def test_no_special_token_is_written(served: Served) -> None:
    bias = np.array(served.params["readout"]["bias"])
    bias[:3] += 1e3
    params = {**served.params, "readout": {**served.params["readout"], "bias": bias}}
    made = Search(served._replace(params=params), num_beams=1, max_length=9)
    assert made.translate(["甲乙丙"]) == ["three two one."]


def test_attention_looks_at_the_source_from_its_end(served: Served) -> None:
    sentence = "甲丙丁乙"
    made = Search(served, num_beams=1, max_length=9).words([sentence])[0]
    weights = np.asarray(attention_weights(served, sentence, made))
    assert weights.shape == (5, 4)
    # Rounding of a sum of four.
    np.testing.assert_allclose(weights.sum(axis=1), np.ones(5), atol=1e-6)
    assert weights[:4].argmax(axis=1).tolist() == [3, 2, 1, 0]


# --- the launcher ----------------------------------------------------------------


def test_the_test_set_is_scored_beside_the_nearest_sentence(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "all.jsonl"
    assert translate.main(options(run, f"--output={output}", "--max_length=9")) == 0
    shown = capsys.readouterr().out
    page = json.loads((run / "translations.json").read_text())
    found = {name: row["bleu"] for name, row in page["scores"].items()}
    assert list(found) == [
        "commonest training sentence",
        "nearest training sentence",
        "greedy search",
        "beam search, 4",
        "the references' own words",
    ]
    assert found["greedy search"] > 90 > 70 > found["nearest training sentence"]
    assert found["beam search, 4"] > 90
    assert found["the references' own words"] == pytest.approx(100)
    for name, value in found.items():
        assert f"{value:.2f}" in next(
            line for line in shown.splitlines() if line.startswith(name)
        )
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    test = translations.load_help_zh_en(Path(parse_data_dir(run)))["test"]
    assert [line["source"] for line in lines] == test.sources
    assert [line["reference"] for line in lines] == test.targets
    right = [line["greedy search"] == line["reference"].lower() for line in lines]
    assert np.mean(right) > 0.8
    html = (run / "report.html").read_text()
    assert "What each word looks at" not in html
    assert f"{found['greedy search']:.2f}" in html
    assert page["samples"][0]["source"] in html


def test_a_study_measures_the_same_scores(run: Path) -> None:
    found = measure_answers(run)
    page = json.loads((run / "translations.json").read_text())
    for name, entry in (("nearest", "nearest training sentence"), ("greedy", "greedy")):
        for measure in ("bleu", "chrf"):
            assert found[f"{name}_{measure}"] == page["scores"][entry][measure]
    assert found["beams_bleu"] > 90 > 70 > found["nearest_bleu"]
    assert f"{found['greedy_bleu']:.2f}" in (run / "report.html").read_text()


def parse_data_dir(run: Path) -> str:
    lines = (run / "flags.txt").read_text().splitlines()
    return next(line for line in lines if line.startswith("--data_dir=")).split("=")[1]


def test_a_part_of_the_test_set_is_evenly_from_all_of_it() -> None:
    pairs = PairSplit(list("abcdefghij"), list("0123456789"))
    assert evaluation.spread(pairs, 4) == (list("acfh"), list("0257"))
    assert evaluation.spread(pairs, 0) == evaluation.spread(pairs, 11) == pairs


def test_a_picture_of_attention_is_drawn(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "_DRAWN_WORDS", range(3, 19))
    flags = ("--eval_size=5", "--num_beams=1", "--max_length=9")
    translate.main(options(run, *flags))
    page = json.loads((run / "translations.json").read_text())
    assert page["sentences"] == 5
    assert "beam search, 4" not in page["scores"]
    html = (run / "report.html").read_text()
    assert "What each word looks at" in html
    assert page["attention"]["source"] in html
    assert (run / "plots" / "attention.png").stat().st_size > 1000


def test_lines_are_translated_in_their_order(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sentences = ["甲乙丙", "", " 丁戊 ", "丙甲"]
    expected = ["three two one.", "", "five four.", "one three."]
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("\n".join(sentences) + "\n")
    made_by, made = [], Search.translate

    def recorded(search: Search, sentences: Sequence[str]) -> list[str]:
        made_by.append(search.name)
        return made(search, sentences)

    monkeypatch.setattr(Search, "translate", recorded)
    monkeypatch.setattr(translate, "_LINES_AT_ONCE", 3)
    translate.main(options(run, f"--input={source}", f"--output={target}"))
    assert target.read_text().split("\n") == [*expected, ""]
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys, "stdin", io.StringIO("甲乙丙\n"))
    translate.main(options(run, "--input=-", "--num_beams=1"))
    assert capsys.readouterr().out == "three two one.\n"
    assert made_by == ["beam search, 4", "beam search, 4", "greedy search"]


def test_what_cannot_be_read_is_one_line(run: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_bytes(b"\xff\xfe\n")
    cases = {
        f"--input={tmp_path}/none": "No such file",
        f"--input={source}": "not UTF-8",
        "--input=-": "No such file or directory",
    }
    for flag, message in cases.items():
        output = () if flag != "--input=-" else (f"--output={tmp_path}/no/out.txt",)
        with pytest.raises(Exit, match=message) as caught:
            translate.main(options(run, flag, *output))
        assert caught.value.code == BAD_FLAG
    with pytest.raises(Exit, match="is the file of --input"):
        translate.main(options(run, f"--input={source}", f"--output={source}"))
    assert source.read_bytes() == b"\xff\xfe\n"


def test_a_run_of_another_task_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.mkdir()
    (path / "flags.txt").write_text(format_flags(options_of(path)))
    with pytest.raises(Exit, match=r"--task=adding; expected one of help_zh_en"):
        translate.main(options(path))


def test_missing_data_or_sacrebleu_is_one_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Exit, match="--fetch=help_zh_en") as caught:
        translate.main(options(run, f"--data_dir={tmp_path}"))
    assert caught.value.code == BAD_FLAG
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    monkeypatch.setattr(scores.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Exit, match="pip install"):
        translate.main(options(run))


# --- scores, retrieval, text, pictures -------------------------------------------


@given(st.lists(st.sampled_from(["it", "7", *".,;:!?%()[]{}'_/-+\"=«"]), max_size=12))
def test_joined_words_are_the_same_words(tokens: list[str]) -> None:
    assert words(join_words(tokens)) == tokens


def test_blanks_stand_where_english_has_them() -> None:
    text = "(it's) 1.5%, see [a_b/2]: no {blank}; here. 2 are!"
    assert join_words(words(text)) == text


def test_scores_do_not_look_at_case() -> None:
    references = ["The cat sat on the mat.", "Choose File - Open."]
    assert scores.score([r.upper() for r in references], references).bleu == (
        pytest.approx(100)
    )
    found = scores.score(["The cat sat on a mat.", "Choose File - Open."], references)
    # Of 12 words 11 are right, of 10 pairs 8, of 8 threes 5, of 6 fours 3.
    precisions = (11 / 12, 8 / 10, 5 / 8, 3 / 6)
    assert found.bleu == pytest.approx(100 * np.prod(precisions) ** 0.25)
    assert "case:lc" in found.signature


def test_the_nearest_sentence_is_that_of_the_largest_cosine() -> None:
    generator = random.Random(1)
    texts = ["".join(generator.choices("abcde", k=6)) for _ in range(40)]
    train_split = PairSplit(texts, [str(n) for n in range(40)])
    sources = ["".join(generator.choices("abcdef", k=7)) for _ in range(20)]

    def grams(text: str) -> list[str]:
        return [*text, *(text[i : i + 2] for i in range(len(text) - 1))]

    known = sorted({gram for text in texts for gram in grams(text)})
    counts = np.array([[grams(text).count(g) for g in known] for text in texts])
    rarity = np.log(len(texts) / (counts > 0).sum(axis=0))
    vectors = counts * rarity
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = [
        str(np.argmax(vectors @ ([grams(text).count(g) for g in known] * rarity)))
        for text in sources
    ]
    assert nearest_targets(train_split, sources) == expected
    assert nearest_targets(train_split, texts) == train_split.targets
    assert nearest_targets(train_split, ["xyz"]) == ["0"]


def test_the_commonest_target_and_the_first_of_several() -> None:
    split = PairSplit(["a"] * 5, ["yes", "no", "no", "yes", "maybe"])
    assert commonest_target(split) == "no"


def test_the_picture_shows_the_weights_and_names_what_it_can() -> None:
    weights = np.eye(2, 3)
    figure = attention.draw_attention(weights, ["甲", "乙", "丙"], ["$", "$b$"])
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), weights)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["$", "$b$"]
    assert not any(label.get_parse_math() for label in axes.get_yticklabels())
    assert axes.get_ylabel() == "translation"
    fonts = {label.get_fontproperties().get_file() for label in axes.get_yticklabels()}
    assert {Path(str(font)).stem for font in fonts} == {"DejaVuSans"}
    figure.canvas.draw()


def test_tokens_without_glyphs_are_numbered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(attention, "_FAMILIES", ("DejaVu Sans",))
    figure = attention.draw_attention(np.eye(1, 2), ["甲", "a"], ["b"])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2"]
    assert "no font here has their glyphs" in axes.get_xlabel()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b"]
    # A missing glyph would be a warning, and warnings are errors.
    figure.savefig(tmp_path / "a.png")


def test_the_page_escapes_and_names_a_damaged_file(run: Path, tmp_path: Path) -> None:
    row = {"bleu": 1.0, "chrf": 2.0, "signature": "<s>"}
    page = {
        "step": 3,
        "sentences": 1,
        "scores": {"<b>": row},
        "samples": [{"source": "<i>", "reference": "&"}],
    }
    (tmp_path / "translations.json").write_text(json.dumps(page))
    shown = translations_page.section(tmp_path)
    for hostile in ("<b>", "<s>", "<i>"):
        assert hostile not in shown
        assert hostile.replace("<", "&lt;").replace(">", "&gt;") in shown
    (tmp_path / "translations.json").write_text('{"step": 3}')
    with pytest.raises(ValueError, match=r"translations\.json: damaged"):
        translations_page.section(tmp_path)
    assert translations_page.section(tmp_path / "none") == ""
