"""Lines of a JSON-lines file as inputs of a model, one at a time.

A line that cannot be used does not end anything: it becomes a `Request` that says what
is wrong with it.
"""

import json
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

import numpy as np

from experiments.datasets.description import TaskDescription
from experiments.datasets.vocabulary import TOKENISERS, Vocabulary

MAX_LINE_BYTES = 1 << 22


class Request(NamedTuple):
    """What a line asks.

    Attributes:
      line: its number, from 1.
      inputs: `[time]` tokens, or `[time, input]`; None where the line cannot be used.
      error: what is wrong then, else "".
    """

    line: int
    inputs: np.ndarray | None
    error: str = ""


def read_requests(
    stream: IO[bytes], parse: Callable[[Any], np.ndarray]
) -> Iterator[Request]:
    """Yields what the lines of a stream ask, holding no more than one of them.

    Args:
      stream: the file.
      parse: from `make_parser`.
    """
    number = 0
    while line := stream.readline(MAX_LINE_BYTES):
        number += 1
        too_long = len(line) == MAX_LINE_BYTES and not line.endswith(b"\n")
        while too_long and line and not line.endswith(b"\n"):
            line = stream.readline(MAX_LINE_BYTES)
        try:
            if too_long:
                raise ValueError(f"longer than {MAX_LINE_BYTES:,} bytes")
            yield Request(number, parse(_decode(line)))
        except ValueError as error:
            yield Request(number, None, str(error))


def _decode(line: bytes) -> Any:
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start + 1}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("not JSON: too many brackets inside each other") from error


def make_parser(task: TaskDescription, max_length: int) -> Callable[[Any], np.ndarray]:
    """Returns what turns a JSON value into inputs; it raises ValueError.

    Args:
      task: what the model reads.
      max_length: steps that are read, the first ones; 0 reads all.
    """
    steps = slice(max_length or None)
    if not task.vocabulary:
        return lambda value: _features(value, task)[steps]
    vocabulary, tokenise = Vocabulary(task.vocabulary), TOKENISERS[task.tokens]

    def parse(value: Any) -> np.ndarray:
        text = _entry(value, "text")
        if not isinstance(text, str):
            raise ValueError('"text": expected a string')
        tokens = tokenise(text)[steps]
        if not tokens:
            raise ValueError(f'"text": there are no {task.tokens} in it')
        return vocabulary.encode(tokens)

    return parse


def _entry(value: Any, *names: str) -> Any:
    wanted = " or ".join(f'"{name}"' for name in names)
    if not isinstance(value, dict):
        raise ValueError(f"expected an object with {wanted}")
    for name in names:
        if name in value:
            return value[name]
    raise ValueError(f"{wanted}: missing")


def _steps_of(columns: dict[str, Any], channels: tuple[str, ...]) -> list[Any]:
    """Lists of the channels by name as a list for each step."""
    for name in channels:
        if not isinstance(columns.get(name), list):
            raise ValueError(f'"inputs": expected a list for {name}')
    lengths = {name: len(columns[name]) for name in channels}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f'"inputs": expected lists of one length, got {told}')
    return [list(step) for step in zip(*(columns[n] for n in channels), strict=True)]


def _features(value: Any, task: TaskDescription) -> np.ndarray:
    """`[time, input]`, float32; of one feature a flat list will do.

    Where channels have names, also a list for each of them by its name.
    """
    input_size = task.input_size
    names = ("inputs", "values") if input_size == 1 else ("inputs",)
    rows = _entry(value, *names)
    shape = f"a list of steps, each a list of {input_size} numbers"
    if task.channels:
        shape += f" ({', '.join(task.channels)})"
        rows = _steps_of(rows, task.channels) if isinstance(rows, dict) else rows
    try:
        array = np.asarray(rows)
    except ValueError as error:
        raise ValueError(f"expected {shape}, got lists of several lengths") from error
    if input_size == 1 and array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != input_size or not len(array):
        raise ValueError(f"expected {shape}, got the shape {list(array.shape)}")
    if array.dtype.kind not in "iuf":
        raise ValueError(f"expected {shape}, got what is no number")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError("expected numbers that float32 can hold")
    return array
