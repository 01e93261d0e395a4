"""A small run directory with known numbers, for the tests of pictures and report."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from experiments.runs.logs import QUANTILES
from experiments.runs.options import Options, format_flags

STEPS = np.arange(0, 301, 50)
FORECAST = {
    "name": "adding",
    "metric": "mean_squared_error",
    "kind": "forecast",
    "length": 40,
    "baseline_loss": 1 / 6,
    "baseline_metric": 1 / 6,
}
CLASSIFY = {
    "name": "mnist_rows",
    "metric": "accuracy",
    "kind": "classify",
    "length": 28,
    "baseline_loss": math.log(10),
    "baseline_metric": 0.1135,
}


def metric_rows(metric: str = "mean_squared_error") -> list[dict[str, Any]]:
    """Rows of a loss that falls from 1 by a factor e every 50 steps."""
    rows: list[dict[str, Any]] = []
    for step in STEPS.tolist():
        loss = math.exp(-step / 50)
        shown = loss if metric == "mean_squared_error" else 1 - loss
        for split in ("train", "valid"):
            row = {"step": step, "split": split, "loss": loss, metric: shown}
            rows.append(row | ({"clip_rate": 0.5} if split == "train" else {}))
    rows.append(rows[-1] | {"split": "test"})
    return rows


def gradient_arrays(
    parts: tuple[str, ...] = ("hidden", "cell", "joint"), num_steps: int = 40
) -> dict[str, np.ndarray]:
    """Straight lines: at training step s the rate is −1/(1 + s/50) per time step."""
    rates = -1 / (1 + STEPS / 50)
    lag = np.arange(num_steps, -1, -1)
    median = rates[:, None] * lag
    spread = np.array([-1.0, 0.0, 1.0])
    log_norms = (
        median[:, None, None, :] + spread[:, None] + np.zeros((len(parts), 1, 1))
    )
    return {
        "steps": STEPS,
        "parts": np.array(parts),
        "quantiles": np.array(QUANTILES),
        "log_norms": log_norms.astype(np.float32),
        "decay_rate": rates,
        "half_life": math.log(2) / -rates,
        "decay_rates": rates[:, None, None] * np.array([1.5, 1.0, 0.5])
        + np.zeros((len(parts), 1)),
        "horizon": np.minimum(15.9 / -rates, num_steps - 1.0),
        "clip_norms": np.stack([2 + rates, np.ones_like(rates)], axis=1),
        "clip_cosine": np.full_like(rates, 0.8),
        "lag_edges": np.array([0, 1, 10]),
        "lag_shares": np.tile([0.5, 0.3, 0.2], (len(rates), 1)),
        "lag_projections": np.tile([0.6, 0.6, -0.2], (len(rates), 1)),
    }


def write_run(
    path: Path,
    *,
    task: dict[str, Any] | None = None,
    rows: list[dict[str, Any]] | None = None,
    arrays: dict[str, np.ndarray] | None = None,
    status: str = "done",
    **flags: Any,
) -> Path:
    """Writes the files of a run; `arrays` None leaves gradient_norms.npz out."""
    path.mkdir(parents=True, exist_ok=True)
    options = Options(run_dir=str(path), **flags)
    (path / "flags.txt").write_text(format_flags(options))
    record = {
        "status": status,
        "versions": {"python": "3.11", "jax": "0.10.2"},
        "argv": ["experiments/train.py", "--seed=3"],
        "attempts": [{"status": "stopped"}, {"status": status}],
        "task": FORECAST if task is None else task,
    }
    (path / "run.json").write_text(json.dumps(record))
    lines = map(json.dumps, metric_rows() if rows is None else rows)
    (path / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    events = [
        {"time": "2026-01-02T03:04:05+00:00", "event": "start"},
        {"time": "2026-01-02T03:05:05+00:00", "event": "checkpoint", "step": 100},
    ]
    text = "".join(f"{json.dumps(event)}\n" for event in events)
    (path / "events.jsonl").write_text(text)
    if arrays is not None:
        np.savez(path / "gradient_norms.npz", **arrays)  # pyright: ignore[reportArgumentType]
    return path
