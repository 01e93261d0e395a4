"""A trained translator on test sentences, beside what needs no learning."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common import files
from experiments.datasets.dataset import PairSplit
from experiments.datasets.vocabulary import characters, words
from experiments.pictures import style
from experiments.pictures.attention import draw_attention
from experiments.runs.served import Served
from experiments.translation.retrieval import commonest_target, nearest_targets
from experiments.translation.scores import Scores, score
from experiments.translation.search import Search, attention_weights
from experiments.translation.text import join_words

NAME = "translations.json"
_NUM_SAMPLES = 12
_DRAWN_WORDS, _DRAWN_CHARACTERS = range(6, 19), 40  # of the sentence that is drawn


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Translations of test sentences, and their scores.

    Attributes:
      test: the sentences and their references.
      translations: by the name of what made them, the sentences' order.
      scores: by the same names.
    """

    test: PairSplit
    translations: Mapping[str, Sequence[str]]
    scores: Mapping[str, Scores]

    def lines(self) -> list[str]:
        """Returns a table of the scores, BLEU and chrF, and how they are counted."""
        width = max(map(len, self.scores))
        rows = [
            f"{name:{width}}  {found.bleu:6.2f}  {found.chrf:6.2f}"
            for name, found in self.scores.items()
        ]
        head = f"{f'{len(self.test.sources):,} sentences':{width}}    BLEU    chrF"
        return [head, *rows, next(iter(self.scores.values())).signature]

    def records(self) -> list[dict[str, str]]:
        """Returns every sentence with its reference and its translations."""
        rows = zip(self.test.sources, self.test.targets, strict=True)
        return [
            {"source": source, "reference": reference}
            | {name: made[row] for name, made in self.translations.items()}
            for row, (source, reference) in enumerate(rows)
        ]


def evaluate(
    pairs: Mapping[str, PairSplit], size: int, searches: Mapping[str, Search]
) -> Evaluation:
    """Translates test sentences in several ways, and scores them all.

    Args:
      pairs: train, which is all that the simple ways know, and test.
      size: test sentences, evenly from all of them; 0 for all.
      searches: what translates, by name.
    """
    test = spread(pairs["test"], size)
    train = pairs["train"]
    translations = {
        "commonest training sentence": [commonest_target(train)] * len(test.sources),
        "nearest training sentence": nearest_targets(train, test.sources),
        **{name: search.translate(test.sources) for name, search in searches.items()},
        # The best that a model can reach that writes words and leaves out blanks.
        "the references' own words": [join_words(words(text)) for text in test.targets],
    }
    scores = {name: score(made, test.targets) for name, made in translations.items()}
    return Evaluation(test, translations, scores)


def spread(pairs: PairSplit, size: int) -> PairSplit:
    """Returns some pairs, equally far apart; all of them for a size of 0."""
    count = len(pairs.sources)
    size = min(size or count, count)
    chosen = np.arange(size) * count // size
    return PairSplit(*([side[i] for i in chosen] for side in pairs))


def write(folder: Path, served: Served, evaluation: Evaluation, *, drawn: str) -> None:
    """Writes scores, samples and a picture of attention into the folder of a run.

    Args:
      folder: directory of the run.
      served: its model.
      evaluation: of the model.
      drawn: whose translation the picture shows.
    """
    records = evaluation.records()
    every = max(1, len(records) // _NUM_SAMPLES)
    page: dict[str, Any] = {
        "step": served.step,
        "sentences": len(records),
        "scores": {n: found._asdict() for n, found in evaluation.scores.items()},
        "samples": records[::every][:_NUM_SAMPLES],
    }
    (folder / "plots").mkdir(exist_ok=True)
    picture = folder / "plots" / "attention.png"
    picture.unlink(missing_ok=True)
    pair = _pair_to_draw(evaluation, drawn)
    if pair is not None and served.model.attention != "none":
        source, translation = pair
        weights = attention_weights(served, source, words(translation))
        figure = draw_attention(weights, characters(source), words(translation))
        style.save(figure, picture)
        page["attention"] = {"source": source, "translation": translation}
    files.write_json(folder / NAME, page)


def _pair_to_draw(evaluation: Evaluation, name: str) -> tuple[str, str] | None:
    """Returns a test sentence that fits a picture, and its translation."""
    translations = evaluation.translations[name]
    for source, translation in zip(evaluation.test.sources, translations, strict=True):
        fits = len(words(translation)) in _DRAWN_WORDS
        if fits and len(source) <= _DRAWN_CHARACTERS:
            return source, translation
    return None
