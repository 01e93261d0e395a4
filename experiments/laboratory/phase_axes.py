"""The axes of a phase diagram, as flags write them."""

import math
from typing import NamedTuple

# Name, least and largest value, and how the axis of the picture is called.
AXES = {
    "gain": (0.0, 1e6, "gain g of the recurrent kernel"),
    "amplitude": (0.0, 1e6, "amplitude of the input"),
    "forget_bias": (-100.0, 100.0, "initial forget bias"),
}
_MAX_POINTS = 500


class Axis(NamedTuple):
    """One axis.

    Attributes:
      name: one of `AXES`.
      low: its first value.
      high: its last value.
      num_values: how many.
    """

    name: str
    low: float
    high: float
    num_values: int

    @property
    def values(self) -> list[float]:
        """All values, evenly from the first to the last."""
        step = (self.high - self.low) / (self.num_values - 1)
        return [self.low + step * index for index in range(self.num_values)]

    @property
    def label(self) -> str:
        """What the axis of the picture is called."""
        return AXES[self.name][2]


def parse_axis(flag_name: str, text: str) -> Axis:
    """Returns the axis that `text`, such as gain:0.5:2:16, stands for.

    Args:
      flag_name: for the error.
      text: the flag's value.

    Raises:
      ValueError: it is not an axis.
    """
    name, *numbers = text.split(":")
    if name not in AXES or len(numbers) != 3:
        raise ValueError(
            f"--{flag_name}={text}: expected NAME:LOW:HIGH:COUNT with NAME out of "
            f"{', '.join(AXES)}"
        )
    least, largest, _ = AXES[name]
    try:
        low, high, count = float(numbers[0]), float(numbers[1]), int(numbers[2])
    except ValueError:
        low = high = math.nan
        count = 0
    # NaN fails every comparison.
    if not (least <= low < high <= largest and 2 <= count <= _MAX_POINTS):
        raise ValueError(
            f"--{flag_name}={text}: expected {least:g} <= LOW < HIGH <= {largest:g} "
            f"and a whole COUNT from 2 to {_MAX_POINTS}"
        )
    return Axis(name, low, high, count)
