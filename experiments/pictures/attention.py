"""What each word of a translation looks at."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager, get_font
from numpy.typing import ArrayLike

from experiments.pictures import style

# Families with the common Chinese characters, of several systems.
_FAMILIES = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "AR PL UMing CN",
    "PingFang SC",
    "Microsoft YaHei",
    "SimHei",
    "Arial Unicode MS",
)


@style.styled
def draw_attention(
    weights: ArrayLike, sources: Sequence[str], words: Sequence[str]
) -> Figure:
    """Draws the weights of attention, the source from left to right.

    Where no installed font has the glyphs of an axis, its tokens are numbered from 1
    on, and the axis says so.

    Args:
      weights: `[word, source]`, from 0 to 1.
      sources: tokens of the source.
      words: the words of the translation, from the top down.
    """
    shares = np.asarray(weights, float)
    height = 1.6 + 0.28 * len(words)
    figure = Figure(figsize=(style.WIDTH, height), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.grid(visible=False)
    _label(axes.xaxis, "source", sources)
    _label(axes.yaxis, "translation", words)
    figure.colorbar(drawn, ax=axes, label="weight of attention", shrink=0.8)
    return figure


def _label(axis: Axis, name: str, tokens: Sequence[str]) -> None:
    font = _font_with(set("".join(tokens)))
    axis.set_ticks(range(len(tokens)))
    if font is None:
        axis.set_ticklabels([str(number) for number in range(1, len(tokens) + 1)])
        axis.set_label_text(f"{name}, tokens by number: no font here has their glyphs")
        return
    axis.set_ticklabels(list(tokens), fontproperties=font, parse_math=False)
    axis.set_label_text(name)


def _font_with(characters: set[str]) -> FontProperties | None:
    """Returns the first font that has a glyph for every character, or None."""
    installed = {font.name for font in fontManager.ttflist}
    for family in filter(installed.__contains__, _FAMILIES):
        path = fontManager.findfont(family)
        font = get_font(path)
        if all(font.get_char_index(ord(letter)) for letter in characters):
            return FontProperties(fname=path)
    return None
