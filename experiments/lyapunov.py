"""Measures the Lyapunov exponents of untrained cells, or of the cell of a run.

The largest is the rate at which gradients grow (> 0) or vanish (< 0) per step of lag;
their sum is held against the mean ln |det J|, which it equals. Beside them stand the
eigenvalues of the recurrent kernel, for a run those along its training. Writes
lyapunov.npz, .jsonl and pictures, and prints a table.
"""

import dataclasses

from experiments.common.launch import flag, launch
from experiments.laboratory.subject_flags import InputFlags, OutputFlags, SubjectFlags


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(SubjectFlags, InputFlags, OutputFlags):
    """Spectrum: how much of it is measured, and how."""

    num_exponents: int | None = flag(
        None,
        "Exponents from the largest down; one for each number in the carry if none.",
        low=1,
        high=65536,
        unit="exponents",
    )
    qr_every: int = flag(
        1,
        "Steps between two factorisations; more is faster and loses the most negative "
        "exponents.",
        low=1,
        high=1000,
        unit="steps",
    )
    product_length: int = flag(
        0,
        "Longest product of Jacobians whose singular values are measured too, in the "
        "first sequence; 0 for none.",
        low=0,
        high=10**5,
        unit="steps",
    )

    def check(self) -> None:
        """Raises ValueError for flags that contradict each other."""
        self.check_subjects()
        self.check_inputs(self.run_dir)


def main(options: Options) -> None:
    """Measures, prints and writes."""
    # From here on jax is needed, which takes more than a second to import.
    from experiments.common.out_dir import OutDir
    from experiments.laboratory.lyapunov_spectra import Plan, report

    plan = Plan(options.num_exponents, options.qr_every, options.product_length)
    report(options, options, plan, OutDir(options, "lyapunov"))


if __name__ == "__main__":
    launch(main, Options)
