"""The part of a run's page that shows what its model writes down, frame by frame."""

import json
from pathlib import Path
from typing import Any

from experiments.common.page import Markup, image, text
from experiments.pictures import style
from experiments.pictures.transcript import draw_transcript

_NAME = "transcript.json"


def section(path: Path) -> Markup:
    """Draws a validation sequence as the run left it; "" for none.

    Args:
      path: the run directory; the picture goes to its folder `plots`.

    Raises:
      ValueError: the file is damaged; it is named.
    """
    source = path / _NAME
    if not source.exists():
        return Markup("")
    try:
        return _section(path, json.loads(source.read_bytes()))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{source}: damaged ({error})") from error


def _section(path: Path, found: dict[str, Any]) -> Markup:
    classes, labels = found["classes"], found["labels"]
    figure = draw_transcript(found["probabilities"], classes, labels)
    picture = style.save(figure, path / "plots" / "transcript.png")
    said, answer = (
        " ".join(classes[i] for i in part) or "nothing"
        for part in (labels, found["answer"])
    )
    shown = image(picture, "Labels of a validation sequence")
    return Markup(
        f"<h2>A validation sequence, frame by frame, step {found['step']:,}</h2>"
        f"<p>Said: {text(said)}. Written down: {text(answer)}, with probability "
        f"{found['score']:.3g}. Between the labels the model says blank; a label is a "
        "short peak, and nobody told it where.</p>"
        f'<div class="scroll">{shown}</div>'
    )
