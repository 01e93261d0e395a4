"""The flags of what is done against gradients that vanish or explode."""

import dataclasses

from experiments.common.flag_groups import MAX_STEPS, refuse
from experiments.common.launch import flag

# Both follow whole sequences step by step, each in one place.
_STEPWISE = {"bidirectional": (False,), "host_devices": (1,)}
_WITH_KERNEL = {"cell": ("elman", "gru", "irnn", "lstm")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RemedyFlags:
    """Remedies: terms beside the loss, and limits, for the gradient's way back."""

    h_detach: float = flag(
        0.0,
        "Probability that no gradient passes through the hidden units of an LSTM from "
        "a step to the one before, and its cell alone carries it.",
        low=0.0,
        high=0.99,
        only={"cell": ("lstm",)},
    )
    omega: float = flag(
        0.0,
        "Weight of the penalty on every change of the gradient's norm from one step "
        "to the one before, along its own direction; 0 for none.",
        low=0,
        high=1e6,
        only=_STEPWISE,
    )
    flossing: float = flag(
        0.0,
        "Weight of the squared Lyapunov exponents, which alone are minimised in the "
        "first --flossing_steps; 0 for none.",
        low=0,
        high=1e6,
        only=_STEPWISE,
    )
    flossing_exponents: int = flag(
        1,
        "Lyapunov exponents that flossing draws to zero, the largest ones.",
        low=1,
        high=65536,
    )
    flossing_steps: int = flag(
        500,
        "Training steps of flossing before the loss counts; part of --num_steps.",
        low=1,
        high=MAX_STEPS,
        unit="steps",
    )
    orthogonal_penalty: float = flag(
        0.0,
        "Weight of the squared distance of the recurrent kernels from orthogonal "
        "ones, per gate; 0 for none.",
        low=0,
        high=1e6,
        only=_WITH_KERNEL,
    )
    spectral_limit: float | None = flag(
        None,
        "Largest singular value of a recurrent kernel, per gate: larger ones are cut "
        "after every update; no limit if none.",
        above=0,
        high=1e6,
        only=_WITH_KERNEL,
    )

    def check_remedies(self) -> None:
        """Raises ValueError for flags of this group that have no effect."""
        for name, default in (("flossing_exponents", 1), ("flossing_steps", 500)):
            value = getattr(self, name)
            refuse(
                not self.flossing and value != default,
                f"--{name}={value}: has a meaning only with --flossing above 0",
            )
