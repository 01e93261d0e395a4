"""Asks a trained model about every line of a JSON-lines file.

A line is {"text": ...} for a model of texts, {"inputs": [[...], ...]} for one of
features, or {"values": [...]} where a step has a single feature. Line n is answered by
{"line": n, "label": ..., "score": ...}, {"line": n, "labels": [...], ...} for several,
{"line": n, "forecast": ...}, or {"line": n, "error": ...}, which ends nothing. The exit
code is 1 after any error.
"""

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from experiments.common import files
from experiments.common.launch import BAD_FLAG, Exit, flag, launch
from experiments.deployment.answering import answer_requests
from experiments.deployment.replies import Reply, make_reply
from experiments.deployment.requests import Request, make_parser, read_requests
from experiments.runs import run_dir
from experiments.runs.checkpoint_flags import CheckpointFlags

if TYPE_CHECKING:
    from experiments.deployment.models import Model

_SOME_BAD = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(CheckpointFlags):
    """Prediction: by which model, and of what."""

    run_dir: str = flag("", "Directory of the run; or name an --export_dir.")
    export_dir: str = flag(
        "", "Folder that experiments.export wrote, in the place of a run."
    )
    input: str = flag("", "JSON-lines file to answer; - is stdin.", required=True)
    output: str = flag(
        "",
        "JSON-lines file for the answers, named .partial until it is whole; - is "
        "stdout.",
        required=True,
    )
    batch_size: int = flag(
        64, "Most sequences in one batch.", low=1, high=10**5, unit="sequences"
    )
    window: int = flag(
        1024,
        "Lines that are read ahead, so that those of similar length share a batch; 1 "
        "answers each line at once.",
        low=1,
        high=10**6,
        unit="lines",
    )
    max_length: int | None = flag(
        None,
        "Steps that are read of a sequence, the first ones; 0 reads all, none as many "
        "as in training.",
        low=0,
        high=10**6,
        unit="steps",
    )
    all_scores: bool = flag(False, "Give the probabilities of all classes.")

    def check(self) -> None:
        """Raises ValueError for flags that contradict each other."""
        super().check()
        if bool(self.run_dir) == bool(self.export_dir):
            raise ValueError("--run_dir, --export_dir: expected one of the two")
        if self.export_dir and self.checkpoint != "best":
            raise ValueError(
                f"--checkpoint={self.checkpoint}: has a meaning only with --run_dir"
            )
        if self.input == self.output != "-":
            raise ValueError(
                f"--output={self.output}: expected another file than input"
            )


def main(options: Options) -> int:
    """Answers all lines; returns 1 if some could not be answered."""
    if options.run_dir:
        run_dir.read_options(Path(options.run_dir))
    with _opened(options.input) as source:
        model = _model(options)
        try:
            reply = make_reply(model.task, all_scores=options.all_scores)
        except ValueError as error:
            raise Exit(BAD_FLAG, str(error)) from error
        longest = options.max_length
        longest = model.max_length if longest is None else longest
        answers = answer_requests(
            read_requests(source, make_parser(model.task, longest)),
            model.infer,
            batch_size=options.batch_size,
            window=options.window,
        )
        with _output(options.output) as write:
            num_lines, num_bad = write_answers(answers, reply, write)
    print(f"{num_lines:,} lines, {num_bad:,} of them bad", file=sys.stderr)
    return _SOME_BAD if num_bad else 0


def _model(options: Options) -> "Model":
    # From here on jax is needed, which takes more than a second to import.
    from experiments.deployment.models import model_of_export, model_of_run

    if options.export_dir:
        return model_of_export(Path(options.export_dir))
    return model_of_run(Path(options.run_dir), options.checkpoint)


def write_answers(
    answers: Iterable[tuple[Request, np.ndarray | None]],
    reply: Callable[[np.ndarray, int], Reply],
    write: Callable[[bytes], Any],
) -> tuple[int, int]:
    """Writes a line for every answer, and one on stderr for those that are errors.

    Args:
      answers: from `answer_requests`.
      reply: from `make_reply`.
      write: takes one line.

    Returns:
      How many lines there were, and how many of them were bad.
    """
    num_lines = num_bad = 0
    for request, outputs in answers:
        num_lines += 1
        error = request.error
        if outputs is not None and not np.isfinite(outputs).all():
            error = "the answer is not finite"
        if error or outputs is None or request.inputs is None:
            num_bad += 1
            print(f"line {request.line}: {error}", file=sys.stderr)
            answer = {"error": error}
        else:
            answer = reply(outputs, len(request.inputs))
        write(files.json_line({"line": request.line, **answer}))
    return num_lines, num_bad


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    if name == "-":
        yield sys.stdin.buffer
        return
    path = Path(name)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise Exit(BAD_FLAG, f"--input={name}: {error.strerror}") from error
    with stream:
        yield stream


@contextmanager
def _output(name: str) -> Iterator[Callable[[bytes], Any]]:
    """Yields what writes a line at once; a file gets its name when all are written."""
    if name == "-":

        def write(line: bytes) -> None:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()

        yield write
        return
    path = Path(name)
    partial = path.with_name(f"{path.name}.partial")
    try:
        stream = partial.open("wb", buffering=0)
    except OSError as error:
        raise Exit(BAD_FLAG, f"--output={name}: {error.strerror}") from error
    with stream:
        yield stream.write
        os.fsync(stream.fileno())
    partial.replace(path)
    files.sync_folder(path.absolute().parent)


if __name__ == "__main__":
    launch(main, Options)
