"""Translates with a trained model: lines of a file, or the test set, which is scored.

The scores, BLEU and chrF, stand beside those of the nearest training sentence; help
texts are formulaic, and it is no weak rival. Samples, and a picture of what each word
looks at, go into the run's directory and its report.html.
"""

import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from experiments.common.files import json_line, write_atomic
from experiments.common.launch import BAD_FLAG, Exit, flag, launch
from experiments.common.names import TRANSLATION
from experiments.runs import run_dir
from experiments.runs.checkpoint_flags import CheckpointFlags

if TYPE_CHECKING:
    from experiments.runs.served import Served
    from experiments.translation.search import Search

_LINES_AT_ONCE = 512


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchFlags:
    """Translation: of what, and how long the search is."""

    input: str = flag(
        "",
        "Text file of sentences, one a line; - for standard input; the run's test set, "
        "with scores, if not given.",
    )
    output: str = flag(
        "",
        "File of the translations, one a line, shown if not given; of a test set every "
        "sentence with its translations, a JSON object a line.",
    )
    num_beams: int = flag(
        4, "Hypotheses that the search follows; 1 is greedy.", low=1, high=256
    )
    length_penalty: float = flag(
        1.0,
        "How much a longer hypothesis may be less probable; 0 not at all.",
        low=0,
        high=10,
    )
    max_length: int = flag(
        100, "Most words of a translation.", low=1, high=10**4, unit="words"
    )
    batch_size: int = flag(
        64, "Sentences translated side by side.", low=1, high=10**4, unit="sentences"
    )
    eval_size: int = flag(
        0,
        "Sentences of the test set, evenly from all of it; 0 for all.",
        low=0,
        high=10**7,
        unit="sentences",
    )
    data_dir: str = flag("", "Folder of all data sets; that of the run if not given.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(CheckpointFlags, SearchFlags):
    """All flags of `experiments.translate`."""


def main(options: Options) -> int:
    """Translates lines or scores the test set; returns the exit code."""
    path = Path(options.run_dir)
    run_options = run_dir.read_options(path)
    if run_options.task not in TRANSLATION:
        raise Exit(
            BAD_FLAG,
            f"--run_dir={path}: a run of --task={run_options.task}; expected one of "
            f"{', '.join(TRANSLATION)}",
        )
    if not options.input:
        _score(options)
        return 0
    with _opened(options) as (lines, output):
        try:
            _translate(options, lines, output)
        except UnicodeDecodeError as error:
            raise Exit(BAD_FLAG, f"--input={options.input}: not UTF-8 text") from error
    return 0


@contextlib.contextmanager
def _opened(options: Options) -> Iterator[tuple[TextIO, TextIO]]:
    """Opens what is read and what is written.

    Raises:
      Exit: a file cannot be opened, or both are one.
    """
    source, target = Path(options.input).expanduser(), Path(options.output).expanduser()
    with contextlib.ExitStack() as stack:
        lines, output = sys.stdin, sys.stdout
        try:
            if options.input != "-":
                lines = stack.enter_context(source.open(encoding="utf-8-sig"))
            if options.output:
                if source.exists() and target.exists() and target.samefile(source):
                    raise Exit(BAD_FLAG, f"--output={target}: is the file of --input")
                output = stack.enter_context(target.open("w", encoding="utf-8"))
        except OSError as error:
            raise Exit(BAD_FLAG, f"{error.filename}: {error.strerror}") from error
        yield lines, output


def _translate(options: Options, lines: TextIO, output: TextIO) -> None:
    search = _searches(options, _load(options))[-1]
    while chunk := list(itertools.islice(lines, _LINES_AT_ONCE)):
        for translation in search.translate([line.strip() for line in chunk]):
            print(translation, file=output)
        output.flush()


def _score(options: Options) -> None:
    """Scores the test set, and leaves what the run's page shows of it."""
    from experiments.reports.report_page import write_report
    from experiments.runs.factories import load_pairs
    from experiments.translation import evaluation
    from experiments.translation.scores import require_sacrebleu

    require_sacrebleu()
    path, served = Path(options.run_dir), _load(options)
    data_dir = options.data_dir or served.options.data_dir
    try:
        pairs = load_pairs(dataclasses.replace(served.options, data_dir=data_dir))
    except ValueError as error:
        raise Exit(BAD_FLAG, str(error)) from error
    searches = {search.name: search for search in _searches(options, served)}
    found = evaluation.evaluate(pairs, options.eval_size, searches)
    print("\n".join(found.lines()))
    evaluation.write(path, served, found, drawn=next(iter(searches)))
    if options.output:
        lines = b"".join(map(json_line, found.records()))
        write_atomic(Path(options.output).expanduser(), lines)
    print(write_report(path))


def _load(options: Options) -> "Served":
    # From here on jax is needed, which takes more than a second to import.
    from experiments.runs.served import load_model

    return load_model(Path(options.run_dir), options.checkpoint)


def _searches(options: Options, served: "Served") -> list["Search"]:
    """Greedy search, and behind it beam search where it is asked for."""
    from experiments.translation.search import Search

    return [
        Search(
            served,
            num_beams=num_beams,
            max_length=options.max_length,
            length_penalty=options.length_penalty,
            batch_size=options.batch_size,
        )
        for num_beams in sorted({1, options.num_beams})
    ]


if __name__ == "__main__":
    launch(main, Options)
