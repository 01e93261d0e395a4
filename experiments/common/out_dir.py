"""The folder that a measurement without training writes: flags, table, arrays, PNGs.

Every file's name begins with that of its launcher, so that several launchers can share
a folder; one launcher keeps the results of one command in it.
"""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common import files
from experiments.common.launch import BAD_FLAG, Exit, format_value

_WIDTH = 1000  # columns; a table is as wide as it needs


class OutDir:
    """An open folder of results."""

    def __init__(self, options: Any, name: str) -> None:
        """Makes the folder; the flags are noted in `NAME.flags` with the first results.

        Args:
          options: the flags of the command, `out_dir` among them.
          name: of the launcher; every file begins with it.

        Raises:
          Exit: the folder cannot be written, or holds results of other flags.
        """
        self.folder, self._name = Path(options.out_dir), name
        shown = f"--out_dir={self.folder}"
        lines = [
            f"--{field.name}={format_value(getattr(options, field.name))}\n"
            for field in dataclasses.fields(options)
            if field.name != "out_dir"
        ]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            noted = self.path(".flags")
            old = noted.read_text().splitlines(True) if noted.exists() else lines
        except OSError as error:
            raise Exit(BAD_FLAG, f"{shown}: {error.strerror}") from error
        if old != lines:
            changed = sorted({line.partition("=")[0] for line in {*old} ^ {*lines}})
            raise Exit(
                BAD_FLAG,
                f"{shown}: holds the results of another command, which differs in "
                f"{', '.join(changed)}; name another folder, or remove them",
            )
        self._flags = "".join(lines).encode()

    def path(self, ending: str) -> Path:
        """Returns the path of a file: the launcher's name and an ending."""
        return self.folder / f"{self._name}{ending}"

    def write_arrays(self, arrays: Mapping[str, np.ndarray]) -> Path:
        """Writes `NAME.npz`."""
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]
        return self._write(".npz", buffer.getvalue())

    def write_rows(self, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Writes `NAME.jsonl`, one row a line; NaN and infinities become null."""
        return self._write(".jsonl", b"".join(files.json_line(dict(r)) for r in rows))

    def _write(self, ending: str, data: bytes) -> Path:
        files.write_atomic(self.path(".flags"), self._flags)
        target = self.path(ending)
        files.write_atomic(target, data)
        return target


def print_table(
    title: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Prints rows as a table.

    Args:
      title: what it shows.
      columns: heading by the name of a row's entry.
      rows: numbers are shown with four digits, what is not finite as a dash.
    """
    # Wrong flags need not wait for it.
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name, heading in columns.items():
        numeric = any(isinstance(row[name], int | float) for row in rows)
        justify = "right" if numeric else "left"
        table.add_column(heading, justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(*(_shown(row[name]) for name in columns))
    Console(width=_WIDTH).print(table)


def _shown(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if np.isfinite(value) else "–"
    return str(value)
