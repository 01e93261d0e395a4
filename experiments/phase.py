"""Maps the gradient flow of an untrained cell over two parameters.

A point of the grid is the largest Lyapunov exponent, or the decay rate of the gradient
of a loss at the end: above zero gradients explode, below they vanish. For Elman's
network with tanh and Gaussian kernels the critical curve of mean-field theory is drawn
in. Writes phase.npz, .jsonl and a picture.
"""

import dataclasses

from experiments.common.flag_groups import refuse
from experiments.common.launch import flag, launch
from experiments.common.names import CELLS
from experiments.laboratory.phase_axes import AXES, parse_axis
from experiments.laboratory.subject_flags import (
    ALL_INITS,
    GAUSSIAN,
    InputFlags,
    NetworkFlags,
    OutputFlags,
    takes_init,
)

_AXIS_HELP = (
    f"NAME:LOW:HIGH:COUNT, NAME out of {', '.join(AXES)}; evenly from LOW to HIGH"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(NetworkFlags, InputFlags, OutputFlags):
    """Phase diagram: of which cell, over what."""

    cell: str = flag("elman", "The cell.", choices=CELLS)
    init: str = flag(
        GAUSSIAN,
        "Initial parameters: whose defaults to use; gaussian draws all kernels from "
        "N(0, 1/fan-in), with biases 0 and a forget bias of 1.",
        choices=ALL_INITS,
    )
    length: int = flag(
        500, "T of the task, or the number of steps.", low=3, high=10**7, unit="steps"
    )
    x: str = flag("gain:0.2:3:15", f"Horizontal axis, {_AXIS_HELP}.")
    y: str = flag("amplitude:0:1:11", f"Vertical axis, {_AXIS_HELP}.")
    measure: str = flag(
        "exponent",
        "What is mapped: the largest Lyapunov exponent, or the decay rate of the "
        "gradient of a loss on the last output.",
        choices=("exponent", "rate"),
    )

    def check(self) -> None:
        """Raises ValueError for flags that contradict each other."""
        axes = {"x": parse_axis("x", self.x), "y": parse_axis("y", self.y)}
        names = [axis.name for axis in axes.values()]
        refuse(names[0] == names[1], f"--x, --y: expected two axes, got {names[0]}")
        fields = {field.name: field for field in dataclasses.fields(self)}
        for flag_name, axis in axes.items():
            refuse(
                getattr(self, axis.name) != fields[axis.name].default,
                f"--{axis.name}: has no meaning with --{flag_name}={axis.name}:...",
            )
            refuse(
                axis.name == "forget_bias" and self.cell != "lstm",
                f"--{flag_name}=forget_bias:...: has a meaning only with --cell=lstm, "
                f"got --cell={self.cell}",
            )
        refuse(
            "forget_bias" in names and self.max_lag is not None,
            "--max_lag: has no meaning with an axis forget_bias; chrono "
            "initialisation draws the forget bias itself",
        )
        refuse(
            not takes_init(self.cell) and self.init != GAUSSIAN,
            f"--init={self.init}: has no meaning with --cell={self.cell}, which has "
            "an initialisation of its own",
        )
        self.check_network((self.cell,))


def main(options: Options) -> None:
    """Measures and writes."""
    # From here on jax is needed, which takes more than a second to import.
    from experiments.common.out_dir import OutDir
    from experiments.laboratory.phase_grid import Plan, report

    plan = Plan(
        cell=options.cell,
        init=options.init if takes_init(options.cell) else None,
        length=options.length,
        x=parse_axis("x", options.x),
        y=parse_axis("y", options.y),
        measure=options.measure,
    )
    report(options, options, plan, OutDir(options, "phase"))


if __name__ == "__main__":
    launch(main, Options)
