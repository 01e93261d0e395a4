"""From the units of a task's data to those that its model reads, and back."""

import numpy as np

from experiments.datasets.description import TaskDescription


def standardise(task: TaskDescription, values: np.ndarray) -> np.ndarray:
    """Returns values as the model reads them, `[..., channel]`, float32.

    Args:
      task: with means and scales of the channels; without them nothing is changed.
      values: in the units of the data, `[..., channel]`, float32.
    """
    if not task.scales:
        return values
    with np.errstate(over="ignore"):
        means, scales = (np.asarray(x, np.float32) for x in (task.means, task.scales))
        return (values - means) / scales


def in_units(
    task: TaskDescription, outputs: np.ndarray, last: np.ndarray
) -> np.ndarray:
    """Returns forecasts in the units of the data.

    Args:
      task: a forecast; where it tells no channels that are asked, nothing is changed.
      outputs: of the model, `[batch, horizon, output, quantile]`, where horizon is left
        out if it is 1, and quantile if there are none.
      last: the last step that was seen, in units of the data, `[batch, channel]`.
    """
    if not task.answers:
        return outputs
    asked = list(task.answers)
    base = (
        last[:, asked]
        if task.from_last
        else np.asarray(task.means, np.float32)[asked][None]
    )
    scale = np.asarray(task.scales, np.float32)[asked][None]
    # Axes for the horizon and the quantiles.
    if task.horizon > 1:
        base, scale = base[:, None], scale[:, None]
    if task.quantiles:
        base, scale = base[..., None], scale[..., None]
    with np.errstate(over="ignore"):
        return outputs * scale + base
