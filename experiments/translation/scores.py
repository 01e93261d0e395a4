"""BLEU and chrF, as sacrebleu counts them."""

import importlib.util
from collections.abc import Sequence
from typing import NamedTuple

from experiments.common.launch import Exit


class Scores(NamedTuple):
    """What a set of translations scores; 100 is the best.

    Attributes:
      bleu: geometric mean of the precisions of one to four words, times a penalty for
        brevity, over the whole set.
      chrf: F-score of runs of one to six characters, recall counting twice.
      signature: how sacrebleu counts both.
    """

    bleu: float
    chrf: float
    signature: str


def require_sacrebleu() -> None:
    """Refuses to go on without sacrebleu.

    Raises:
      Exit: it is not installed.
    """
    if importlib.util.find_spec("sacrebleu") is None:
        raise Exit(
            1, 'scores need sacrebleu, which is missing; pip install "sacrebleu>=2.5"'
        )


def score(translations: Sequence[str], references: Sequence[str]) -> Scores:
    """Scores translations without regard to case.

    Args:
      translations: what is scored.
      references: one for each.

    References:
      Papineni, Roukos, Ward, Zhu (2002), BLEU: a method for automatic evaluation of
      machine translation. Popović (2015), chrF: character n-gram F-score for automatic
      MT evaluation. Post (2018), A call for clarity in reporting BLEU scores.
    """
    # It takes a second to import.
    import sacrebleu

    # Told not to look for full stops that stand alone, about which it warns.
    bleu = sacrebleu.BLEU(lowercase=True, force=True)
    chrf = sacrebleu.CHRF(lowercase=True)
    found_bleu, found_chrf = (
        metric.corpus_score(list(translations), [list(references)]).score
        for metric in (bleu, chrf)
    )
    signature = f"BLEU {bleu.get_signature()}; chrF {chrf.get_signature()}"
    return Scores(found_bleu, found_chrf, signature)
