"""The part of a run's page that shows what its model translates."""

import json
from pathlib import Path
from typing import Any

from experiments.common.page import Markup, image, table, text

_NAME = "translations.json"


def section(path: Path) -> Markup:
    """Returns scores and samples as `experiments.translate` left them; "" for none.

    Args:
      path: the run directory.

    Raises:
      ValueError: the file is damaged; it is named.
    """
    source = path / _NAME
    if not source.exists():
        return Markup("")
    try:
        return _section(path, json.loads(source.read_bytes()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{source}: damaged ({error})") from error


def _section(path: Path, found: dict[str, Any]) -> Markup:
    scores = [
        [name, f"{row['bleu']:.2f}", f"{row['chrf']:.2f}"]
        for name, row in found["scores"].items()
    ]
    signature = next(iter(found["scores"].values()))["signature"]
    samples = "".join(_sample(record) for record in found["samples"])
    return Markup(
        f"<h2>Translations of the test set, step {found['step']:,}</h2>"
        f"{table(['', 'BLEU', 'chrF'], scores)}"
        f'<p class="soft">{found["sentences"]:,} sentences; {text(signature)}.</p>'
        f"<h2>Some of them</h2>{samples}{_attention(path, found)}"
    )


def _sample(record: dict[str, str]) -> str:
    return table(["", ""], [[name, made] for name, made in record.items()])


def _attention(path: Path, found: dict[str, Any]) -> str:
    picture = path / "plots" / "attention.png"
    if "attention" not in found or not picture.exists():
        return ""
    pair = found["attention"]
    shown = image(picture, "Weights of attention")
    return (
        "<h2>What each word looks at</h2>"
        f"<p>{text(pair['source'])}<br>{text(pair['translation'])}</p>"
        f'<div class="scroll">{shown}</div>'
    )
