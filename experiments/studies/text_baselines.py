"""What counts of words achieve where recurrent classifiers are tried."""

import itertools
from pathlib import Path

from experiments.datasets.dataset import TextData, default_data_dir
from experiments.datasets.texts import TEXT_LOADERS
from experiments.datasets.vocabulary import words
from experiments.datasets.word_order import make_word_order
from experiments.studies.kit.study import Result

_SETS = ("reuters_r8", "reuters_r52", "newsgroups_4", "reviews_zh", "snippets_en")
_BY_CHARACTER = ("reviews_zh",)


def measure(folder: Path, full: bool, data_dir: str) -> Result:
    """Classifies the test set of every collection by its TF-IDF weights."""
    data = Path(data_dir).expanduser() if data_dir else default_data_dir()
    loaded = {name: TEXT_LOADERS[name](data) for name in _SETS}
    loaded["word_order"] = make_word_order()
    return Result(
        {f"{name}_accuracy": _accuracy(name, texts) for name, texts in loaded.items()}
    )


def _accuracy(name: str, data: TextData) -> float:
    """Fits on train; returns the accuracy on test."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
    except ImportError as error:
        raise ImportError(
            'scikit-learn is missing; pip install -e ".[baselines]" installs it'
        ) from error
    terms = _characters_and_pairs if name in _BY_CHARACTER else words
    weights = TfidfVectorizer(analyzer=terms, sublinear_tf=True)  # pyright: ignore[reportArgumentType]
    # 10: the penalty is a tenth of the default; usual for rows of length 1.
    model = make_pipeline(weights, LogisticRegression(C=10.0, max_iter=1000))
    train, test = data.splits["train"], data.splits["test"]
    model.fit(train.texts, train.labels)
    return float(model.score(test.texts, test.labels))


def _characters_and_pairs(text: str) -> list[str]:
    """Pairs stand in for the words of Chinese, which have no blanks between them."""
    return [*text, *map("".join, itertools.pairwise(text))]
