"""Vocabularies: between texts, their tokens and the tokens' numbers."""

import collections
import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

PAD, UNKNOWN, START, END = range(4)
_SPECIALS = ("<pad>", "<unk>", "<start>", "<end>")
_WORD = re.compile(r"[^\W_]+|[^\w\s]|_")


def words(text: str) -> list[str]:
    """Returns runs of letters and digits in lower case, and all else mark by mark.

    Letters are those of all scripts; a script without blanks gives very long runs, so
    take `characters` there.

    Example:
      >>> words("Don't panic, Ångström 2!")
      ['don', "'", 't', 'panic', ',', 'ångström', '2', '!']
    """
    return _WORD.findall(text.lower())


def characters(text: str) -> list[str]:
    """Returns the characters of a text, blanks included.

    Example:
      >>> characters("a 山")
      ['a', ' ', '山']
    """
    return list(text)


TOKENISERS = {"characters": characters, "words": words}


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Tokens and their numbers, which are their places.

    Attributes:
      tokens: first the four special ones, <pad>, <unk>, <start> and <end>.

    Example:
      >>> vocabulary = build_vocabulary([["to", "be", "or", "not", "to", "be"]])
      >>> vocabulary.tokens[4:]
      ('be', 'to', 'not', 'or')
      >>> vocabulary.encode(["not", "us"]).tolist()
      [6, 1]
      >>> vocabulary.decode([6, 1])
      ['not', '<unk>']
    """

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.tokens[: len(_SPECIALS)] != _SPECIALS:
            raise ValueError(f"expected tokens that begin with {', '.join(_SPECIALS)}")
        if len(self._numbers) != len(self.tokens):
            raise ValueError("expected tokens of which none occurs twice")

    @functools.cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, tokens: Sequence[str]) -> np.ndarray:
        """Returns the numbers of tokens, int32 `[tokens]`; 1 for those not known."""
        numbers = [self._numbers.get(token, UNKNOWN) for token in tokens]
        return np.array(numbers, np.int32)

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Returns the tokens of numbers, special ones included.

        Raises:
          ValueError: a number belongs to no token.
        """
        listed = [int(number) for number in numbers]
        for number in listed:
            if not 0 <= number < len(self.tokens):
                raise ValueError(f"expected 0 to {len(self.tokens) - 1}, got {number}")
        return [self.tokens[number] for number in listed]


def build_vocabulary(
    token_lists: Iterable[Sequence[str]], *, max_size: int = 2**31, min_count: int = 1
) -> Vocabulary:
    """Collects the commonest tokens; those that are equally common, by their text.

    Args:
      token_lists: the tokens of the training texts, and of no others.
      max_size: most tokens, the four special ones included.
      min_count: how often a token must occur.

    Raises:
      ValueError: `max_size` is below 4, or `min_count` below 1.
    """
    if max_size < len(_SPECIALS):
        raise ValueError(f"max_size: expected at least 4, got {max_size}")
    if min_count < 1:
        raise ValueError(f"min_count: expected at least 1, got {min_count}")
    counts = collections.Counter(token for tokens in token_lists for token in tokens)
    common = sorted(
        (-count, token)
        for token, count in counts.items()
        if count >= min_count and token not in _SPECIALS
    )
    kept = tuple(token for _, token in common[: max_size - len(_SPECIALS)])
    return Vocabulary(_SPECIALS + kept)


def count_unknown(
    vocabulary: Vocabulary, token_lists: Iterable[Sequence[str]]
) -> tuple[int, int]:
    """Counts the tokens that the vocabulary lacks, and all tokens.

    Example:
      >>> count_unknown(build_vocabulary([["a"]]), [["a", "b"], ["b"]])
      (2, 3)
    """
    known = set(vocabulary.tokens)
    flat = [token in known for tokens in token_lists for token in tokens]
    return flat.count(False), len(flat)
