"""Measures how gradients travel through untrained cells, or the cell of a run.

The loss is the projection of the outputs on a random direction, so that the curves show
the cell alone: ln of the norm of its gradient with respect to every carry, right at any
length. With --loss=all single outputs are followed back, too, and for an LSTM what goes
through c alone is told from what passes through h. Writes gradient_norms.npz, .jsonl
and pictures, and prints a table.
"""

import dataclasses

from experiments.common.launch import flag, launch
from experiments.laboratory.subject_flags import InputFlags, OutputFlags, SubjectFlags


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(SubjectFlags, InputFlags, OutputFlags):
    """Gradient norms: which loss, and how much is told apart."""

    loss: str = flag(
        "last",
        "Which outputs the loss sees: the last one, or all. Where a loss stands at "
        "every step, the curve shows how near it is, not how far gradients reach.",
        choices=("last", "all"),
    )
    num_anchors: int = flag(
        16,
        "Outputs, at even distances, whose gradients are followed back one by one, in "
        "the first sequence of the first four networks; 0 for none.",
        low=0,
        high=10**4,
        unit="outputs",
        only={"loss": ("all",)},
    )

    def check(self) -> None:
        """Raises ValueError for flags that contradict each other."""
        self.check_subjects()
        self.check_inputs(self.run_dir)


def main(options: Options) -> None:
    """Measures, prints and writes."""
    # From here on jax is needed, which takes more than a second to import.
    from experiments.common.out_dir import OutDir
    from experiments.laboratory.norm_curves import report

    folder = OutDir(options, "gradient_norms")
    report(options, options, options.loss, options.num_anchors, folder)


if __name__ == "__main__":
    launch(main, Options)
