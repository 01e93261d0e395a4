"""Vocabularies: numbers of tokens, and the way back."""

import collections
import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.datasets import vocabulary as module
from experiments.datasets.vocabulary import (
    END,
    PAD,
    START,
    UNKNOWN,
    Vocabulary,
    build_vocabulary,
    characters,
    count_unknown,
    words,
)

TOKENS = st.lists(st.lists(st.sampled_from("abcdefg"), max_size=20), max_size=8)


def test_examples_run() -> None:
    result = doctest.testmod(module)
    assert result.failed == 0
    assert result.attempted


def test_special_tokens_come_first() -> None:
    tokens = build_vocabulary([]).tokens
    assert tokens == ("<pad>", "<unk>", "<start>", "<end>")
    assert [tokens.index(t) for t in tokens] == [PAD, UNKNOWN, START, END]
    # A text that spells one of them does not get it twice.
    assert build_vocabulary([["<unk>", "a", "<pad>"]]).tokens[4:] == ("a",)


@given(TOKENS)
def test_common_tokens_come_first(token_lists: list[list[str]]) -> None:
    counts = collections.Counter(t for tokens in token_lists for t in tokens)
    kept = build_vocabulary(token_lists).tokens[4:]
    assert sorted(kept) == sorted(counts)
    assert list(kept) == sorted(kept, key=lambda token: (-counts[token], token))
    frequent = build_vocabulary(token_lists, min_count=3, max_size=6).tokens[4:]
    assert frequent == tuple(t for t in kept if counts[t] >= 3)[:2]


@given(TOKENS, st.integers(4, 9))
def test_known_tokens_come_back(token_lists: list[list[str]], max_size: int) -> None:
    vocabulary = build_vocabulary(token_lists, max_size=max_size)
    assert len(vocabulary) == len(vocabulary.tokens) <= max_size
    unknown = 0
    for tokens in token_lists:
        numbers = vocabulary.encode(tokens)
        assert numbers.dtype == np.int32
        assert numbers.shape == (len(tokens),)
        expected = [t if t in vocabulary.tokens else "<unk>" for t in tokens]
        assert vocabulary.decode(numbers) == expected
        unknown += expected.count("<unk>")
    assert count_unknown(vocabulary, token_lists) == (
        unknown,
        sum(map(len, token_lists)),
    )


def test_equal_tokens_make_equal_vocabularies() -> None:
    first, second = build_vocabulary([["a", "b"]]), build_vocabulary([["b", "a"]])
    assert first == second
    assert hash(first) == hash(second)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's 3.5 MB!", ["it", "'", "s", "3", ".", "5", "mb", "!"]),
        ("snake_case\t—\nÉTÉ", ["snake", "_", "case", "—", "été"]),
        ("表格，2个", ["表格", "，", "2个"]),
        ("  ", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text())
def test_nothing_but_blanks_is_lost(text: str) -> None:
    assert "".join(characters(text)) == text
    assert "".join(words(text)) == "".join(text.lower().split())


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="begin with <pad>, <unk>, <start>, <end>"):
        Vocabulary(("a", "b"))
    with pytest.raises(ValueError, match="none occurs twice"):
        Vocabulary(("<pad>", "<unk>", "<start>", "<end>", "a", "a"))
    with pytest.raises(ValueError, match="max_size: expected at least 4, got 3"):
        build_vocabulary([], max_size=3)
    with pytest.raises(ValueError, match="min_count: expected at least 1, got 0"):
        build_vocabulary([], min_count=0)
    for number in (-1, 4):
        with pytest.raises(ValueError, match=f"expected 0 to 3, got {number}"):
            build_vocabulary([]).decode([number])
