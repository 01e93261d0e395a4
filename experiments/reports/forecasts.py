"""The part of a run's page that holds its forecasts against naive ones."""

from pathlib import Path

import numpy as np

from experiments.common.page import Markup, table, text
from experiments.runs.forecasts import (
    MODEL,
    Forecasts,
    Scores,
    read,
    score,
    step_name,
    told_leads,
)

_MAX_ROWS = 24


def section(path: Path) -> Markup:
    """Returns a table of errors by steps ahead; "" for a run without forecasts.

    Args:
      path: the run directory.

    Raises:
      ValueError: the file is damaged; it is named.
    """
    made = read(path)
    if made is None:
        return Markup("")
    scores = score(made)
    head = [
        f"{step_name(made)}s ahead",
        *scores.rmse,
        "squared error saved",
        "right direction",
        "it rises",
    ]
    head += [f"inside {made.interval:.0%}", "width"] if made.interval else []
    horizon = made.model.shape[1]
    leads = range(1, horizon + 1) if horizon <= _MAX_ROWS else told_leads(horizon)
    return Markup(
        "<h2>Forecasts of the test part</h2>"
        f"<p>{text(_reading(made))}</p>"
        f"{table(head, [_row(made, scores, lead) for lead in leads])}"
    )


def _row(made: Forecasts, scores: Scores, lead: int) -> list[str]:
    place = lead - 1
    share = f"{_percent(scores.saved[place])}{_error(scores.saved_error[place])}"
    right = (
        f"{_percent(scores.direction[place])}{_error(scores.direction_error[place])}"
    )
    row = [
        str(lead),
        *(f"{errors[place]:.4g}" for errors in scores.rmse.values()),
        share,
        right,
        _percent(scores.up[place]),
    ]
    if made.interval:
        row += [_percent(scores.coverage[place]), f"{scores.width[place]:.4g}"]
    return row


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %".replace("-", "−")


def _error(error: float) -> str:
    return f" ± {100 * error:.1f}" if np.isfinite(error) else ""


def _reading(made: Forecasts) -> str:
    """Says what the columns are."""
    inside = "" if len(made.names) == 1 else f" over {len(made.names)} channels"
    return (
        f"Root mean squared error in {made.unit}{inside}, {len(made.starts):,} "
        f"windows: of the {MODEL} and of forecasts that need no learning. Saved is the "
        "share of the squared error of no change. The direction is right where a rise "
        "above no change is told and comes, or neither; who always tells a rise is "
        "right as often as it rises. ± is one standard error, of the share saved and "
        "of the difference to always rising, from blocks of windows so far apart that "
        "they share no step; it is left out where there are fewer than five blocks."
    )
