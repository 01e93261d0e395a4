"""The two records of a run: metrics.jsonl and gradient_norms.npz.

A row of step s holds what was measured at the parameters after s updates. The training
row of step s is written while update s + 1 is made, so a run resumed at s keeps the
training rows before s and writes that of s again.
"""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from experiments import files

_ARRAYS = ("steps", "parts", "quantiles", "log_norms", "decay_rate", "half_life")
QUANTILES = (0.1, 0.5, 0.9)


class MetricsLog:
    """metrics.jsonl: one JSON object a line, one line per step and split."""

    def __init__(self, path: Path, resumed_step: int, evaluated_step: int) -> None:
        """Opens the file and drops the rows that the resumed run will write again.

        Args:
          path: the file; it need not exist.
          resumed_step: number of updates that the restored state has seen.
          evaluated_step: last step that the restored state was evaluated at.
        """
        # Test rows are written last, and again at the end.
        until = {"train": resumed_step - 1, "valid": evaluated_step, "test": -1}
        rows = files.read_json_lines(path)
        kept = [row for row in rows if row["step"] <= until[row["split"]]]
        data = b"".join(map(files.json_line, kept))
        if not path.exists() or path.read_bytes() != data:
            files.write_atomic(path, data)
        self._path = path

    def write(self, row: dict[str, Any]) -> None:
        """Appends a row; NaN and infinities become null."""
        with self._path.open("ab") as stream:
            stream.write(files.json_line(row))

    def sync(self) -> None:
        """Waits until all rows are on the disk."""
        with self._path.open("ab") as stream:
            os.fsync(stream.fileno())


class GradientLog:
    """gradient_norms.npz: how the gradient fell over time, at several steps.

    The arrays of the file, with n the number of measurements:
      steps: `[n]` int64, number of updates before the measurement.
      parts: `[part]` text, names of the parts of the carry; the last is `joint`.
      quantiles: `[3]` float64, which quantiles over the samples were kept.
      log_norms: `[n, part, 3, time+1]` float32, quantiles over the samples of
        ln ‖dL/d carry_t‖ of one sample's loss; -inf where it is exactly zero.
      decay_rate: `[n]` float64, per step of lag.
      half_life: `[n]` float64, steps; NaN where the rate is not settled.
    """

    def __init__(self, path: Path, parts: tuple[str, ...], resumed_step: int) -> None:
        """Opens the file and drops what the resumed run will measure again.

        Args:
          path: the file; it need not exist.
          parts: names of the parts of the carry, the last one `joint`.
          resumed_step: number of updates that the restored state has seen.

        Raises:
          ValueError: the file exists and is not such a file.
        """
        self._path, self._parts = path, parts
        self._rows: list[tuple[int, np.ndarray, float, float]] = []
        if path.exists():
            old = read_gradient_norms(path)
            self._rows = [
                row
                for row in zip(
                    old["steps"].tolist(),
                    old["log_norms"],
                    old["decay_rate"].tolist(),
                    old["half_life"].tolist(),
                    strict=True,
                )
                if row[0] < resumed_step
            ]

    def add(
        self, step: int, log_norms: np.ndarray, decay_rate: float, half_life: float
    ) -> None:
        """Adds one measurement, kept in memory until `save`.

        Args:
          step: number of updates before the measurement.
          log_norms: `[part, 3, time+1]`.
          decay_rate: per step of lag.
          half_life: steps, or NaN.
        """
        self._rows.append(
            (step, np.asarray(log_norms, np.float32), decay_rate, half_life)
        )

    def save(self) -> None:
        """Replaces the file; does nothing before the first measurement."""
        if not self._rows:
            return
        steps, log_norms, decay_rate, half_life = zip(*self._rows, strict=True)
        buffer = io.BytesIO()
        np.savez(
            buffer,
            steps=np.array(steps, np.int64),
            parts=np.array(self._parts),
            quantiles=np.array(QUANTILES),
            log_norms=np.stack(log_norms),
            decay_rate=np.array(decay_rate, np.float64),
            half_life=np.array(half_life, np.float64),
        )
        files.write_atomic(self._path, buffer.getvalue())


def read_gradient_norms(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of gradient_norms.npz; see `GradientLog`.

    Raises:
      ValueError: the file is damaged or lacks an array.
    """
    try:
        with path.open("rb") as stream, np.load(stream) as archive:
            return {name: archive[name] for name in _ARRAYS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not an intact record of gradient norms") from error
