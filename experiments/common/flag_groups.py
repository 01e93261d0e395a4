"""The flags of task and optimiser, in titled groups.

The fields of a class are its flags: type, default, legal values and help. A launcher
takes the groups it needs as base classes of its options.
"""

import dataclasses

from experiments.common.launch import flag
from experiments.common.names import (
    DATASETS,
    LANGUAGE,
    MUSIC,
    OPTIMIZERS,
    PIXELS,
    SCHEDULES,
    SERIES,
    SPEECH,
    TASKS,
    TEXTS,
    TRANSCRIPTION,
    TRANSLATION,
    VARIANTS,
)

TOKENS = (*TEXTS, *LANGUAGE, *TRANSLATION)
# What is cut would take its labels with it, and nobody knows which.
_CUT = (*TEXTS, *LANGUAGE, *TRANSLATION, *MUSIC, *SPEECH)
_UNEVEN = (*_CUT, *TRANSCRIPTION)
MAX_STEPS = 10**9


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskFlags:
    """Task: what is learnt, and from what."""

    task: str = flag(
        "adding", "Synthetic task or data set to learn.", choices=(*TASKS, *DATASETS)
    )
    length: int = flag(
        100,
        "T of the task: its sequence length, for copy_memory the wait.",
        low=1,
        high=10**6,
        unit="steps",
        only={"task": TASKS},
    )
    variant: str | None = flag(
        None,
        "Published form of the task; the first of these if none. "
        + "; ".join(f"{name}: {', '.join(forms)}" for name, forms in VARIANTS.items())
        + ".",
        choices=tuple(dict.fromkeys(sum(VARIANTS.values(), ()))),
        only={"task": TASKS},
    )
    encoding: str = flag(
        "one_hot",
        "How copy_memory shows a token: as a vector, or as one number (harder).",
        choices=("one_hot", "scalar"),
        only={"task": ("copy_memory",)},
    )
    delay: int | None = flag(
        None,
        "Steps between a bit of delayed_xor and its answer; --length / 4 if none.",
        low=1,
        high=10**6,
        unit="steps",
        only={"task": ("delayed_xor",)},
    )
    data_dir: str = flag(
        "",
        "Folder of all data sets; not set means seqjax in the user's cache.",
        operational=True,
        only={"task": DATASETS},
    )
    digits: str = flag(
        "mnist",
        "Which digits: all 70,000, or the 5,000 that a Python package carries.",
        choices=("mnist", "mnist_5k"),
        only={"task": PIXELS},
    )
    tokens: str | None = flag(
        None,
        "What a step reads of a text; characters for Chinese, else words if none.",
        choices=("characters", "words"),
        only={"task": TEXTS},
    )
    vocab_size: int = flag(
        10_000,
        "Most tokens that are told apart, the commonest ones of the training texts, "
        "four special ones among them; all others read as one.",
        low=5,
        high=10**6,
        unit="tokens",
        only={"task": TOKENS},
    )
    max_length: int = flag(
        0,
        "Steps that are read of a sequence, the first ones; 0 reads all. Of "
        "shakespeare, characters of a window; 0 means 256. For help_zh_en pairs of "
        "which one side has more are left out.",
        low=0,
        high=10**6,
        unit="steps",
        only={"task": _CUT},
    )
    transpose: int = flag(
        0,
        "Also learn from every piece moved up and down by up to so many semitones.",
        low=0,
        high=11,
        unit="semitones",
        only={"task": MUSIC},
    )
    num_buckets: int = flag(
        1,
        "Buckets of similar lengths; a batch is from one, padded to its longest.",
        low=1,
        high=64,
        only={"task": _UNEVEN},
    )
    context: int = flag(
        30,
        "Steps that are seen before a forecast.",
        low=1,
        high=10**6,
        unit="steps",
        only={"task": SERIES},
    )
    horizon: int = flag(
        1,
        "Steps that are forecast.",
        low=1,
        high=10**5,
        unit="steps",
        only={"task": SERIES},
    )
    interval: float = flag(
        0.0,
        "Share of the outcomes that an interval around each forecast should hold. "
        "Above 0, as in 0.9, the run learns the median and the ends of the interval by "
        "the pinball loss; with 0 the mean alone.",
        low=0.0,
        high=0.99,
        only={"task": SERIES},
    )
    batch_size: int = flag(
        50, "Sequences in one training batch.", low=1, high=10**6, unit="sequences"
    )
    eval_size: int = flag(
        1000,
        "Sequences in the fixed validation set, and in the test set; 0 takes all "
        "sequences of a data set.",
        low=0,
        high=10**7,
        unit="sequences",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimiserFlags:
    """Optimiser: how parameters follow from gradients."""

    optimizer: str = flag("adam", "Rule of the parameter updates.", choices=OPTIMIZERS)
    learning_rate: float = flag(
        1e-3, "Learning rate; after --warmup_steps, before any decay.", above=0, high=10
    )
    recurrent_learning_rate: float | None = flag(
        None,
        "Learning rate of the recurrent kernels, of the skew matrix of exprnn and of "
        "the eigenvalues of lru; --learning_rate if none. Follows the same schedule.",
        above=0,
        high=10,
    )
    schedule: str = flag(
        "constant",
        "How the learning rate changes: not at all, down a cosine to 0 at "
        "--num_steps, or times --decay_factor every --decay_every.",
        choices=SCHEDULES,
    )
    warmup_steps: int = flag(
        0,
        "Updates over which the learning rate first rises, in equal steps.",
        low=0,
        high=MAX_STEPS,
        unit="updates",
    )
    decay_every: int = flag(
        1000,
        "Updates between two decays of the step schedule.",
        low=1,
        high=MAX_STEPS,
        unit="updates",
        only={"schedule": ("step",)},
    )
    decay_factor: float = flag(
        0.5,
        "Factor of one decay of the step schedule.",
        above=0,
        high=1,
        only={"schedule": ("step",)},
    )
    momentum: float = flag(
        0.0,
        "Momentum of sgd and rmsprop; of momentum, where 0 stands for 0.9.",
        low=0,
        high=0.9999,
        only={"optimizer": ("momentum", "rmsprop", "sgd")},
    )
    weight_decay: float = flag(
        0.0,
        "Decoupled weight decay, per unit of learning rate.",
        low=0,
        high=10,
        only={"optimizer": ("adamw",)},
    )
    clip_norm: float = flag(
        1.0,
        "Largest global norm of a gradient, longer ones are scaled down; 0 for none.",
        low=0,
        high=1e6,
    )
    clip_value: float = flag(
        0.0, "Largest size of a gradient entry; 0 for no limit.", low=0, high=1e6
    )
    accumulate_steps: int = flag(
        1,
        "Batches whose mean gradient makes one change of the parameters.",
        low=1,
        high=10**4,
        unit="batches",
    )


def refuse(condition: bool, message: str) -> None:
    """Raises ValueError with `message` if `condition` holds."""
    if condition:
        raise ValueError(message)
