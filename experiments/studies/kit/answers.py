"""What a trained system answers, measured beyond its loss and metric."""

import itertools
from pathlib import Path

import jax

from experiments.common.names import TRANSLATION
from experiments.generation.language import Language
from experiments.generation.sampler import Sampler
from experiments.generation.verse import verse_shares
from experiments.reports.report_page import write_report
from experiments.runs import run_dir
from experiments.runs.factories import load_pairs
from experiments.runs.served import Served, load_model
from experiments.translation import evaluation
from experiments.translation.search import Search
from seqjax.decoding import sample_logits

_NUM_SENTENCES, _MAX_WORDS = 500, 100
_NUM_POEMS, _FORM = 200, "5"


def measure_answers(path: Path) -> dict[str, float]:
    """Returns further numbers of a run; none for most tasks.

    Of translations BLEU and chrF on 500 test sentences, beside those of the nearest
    training sentence; samples go into the run's report. Of quatrains the shares of
    `verse_shares` over 200 poems of five characters a line.

    Args:
      path: directory of a run that is done.
    """
    task = run_dir.read_options(path).task
    if task in TRANSLATION:
        return _translation_scores(path, load_model(path, "best"))
    return _verse(load_model(path, "best")) if task == "quatrains" else {}


def _translation_scores(path: Path, served: Served) -> dict[str, float]:
    searches = {
        name: Search(served, num_beams=num_beams, max_length=_MAX_WORDS)
        for name, num_beams in (("greedy", 1), ("beams", 4))
    }
    pairs = load_pairs(served.options)
    found = evaluation.evaluate(pairs, _NUM_SENTENCES, searches)
    evaluation.write(path, served, found, drawn="greedy")
    write_report(path)
    named = {
        "nearest": "nearest training sentence",
        "greedy": "greedy",
        "beams": "beams",
    }
    return {
        f"{name}_{measure}": getattr(found.scores[entry], measure)
        for name, entry in named.items()
        for measure in ("bleu", "chrf")
    }


def _verse(served: Served) -> dict[str, float]:
    language = Language(served.task, _FORM)
    sampler = Sampler(served, language.start, language.allowed, sample_logits)
    # The form says where a poem ends; the last place is that of the end token.
    size = len(language.allowed) - 1
    poems = []
    for key in jax.random.split(jax.random.key(0), _NUM_POEMS):
        drawn = itertools.islice(sampler.draw(language.read(""), key), size)
        poems.append("".join(map(language.show, drawn)))
    return verse_shares(poems)._asdict()
