"""The flags of launchers that use a trained model."""

import dataclasses

from experiments.common.launch import flag


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointFlags:
    """Model: of which run, and in which state."""

    run_dir: str = flag("", "Directory of the run.", required=True)
    checkpoint: str = flag(
        "best", "Which state: latest, best on the validation set, or a step."
    )

    def check(self) -> None:
        """Raises ValueError for a checkpoint that is neither a name nor a step."""
        named = self.checkpoint in ("latest", "best")
        if not named and not self.checkpoint.isdecimal():
            raise ValueError(
                f"--checkpoint={self.checkpoint}: expected latest, best or a step"
            )
