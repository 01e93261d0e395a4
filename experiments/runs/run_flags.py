"""The flags of a training run that are not about its model, in titled groups."""

import dataclasses

from experiments.common.flag_groups import MAX_STEPS
from experiments.common.launch import flag


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunFlags:
    """Run: where it is kept, and how it is repeated."""

    run_dir: str = flag(
        "", "Directory of the run; made where it does not exist.", operational=True
    )
    resume: str = flag(
        "auto",
        "Whether to go on with the run in --run_dir: auto does where there is one, "
        "never refuses one, must needs one.",
        choices=("auto", "never", "must"),
        operational=True,
    )
    dry_run: bool = flag(
        False,
        "Print shapes, parameter counts and memory of the compiled step, write "
        "nothing, and stop.",
        operational=True,
    )
    seed: int = flag(
        0,
        "Seed of initial parameters, batches and dropout; a replicate's number.",
        low=0,
        high=2**31 - 1,
    )
    host_devices: int = flag(
        1,
        "CPU devices of this process that share every batch. Sums are formed in "
        "another order and dropout is drawn anew, so another number is another run.",
        low=1,
        high=256,
        unit="devices",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopFlags:
    """Loop: how long to train, and when to look, save and stop."""

    num_steps: int = flag(
        3000,
        "Training steps, one batch each; a resumed run may raise it unless "
        "--schedule=cosine.",
        low=1,
        high=MAX_STEPS,
        unit="batches",
        operational=True,
    )
    eval_every: int = flag(
        100,
        "Steps between two evaluations on the validation set.",
        low=1,
        high=MAX_STEPS,
        unit="steps",
        operational=True,
    )
    save_every: int = flag(
        500,
        "Steps between two checkpoints; a better validation metric saves one too.",
        low=1,
        high=MAX_STEPS,
        unit="steps",
        operational=True,
    )
    keep_last: int = flag(
        2,
        "Newest checkpoints that are kept, beside the best.",
        low=1,
        high=1000,
        operational=True,
    )
    gradient_every: int = flag(
        100,
        "Steps between two measurements of the gradient over time; 0 for none. They "
        "do not change the parameters.",
        low=0,
        high=MAX_STEPS,
        unit="steps",
        operational=True,
    )
    lag_sequences: int = flag(
        4,
        "Sequences of the validation set on which each such measurement also splits "
        "the gradient of the cell's parameters by lag; 0 for none. Not measured for "
        "--bidirectional, nor for a translator.",
        low=0,
        high=10**4,
        unit="sequences",
        operational=True,
    )
    early_stop_patience: int = flag(
        0,
        "Evaluations in a row without a better validation metric that end the run; "
        "0 for no limit.",
        low=0,
        high=10**6,
        unit="evaluations",
        operational=True,
    )
    stop_at: float | None = flag(
        None,
        "Validation metric that ends the run: an error at most, an accuracy at least "
        "this.",
        low=0,
        high=1e6,
        operational=True,
    )
    steps_per_call: int = flag(
        1,
        "Training steps in one call of the compiled program, fewer where an "
        "evaluation, a measurement or a checkpoint comes first. Changes speed and no "
        "number; with --host_devices above 1 the last bit may change. Synthetic tasks "
        "only.",
        low=1,
        high=10**4,
        unit="steps",
        operational=True,
    )
    max_in_flight: int = flag(
        2,
        "Calls of the compiled program that are dispatched before the oldest one is "
        "waited for.",
        low=1,
        high=8,
        unit="calls",
        operational=True,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DisplayFlags:
    """Display: what is printed and drawn while training."""

    log_every: int = flag(
        50,
        "Steps between two rows of training metrics.",
        low=1,
        high=MAX_STEPS,
        unit="steps",
        operational=True,
    )
    progress: str = flag(
        "auto",
        "Progress on standard output: a bar, lines, nothing, or auto: a bar on a "
        "terminal and lines elsewhere.",
        choices=("auto", "bar", "line", "none"),
        operational=True,
    )
    report: bool = flag(
        True, "Draw plots and report.html at the end of the run.", operational=True
    )
