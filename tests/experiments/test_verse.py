"""Verse: poems whose rhymes and tones are known."""

import pytest

from experiments.generation.verse import verse_shares

# Wang Zhihuan: liu2 and lou2 rhyme. The second and fourth syllables of the lines are
# ri4 shan1, he2 hai3, qiong2 li3, shang4 ceng2.
STORKS = "白日依山盡，黃河入海流。欲窮千里目，更上一層樓。"
# yi1, ba1, wu3, hei1
NO_RHYME = "一一一一一，八八八八八。五五五五五，黑黑黑黑黑。"


def test_a_poem_that_everybody_knows() -> None:
    assert verse_shares([STORKS]) == (1, 1, 1)


def test_lines_without_rhyme_or_change_of_tone() -> None:
    assert verse_shares([NO_RHYME]) == (0, 1, 0)
    assert verse_shares([STORKS, NO_RHYME]) == (0.5, 1, 0.5)


@pytest.mark.parametrize(
    ("second", "fourth", "rhyme"),
    [
        ("山", "天", True),  # shan, tian
        ("山", "全", True),  # shan, quan
        ("山", "上", False),  # shan, shang
        ("中", "風", True),  # zhong, feng
        ("風", "分", False),  # feng, fen
        ("月", "夜", True),  # yue, ye
        ("夜", "車", False),  # ye, che
        ("雨", "里", True),  # yu, li
        ("雨", "苦", False),  # yu, ku
        ("花", "家", True),  # hua, jia
        ("水", "飛", True),  # shui, fei
    ],
)
def test_rhymes(second: str, fourth: str, rhyme: bool) -> None:
    poem = f"一二三四五，一二三四{second}。一二三四五，一二三四{fourth}。"
    assert verse_shares([poem]).rhyme == rhyme


def test_oblique_ends_are_not_level() -> None:
    assert verse_shares([STORKS.replace("流", "柳")]) == (1, 0.5, 1)  # liu3


def test_a_character_without_reading_fails() -> None:
    poem = STORKS.replace("流", "\U0003fffd").replace("樓", "\U0003fffd")
    assert verse_shares([poem]) == (0, 0, 1)
    poem = STORKS.replace("山", "\U0003fffd")
    assert verse_shares([poem]) == (1, 1, 0.75)
