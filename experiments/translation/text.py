"""From the words of a model to a sentence."""

import re
from collections.abc import Sequence

_NO_BLANK_BEFORE = re.compile(r" ([.,;:!?%)\]}])")
_NO_BLANK_AFTER = re.compile(r"([(\[{]) ")
_NO_BLANK_AROUND = re.compile(r" ?(['_/]) ?")
_DECIMAL_POINT = re.compile(r"(?<=\d)\. (?=\d)")


def join_words(words: Sequence[str]) -> str:
    """Joins words and marks by blanks, but where English has none beside a mark.

    There is none before . , ; : ! ? % ) ] }, none after ( [ {, none on either side of
    ' _ and /, and none behind a point between digits.

    Example:
      >>> join_words(["it", "'", "s", "1", ".", "5", "%", "(", "or", "so", ")", "."])
      "it's 1.5% (or so)."
    """
    text = _NO_BLANK_BEFORE.sub(r"\1", " ".join(words))
    text = _NO_BLANK_AROUND.sub(r"\1", _NO_BLANK_AFTER.sub(r"\1", text))
    return _DECIMAL_POINT.sub(".", text)
