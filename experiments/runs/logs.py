"""The two records of a run: metrics.jsonl and gradient_norms.npz.

A row of step s holds what was measured at the parameters after s updates. The training
row of step s is written while update s + 1 is made, so a run resumed at s keeps the
training rows before s and writes that of s again.
"""

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from experiments.common import files

_ARRAYS = ("steps", "parts", "quantiles", "log_norms", "decay_rate", "half_life")
_LABELS = ("steps", "parts", "quantiles", "lag_edges")
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

    The arrays of the file, with n the number of measurements; files of older versions
    have the first six alone:
      steps: `[n]` int64, number of updates before the measurement.
      parts: `[part]` text, names of the parts of the carry; the last is `joint`.
      quantiles: `[3]` float64, which quantiles over the samples were kept.
      log_norms: `[n, part, 3, time+1]` float32, quantiles over the samples of
        ln ‖dL/d carry_t‖ of one sample's loss; -inf where it is exactly zero.
      decay_rate: `[n]` float64, slope of the joint median, per step of lag.
      half_life: `[n]` float64, steps; NaN where the rate is not settled.
      decay_rates: `[n, part, 3]` float64, quantiles over the samples of the slope of
        each sample's own curve; NaN where no sample has one.
      horizon: `[n]` float64, steps; see `flow.gradient_horizon`.
      clip_norms: `[n, 2]` float64, norm of the batch's gradient before and after
        clipping.
      clip_cosine: `[n]` float64, of the angle by which clipping turned it.
      lag_edges: `[bucket]` int64, smallest lag of each bucket, in steps.
      lag_shares: `[n, bucket]` float64, shares of the parameter gradient; see
        `flow.LagShares`. NaN where they were not measured.
      lag_projections: `[n, bucket]` float64, likewise.
    """

    def __init__(
        self,
        path: Path,
        parts: tuple[str, ...],
        resumed_step: int,
        lag_edges: tuple[int, ...] = (),
    ) -> None:
        """Opens the file and drops what the resumed run will measure again.

        Args:
          path: the file; it need not exist.
          parts: names of the parts of the carry, the last one `joint`.
          resumed_step: number of updates that the restored state has seen.
          lag_edges: smallest lag of each bucket of lags.

        Raises:
          ValueError: the file exists and is not such a file.
        """
        self._path = path
        self._labels = {
            "parts": np.array(parts),
            "quantiles": np.array(QUANTILES),
            "lag_edges": np.array(lag_edges, np.int64),
        }
        self._rows: list[tuple[int, dict[str, np.ndarray]]] = []
        if path.exists():
            old = read_gradient_norms(path)
            measured = [name for name in old if name not in _LABELS]
            self._rows = [
                (step, {name: old[name][index] for name in measured})
                for index, step in enumerate(old["steps"].tolist())
                if step < resumed_step
            ]

    def add(self, step: int, measured: Mapping[str, ArrayLike]) -> None:
        """Adds one measurement, kept in memory until `save`.

        Args:
          step: number of updates before the measurement.
          measured: entries of the arrays above, by name.
        """
        dtypes = {"log_norms": np.float32}
        arrays = {
            name: np.asarray(value, dtypes.get(name, np.float64))
            for name, value in measured.items()
        }
        self._rows.append((step, arrays))

    def save(self) -> None:
        """Replaces the file; does nothing before the first measurement."""
        if not self._rows:
            return
        steps, rows = zip(*self._rows, strict=True)
        names = dict.fromkeys(name for row in rows for name in row)
        arrays: dict[str, Any] = {name: _stack(rows, name) for name in names}
        buffer = io.BytesIO()
        np.savez(buffer, steps=np.array(steps, np.int64), **self._labels, **arrays)
        files.write_atomic(self._path, buffer.getvalue())


def _stack(rows: tuple[dict[str, np.ndarray], ...], name: str) -> np.ndarray:
    """Stacks one quantity of all rows, NaN where a row lacks it."""
    like = next(row[name] for row in rows if name in row)
    return np.stack([row.get(name, np.full_like(like, np.nan)) for row in rows])


def read_gradient_norms(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of gradient_norms.npz; see `GradientLog`.

    Raises:
      ValueError: the file is damaged or lacks one of its first six arrays.
    """
    try:
        with path.open("rb") as stream, np.load(stream) as archive:
            return {name: archive[name] for name in dict.fromkeys((*_ARRAYS, *archive))}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not an intact record of gradient norms") from error
