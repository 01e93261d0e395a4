"""Pages of HTML that need no other file and no network."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_MAX_CELL = 2000  # characters shown of one entry of a table


class Markup(str):
    """Text that is HTML already, and is not escaped again."""


def text(value: Any) -> Markup:
    """Returns text that HTML shows as it is, wherever it came from."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(str(value), quote=True))


def document(title: str, style: str, body: str) -> bytes:
    """Puts a body into a page that may load nothing at all.

    Args:
      title: name of the page, as text.
      style: its style sheet.
      body: its content, as HTML.

    Returns:
      The page, UTF-8.
    """
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    whole = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
    return whole.encode("utf-8", "backslashreplace")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """Tabulates entries, each cut at 2000 characters unless it is `Markup`."""
    if not rows:
        return Markup('<p class="soft">None.</p>')
    top = "".join(f"<th>{text(cell)}</th>" for cell in head)
    lines = ["".join(f"<td>{text(_cut(cell))}</td>" for cell in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return Markup(
        f'<div class="scroll"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cut(cell: str) -> str:
    return cell if isinstance(cell, Markup) else cell[:_MAX_CELL]


def image(path: Path, title: str) -> Markup:
    """Shows a PNG that is held inside the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    source = f"data:image/png;base64,{data}"
    return Markup(f'<img alt="{text(title)}" src="{source}">')
