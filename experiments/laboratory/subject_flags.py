"""The flags that say which cells are measured, what drives them, and where to write.

Shared by the launchers that measure without training; nothing here imports jax.
"""

import dataclasses
from collections.abc import Sequence

from experiments.common.flag_groups import refuse
from experiments.common.launch import flag, flag_spec
from experiments.common.model_flags import ModelFlags
from experiments.common.names import CELLS, INITS, TASKS

GAUSSIAN = "gaussian"
ALL_INITS = (*INITS, GAUSSIAN)
_WITH_INIT = flag_spec(ModelFlags, "init").only["cell"]
_WITH_MAX_LAG = flag_spec(ModelFlags, "max_lag").only["cell"]
_GAUSSIAN_HELP = (
    "gaussian draws all kernels from N(0, 1/fan-in), with biases 0 and a forget bias "
    "of 1"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkFlags:
    """Network: sizes and initial parameters of untrained cells."""

    hidden_size: int = flag(
        64, "Units of an untrained cell.", low=1, high=65536, unit="units"
    )
    gain: float = flag(
        1.0,
        "Factor on the recurrent kernel of an untrained cell.",
        low=0,
        high=1e6,
    )
    forget_bias: float | None = flag(
        None,
        "Initial bias of the forget gate of an LSTM; that of its initialisation if "
        "none.",
        low=-100.0,
        high=100.0,
    )
    max_lag: float | None = flag(
        None,
        "Longest dependency that chrono initialisation of the gate biases aims at, in "
        "GRU and LSTM.",
        above=2.0,
        high=1e9,
        unit="steps",
    )

    def check_network(self, cells: Sequence[str]) -> None:
        """Raises ValueError for flags that no cell of a list has a use for."""
        refuse(
            self.forget_bias is not None and self.max_lag is not None,
            "--forget_bias, --max_lag: expected at most one of the two; chrono "
            "initialisation draws the forget bias itself",
        )
        for name, users in (("forget_bias", ("lstm",)), ("max_lag", _WITH_MAX_LAG)):
            refuse(
                getattr(self, name) is not None and not set(cells) & set(users),
                f"--{name}: has a meaning only with a cell out of {', '.join(users)}, "
                f"got {', '.join(cells)}",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputFlags:
    """Inputs: what drives the cells, and how often it is drawn."""

    inputs: str = flag(
        "normal",
        "What is fed in: independent normal numbers, or the sequences of a task.",
        choices=("normal", *TASKS),
    )
    input_size: int = flag(
        2,
        "Features of a step.",
        low=1,
        high=65536,
        unit="features",
        only={"inputs": ("normal",)},
    )
    amplitude: float = flag(
        1.0,
        "Factor on the inputs; for normal ones their standard deviation, 0 for none.",
        low=0,
        high=1e6,
    )
    num_sequences: int = flag(
        8,
        "Sequences; each has an untrained network of its own.",
        low=1,
        high=10**5,
        unit="sequences",
    )
    seed: int = flag(0, "Seed of all random numbers.", low=0, high=2**31 - 1)

    def check_inputs(self, run_dir: str) -> None:
        """Raises ValueError for inputs that are asked of a run."""
        refuse(
            bool(run_dir) and (self.inputs, self.amplitude) != ("normal", 1.0),
            "--inputs, --amplitude: have no meaning with --run_dir, whose task gives "
            "the inputs",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubjectFlags(NetworkFlags):
    """Cells: every one with every initialisation at every length, or that of a run."""

    cells: str = flag(
        "elman,gru,lstm", f"Cells, comma-separated, out of {', '.join(CELLS)}."
    )
    inits: str = flag(
        "seqjax",
        f"Initial parameters, comma-separated, out of {', '.join(ALL_INITS)}; "
        f"{_GAUSSIAN_HELP}. A cell with an initialisation of its own is measured once.",
    )
    lengths: str = flag(
        "",
        "T of the task, comma-separated: the steps of a sequence, for copy_memory the "
        "wait. Not set means 1000, or the length of the run.",
    )
    run_dir: str = flag(
        "", "Directory of a run whose cell is measured, in place of untrained ones."
    )
    checkpoint: str = flag(
        "latest", "Which state of the run: latest, best on the validation set, a step."
    )

    def check_subjects(self) -> None:
        """Raises ValueError for entries that are not legal, or contradict each other.

        Cells that a run already has are refused with it.
        """
        chosen("cells", self.cells, CELLS)
        chosen("inits", self.inits, ALL_INITS)
        self.chosen_lengths(1)
        refuse(
            self.checkpoint not in ("latest", "best")
            and not self.checkpoint.isdecimal(),
            f"--checkpoint={self.checkpoint}: expected latest, best or a step",
        )
        if not self.run_dir:
            refuse(
                self.checkpoint != "latest",
                "--checkpoint: has a meaning only with --run_dir",
            )
            self.check_network(self.cells.split(","))
            return
        own = {"lengths", "run_dir", "checkpoint"}
        for field in dataclasses.fields(SubjectFlags):
            refuse(
                field.name not in own and getattr(self, field.name) != field.default,
                f"--{field.name}: has no meaning with --run_dir, whose run has its own",
            )

    def chosen_lengths(self, default: int) -> tuple[int, ...]:
        """Returns the lengths of the flag, or the default.

        Raises:
          ValueError: an entry is not a length.
        """
        if not self.lengths:
            return (default,)
        for entry in self.lengths.split(","):
            legal = entry.isascii() and entry.isdecimal() and 0 < int(entry) <= 10**7
            refuse(
                not legal,
                f"--lengths={entry}: expected whole numbers from 1 to 10000000, "
                "comma-separated",
            )
        return tuple(dict.fromkeys(map(int, self.lengths.split(","))))

    def pairs(self) -> list[tuple[str, str | None]]:
        """Returns every cell with every initialisation that it takes; None: its own."""
        return [
            (cell, init)
            for cell in chosen("cells", self.cells, CELLS)
            for init in (
                chosen("inits", self.inits, ALL_INITS) if takes_init(cell) else (None,)
            )
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputFlags:
    """Output: where tables, arrays and pictures go."""

    out_dir: str = flag(
        "",
        "Folder of the results; results of other flags in it are not replaced.",
        required=True,
    )


def takes_init(cell: str) -> bool:
    """Says whether a cell can be initialised as a framework does it."""
    return cell in _WITH_INIT


def chosen(name: str, text: str, legal: Sequence[str]) -> tuple[str, ...]:
    """Returns the entries of a comma-separated flag, each once.

    Args:
      name: of the flag.
      text: its value.
      legal: all legal entries.

    Raises:
      ValueError: an entry is not legal.
    """
    entries = tuple(dict.fromkeys(text.split(",")))
    for entry in entries:
        refuse(
            entry not in legal,
            f"--{name}={entry}: expected some of {', '.join(legal)}, comma-separated",
        )
    return entries
