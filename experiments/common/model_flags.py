"""The flags of the model."""

import dataclasses
import math

from experiments.common.flag_groups import TOKENS, refuse
from experiments.common.launch import flag
from experiments.common.names import (
    ACTIVATIONS,
    ATTENTIONS,
    CELLS,
    INITS,
    METHODS,
    MODELS,
    PIXELS,
    PRODUCT_DTYPES,
    SPEECH,
    TEXTS,
    TRANSLATION,
)

_CLASSIFIED = (
    "long_sentence",
    "parity",
    "temporal_order",
    *PIXELS,
    *TEXTS,
    *SPEECH,
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
        only={"task": TOKENS},
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
