"""The flags of task, model and optimiser, in titled groups.

The fields of a class are its flags: type, default, legal values and help. A launcher
takes the groups it needs as base classes of its options.
"""

import dataclasses
import math

from experiments.common.launch import flag
from experiments.common.names import (
    ACTIVATIONS,
    ATTENTIONS,
    CELLS,
    DATASETS,
    INITS,
    LANGUAGE,
    METHODS,
    MODELS,
    MUSIC,
    OPTIMIZERS,
    PIXELS,
    PRODUCT_DTYPES,
    SCHEDULES,
    SERIES,
    SPEECH,
    TASKS,
    TEXTS,
    TRANSCRIPTION,
    TRANSLATION,
    VARIANTS,
)

_TOKENS = (*TEXTS, *LANGUAGE, *TRANSLATION)
# What is cut would take its labels with it, and nobody knows which.
_CUT = (*TEXTS, *LANGUAGE, *TRANSLATION, *MUSIC, *SPEECH)
_UNEVEN = (*_CUT, *TRANSCRIPTION)
_CLASSIFIED = (
    "long_sentence",
    "parity",
    "temporal_order",
    *PIXELS,
    *TEXTS,
    *SPEECH,
)
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
        only={"task": _TOKENS},
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
class ModelFlags:
    """Model: the cell, and what is built around it."""

    model: str = flag(
        "rnn",
        "The cell with a readout, or the mean of the embedded words, which cannot see "
        "their order and leaves all flags of the cell without effect.",
        choices=MODELS,
        only={"task": TEXTS},
    )
    embedding_size: int = flag(
        64,
        "Features of an embedded token.",
        low=1,
        high=65536,
        unit="features",
        only={"task": _TOKENS},
    )
    cell: str = flag("lstm", "Recurrent cell of every layer.", choices=CELLS)
    hidden_size: int = flag(
        64, "Units of one layer in one direction.", low=1, high=65536, unit="units"
    )
    num_layers: int = flag(1, "Layers on top of each other.", low=1, high=100)
    bidirectional: bool = flag(
        False,
        "Read every sequence from both ends, in each layer; a translator its source.",
    )
    merge: str = flag(
        "concat",
        "How the outputs of both directions are joined.",
        choices=("concat", "sum", "mean"),
        only={"bidirectional": (True,)},
    )
    residual: bool = flag(False, "Add a layer's input to its output, from layer 2 on.")
    dropout: float = flag(
        0.0,
        "Probability that an input of layer 2 and above, or of the readout, is zero "
        "while training.",
        low=0.0,
        high=0.99,
    )
    zoneout: float = flag(
        0.0,
        "Probability that a unit keeps its previous carry while training.",
        low=0.0,
        high=0.99,
    )
    attention: str = flag(
        "dot",
        "How a translator's decoder looks at the source at each step: by a product, by "
        "a small network, or not at all.",
        choices=ATTENTIONS,
        only={"task": TRANSLATION},
    )
    pooling: str = flag(
        "last",
        "Which outputs the class is read from.",
        choices=("last", "mean", "max"),
        only={"task": _CLASSIFIED},
    )
    init: str = flag(
        "seqjax",
        "Initial parameters: whose defaults to use.",
        choices=INITS,
        only={"cell": ("elman", "gru", "jordan", "lstm")},
    )
    activation: str = flag(
        "tanh",
        "Function of the hidden units.",
        choices=ACTIVATIONS,
        only={"cell": ("elman", "jordan")},
    )
    leak: float = flag(
        0.0,
        "Share of its feedback that a Jordan cell keeps at a step.",
        low=0.0,
        high=1.0,
        only={"cell": ("jordan",)},
    )
    output_activation: str = flag(
        "identity",
        "Function of the outputs; without one, LRU layers make one linear map.",
        choices=ACTIVATIONS,
        only={"cell": ("jordan", "lru")},
    )
    state_size: int | None = flag(
        None,
        "Complex numbers in the state of an LRU; --hidden_size if none.",
        low=1,
        high=65536,
        only={"cell": ("lru",)},
    )
    min_radius: float = flag(
        0.0,
        "Smallest modulus of an LRU's eigenvalues to start from.",
        low=0.0,
        high=1.0,
        only={"cell": ("lru",)},
    )
    max_radius: float = flag(
        1.0,
        "Largest modulus of an LRU's eigenvalues to start from.",
        low=0.0,
        high=1.0,
        only={"cell": ("lru",)},
    )
    max_phase: float = flag(
        2 * math.pi,
        "Largest angle of an LRU's eigenvalues to start from.",
        above=0.0,
        high=1e9,
        unit="radians",
        only={"cell": ("lru",)},
    )
    forget_bias: float | None = flag(
        None,
        "Initial bias of the forget gate; that of --init if none.",
        low=-100.0,
        high=100.0,
        only={"cell": ("lstm",)},
    )
    max_lag: float | None = flag(
        None,
        "Longest dependency that chrono initialisation of the gate biases aims at.",
        above=2.0,
        high=1e9,
        unit="steps",
        only={"cell": ("gru", "lstm")},
    )
    peephole: bool = flag(
        False, "Let the gates of an LSTM see its cell.", only={"cell": ("lstm",)}
    )
    coupled: bool = flag(
        False,
        "Tie the input gate of an LSTM to its forget gate, i = 1 - f.",
        only={"cell": ("lstm",)},
    )
    forget_gate: bool = flag(
        True, "False gives the LSTM of 1997, f = 1.", only={"cell": ("lstm",)}
    )
    projection_size: int | None = flag(
        None,
        "Outputs of an LSTM layer where they are a projection of its hidden units.",
        low=1,
        high=65536,
        unit="units",
        only={"cell": ("lstm",)},
    )
    layer_norm: bool = flag(
        False,
        "Normalise the products and the cell inside an LSTM.",
        only={"cell": ("lstm",)},
    )
    reset_after: bool = flag(
        True,
        "Let the reset gate of a GRU act after the recurrent product, not before.",
        only={"cell": ("gru",)},
    )
    window: int | None = flag(
        None,
        "Truncate back-propagation: no gradient crosses from one window of this many "
        "steps to the one before.",
        low=1,
        high=10**6,
        unit="steps",
    )
    method: str = flag(
        "auto",
        "What the backward pass keeps: auto the carry of every step, checkpoint of "
        "about sqrt(T) steps, two_level of about the cube root of T; scan is plain "
        "autodiff, which keeps every intermediate.",
        choices=METHODS,
    )
    product_dtype: str = flag(
        "float32",
        "Dtype that the operands of the cell's products are rounded to; sums and "
        "carries stay float32. Gradient norms measured with bfloat16 are right to "
        "three digits only.",
        choices=PRODUCT_DTYPES,
    )

    def check_model(self) -> None:
        """Raises ValueError for flags of this group that contradict each other."""
        refuse(
            self.forget_bias is not None and self.max_lag is not None,
            "--forget_bias, --max_lag: expected at most one of the two; chrono "
            "initialisation draws the forget bias itself",
        )
        for name in ("coupled", "forget_bias", "max_lag"):
            refuse(
                not self.forget_gate and getattr(self, name) not in (None, False),
                f"--{name}: has no meaning with --forget_gate=false",
            )
        refuse(
            self.min_radius >= self.max_radius,
            "--min_radius, --max_radius: expected the first below the second, got "
            f"{self.min_radius} and {self.max_radius}",
        )
        refuse(
            self.residual and self.num_layers == 1,
            "--residual: has a meaning only with --num_layers above 1, got 1",
        )
        refuse(
            self.product_dtype != "float32" and self.zoneout > 0,
            f"--product_dtype={self.product_dtype}: expected float32 with --zoneout "
            "above 0, whose noise is not part of the products' rule",
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
