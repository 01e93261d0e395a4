"""The flags of the benchmarks, and what a study measures where they are not set."""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from experiments.common.launch import flag
from experiments.common.names import METHODS, PRODUCT_DTYPES

# The package that holds each peer.
PEERS = {
    "torch": "torch",
    "linen": "flax",
    "nnx": "flax",
    "equinox": "equinox",
    "haiku": "dm-haiku",
    "keras": "keras",
}
_COMPILED = tuple(peer for peer in PEERS if peer != "torch")
KINDS = ("lstm", "gru", "elman")
PASSES = ("forward", "backward")


class Shape(NamedTuple):
    """Size of the work; written `8x256x32x64`."""

    batch: int
    time: int
    input: int
    hidden: int

    def __str__(self) -> str:
        return "x".join(map(str, self))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a study measures.

    Attributes:
      study: its name.
      shapes: sizes of the work.
      kinds: cells, out of `KINDS`.
      peers: frameworks beside seqjax, out of `PEERS`.
      methods: ways in which seqjax unrolls; the others are compared with the first.
      product_dtypes: of the operands of products in seqjax; the others are compared
        with the first.
      passes: forward, or backward for forward and backward together.
      repetitions: measurements of one case.
      seconds: time after which a case is not repeated any more.
      host_devices: CPU devices; with more than one seqjax has a row in which it splits
        the batch over them, where it can.
      timed: whether the memory study also measures time.
    """

    study: str
    shapes: tuple[Shape, ...]
    kinds: tuple[str, ...]
    peers: tuple[str, ...]
    methods: tuple[str, ...] = ("auto",)
    product_dtypes: tuple[str, ...] = ("float32",)
    passes: tuple[str, ...] = ("backward",)
    repetitions: int = 20
    seconds: float = 60.0
    host_devices: int = 1
    timed: bool = False

    def described(self) -> dict[str, Any]:
        """Returns the plan for the JSON file, with shapes as text."""
        return dataclasses.asdict(self) | {"shapes": [str(s) for s in self.shapes]}


_SPEED_SHAPES = (
    Shape(8, 256, 32, 64),
    Shape(32, 256, 64, 128),
    Shape(16, 1000, 2, 64),
    Shape(64, 1000, 2, 128),
    Shape(1, 10000, 1, 64),
    Shape(128, 128, 128, 256),
)
STUDIES = {
    "speed": Plan(
        study="speed",
        shapes=_SPEED_SHAPES,
        kinds=KINDS,
        peers=tuple(PEERS),
        passes=PASSES,
    ),
    "rounding": Plan(
        study="rounding",
        shapes=tuple(shape for shape in _SPEED_SHAPES if shape.hidden >= 128),
        kinds=KINDS,
        peers=(),
        product_dtypes=PRODUCT_DTYPES,
    ),
    "memory": Plan(
        study="memory",
        shapes=(Shape(32, 4096, 128, 256), *_SPEED_SHAPES),
        kinds=KINDS,
        peers=_COMPILED,
        methods=METHODS,
    ),
    "longest": Plan(
        study="longest",
        shapes=(Shape(32, 1024, 128, 256),),
        kinds=("lstm",),
        peers=_COMPILED,
        methods=METHODS,
    ),
    "norms": Plan(
        study="norms", shapes=_SPEED_SHAPES, kinds=("lstm",), peers=("torch",)
    ),
    "linear": Plan(
        study="linear",
        shapes=tuple(Shape(4, 2**power, 32, 32) for power in range(8, 17)),
        kinds=("lstm",),
        peers=("linen", "torch"),
        methods=METHODS,
    ),
}
# What a study can do, where that is less than everything.
_COMPILE_ONLY = {"peers": _COMPILED, "passes": ("backward",)}
_LIMITS: dict[str, dict[str, tuple[str, ...]]] = {
    "rounding": {"peers": ()},
    "memory": _COMPILE_ONLY,
    "longest": _COMPILE_ONLY,
    "norms": {"kinds": ("lstm",), "peers": ("torch",), "passes": ("backward",)},
}


def _choice(legal: tuple[str, ...]) -> str:
    return f"some of {_names(legal)}" if legal else "none"


def _names(values: Iterable[str]) -> str:
    return ", ".join(values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Benchmarks: what is measured, and how often."""

    study: str = flag("speed", "What is measured.", choices=tuple(STUDIES))
    shapes: str = flag(
        "",
        "Sizes, comma-separated, each BATCHxTIMExINPUTxHIDDEN as in 8x256x32x64; not "
        "set means those of the study. In the study longest the search starts at TIME.",
    )
    kinds: str = flag(
        "",
        f"Cells, comma-separated, out of {_names(KINDS)}; not set means those of the "
        "study.",
    )
    peers: str = flag(
        "",
        f"Frameworks beside seqjax, comma-separated, out of {_names(PEERS)}; not set "
        "means those of the study.",
    )
    methods: str = flag(
        "",
        "Ways in which seqjax unrolls, comma-separated, out of "
        f"{_names(METHODS)}; the first is what peers are compared with; not set means "
        "those of the study.",
    )
    passes: str = flag(
        "",
        "Out of forward and backward, comma-separated; backward is both together; not "
        "set means those of the study.",
    )
    repetitions: int = flag(
        20, "Measurements of one case.", low=1, high=10_000, unit="measurements"
    )
    seconds: float = flag(
        60.0,
        "Time after which a case is not repeated any more, from 5 repetitions on.",
        above=0,
        high=86_400,
        unit="seconds",
    )
    host_devices: int = flag(
        1,
        "CPU devices; with more than one, seqjax is also measured with the batch split "
        "over them, where it can be.",
        low=1,
        high=1024,
        unit="devices",
        only={"study": ("speed", "rounding")},
    )
    timed: bool = flag(
        False,
        "Also measure the time of seqjax and linen at the first shape.",
        only={"study": ("memory",)},
    )
    out_dir: str = flag("runs/bench", "Folder of the JSON file and the picture.")

    def check(self) -> None:
        """Raises ValueError for a list with an entry that is not legal."""
        self.plan()

    def plan(self) -> Plan:
        """Returns what is to be measured.

        Raises:
          ValueError: an entry of a list is not legal.
        """
        plan = dataclasses.replace(
            STUDIES[self.study],
            shapes=self._shapes(),
            kinds=self._chosen("kinds", KINDS),
            peers=self._chosen("peers", tuple(PEERS)),
            methods=self._chosen("methods", METHODS),
            passes=self._chosen("passes", PASSES),
            repetitions=self.repetitions,
            seconds=self.seconds,
            host_devices=self.host_devices,
            timed=self.timed,
        )
        if plan.study == "norms" and len(plan.methods) > 1:
            raise ValueError("--methods: expected one method for --study=norms")
        return plan

    def _chosen(self, name: str, known: tuple[str, ...]) -> tuple[str, ...]:
        text = getattr(self, name)
        if not text:
            return getattr(STUDIES[self.study], name)
        legal = _LIMITS.get(self.study, {}).get(name, known)
        chosen = tuple(dict.fromkeys(text.split(",")))
        for entry in chosen:
            if entry not in legal:
                raise ValueError(
                    f"--{name}={entry}: expected {_choice(legal)} for "
                    f"--study={self.study}"
                )
        return chosen

    def _shapes(self) -> tuple[Shape, ...]:
        if not self.shapes:
            return STUDIES[self.study].shapes
        return tuple(dict.fromkeys(map(parse_shape, self.shapes.split(","))))


def parse_shape(text: str) -> Shape:
    """Returns the shape that `text`, such as 8x256x32x64, stands for.

    Raises:
      ValueError: it does not consist of four positive whole numbers.
    """
    if not re.fullmatch(r"[1-9][0-9]{0,8}(x[1-9][0-9]{0,8}){3}", text):
        raise ValueError(
            f"--shapes={text}: expected BATCHxTIMExINPUTxHIDDEN, such as 8x256x32x64"
        )
    return Shape(*map(int, text.split("x")))
