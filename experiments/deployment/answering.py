"""Answers to requests, in their order, with few batches and in bounded memory.

A model runs on whole batches of one length, and is compiled anew for each length. So
requests are read ahead, sequences of similar length share a batch, and lengths are
rounded up to a few sizes. However long the file, no more than a window is in memory.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from experiments.deployment.requests import Request

Infer = Callable[[np.ndarray, np.ndarray], Any]
"""`(inputs, lengths) -> outputs`, where inputs are `[batch, time]` tokens or `[batch,
time, input]`, lengths `[batch]`, and outputs have a leading batch axis."""

# Numbers in a window, and steps in a batch: of longer sequences there are fewer.
WINDOW_NUMBERS = 1 << 22
BATCH_STEPS = 1 << 16


def answer_requests(
    requests: Iterable[Request], infer: Infer, *, batch_size: int, window: int
) -> Iterator[tuple[Request, np.ndarray | None]]:
    """Yields every request with the outputs for it, in order; None for bad ones.

    Args:
      requests: are read ahead by a window, and no further.
      infer: the model.
      batch_size: most sequences in a batch.
      window: most requests in a window.
    """
    for part in windows(requests, window):
        outputs = _answer_window(part, infer, batch_size)
        yield from zip(part, outputs, strict=True)


def windows(requests: Iterable[Request], size: int) -> Iterator[list[Request]]:
    """Yields requests in groups, none larger than a window may be.

    Args:
      requests: in order.
      size: most requests of a group.
    """
    part: list[Request] = []
    numbers = 0
    for request in requests:
        part.append(request)
        numbers += 0 if request.inputs is None else request.inputs.size
        if len(part) == size or numbers >= WINDOW_NUMBERS:
            yield part
            part, numbers = [], 0
    if part:
        yield part


def padded_length(num_steps: int) -> int:
    """Returns the first of 1, 2, 3, 4, 6, 8, 12, 16, 24 … that is large enough."""
    power = 1 << (num_steps - 1).bit_length()
    return power * 3 // 4 if power >= 4 and num_steps <= power * 3 // 4 else power


def _answer_window(
    part: list[Request], infer: Infer, batch_size: int
) -> list[np.ndarray | None]:
    outputs: list[np.ndarray | None] = [None] * len(part)
    places: dict[int, list[int]] = {}
    for place, request in enumerate(part):
        if request.inputs is not None:
            places.setdefault(padded_length(len(request.inputs)), []).append(place)
    for num_steps, group in sorted(places.items()):
        rows = max(1, min(batch_size, BATCH_STEPS // num_steps))
        for start in range(0, len(group), rows):
            chosen = group[start : start + rows]
            batch = [part[place].inputs for place in chosen]
            for place, output in zip(
                chosen, _answer_batch(batch, infer, rows, num_steps), strict=True
            ):
                outputs[place] = output
    return outputs


def _answer_batch(
    batch: list[Any], infer: Infer, rows: int, num_steps: int
) -> list[np.ndarray]:
    """Runs one batch; rows beyond its sequences hold one step of zeros."""
    shape = (rows, num_steps, *batch[0].shape[1:])
    inputs, lengths = np.zeros(shape, batch[0].dtype), np.ones(rows, np.int32)
    for row, sequence in enumerate(batch):
        inputs[row, : len(sequence)] = sequence
        lengths[row] = len(sequence)
    return list(np.asarray(infer(inputs, lengths))[: len(batch)])
