"""Repeats published and predicted results, and says whether they came out.

Every study measures a few numbers and holds them against the bands that its flagfile
states, which come from theory or from earlier measurements. Prints one line a number,
keeps everything below --out_dir, and writes one page of it all, which needs no other
file. A study that is repeated replaces its own part of the page. Ends with code 1
where a number left its band or a study failed.
"""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from experiments.common.launch import BAD_FLAG, Exit, flag, launch
from experiments.common.names import DATA_STUDIES, STUDIES, SYSTEMS

_ON_DATA = (*SYSTEMS, *DATA_STUDIES)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Reproduce: which studies, how thoroughly, and where the page goes."""

    figure: str = flag(
        "",
        "The study to run, all of the laboratory, or all that need data: the systems.",
        choices=("all", "systems", *STUDIES, *_ON_DATA),
        required=True,
    )
    full: bool = flag(
        False, "Run larger and longer versions; the bands are the same ones."
    )
    data_dir: str = flag(
        "", "Folder of all data sets; not set means seqjax in the user's cache."
    )
    out_dir: str = flag(
        "runs/reproduce", "Folder of numbers, pictures and the page; made if missing."
    )


def main(options: Options) -> int:
    """Runs the studies; returns 1 if any number left its band."""
    folder = Path(options.out_dir).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Exit(BAD_FLAG, f"--out_dir={folder}: {error.strerror}") from error
    # Jax takes a second to import, which a wrong flag need not wait.
    from experiments.reproduction import runner

    # As Ctrl-C does, which lets a study end the training runs that it started.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    groups = {"all": STUDIES, "systems": _ON_DATA}
    names = groups.get(options.figure, (options.figure,))
    try:
        failed = runner.run(names, folder, options.full, options.data_dir)
    except (OSError, ValueError) as error:
        raise Exit(1, str(error)) from error
    return 1 if failed else 0


if __name__ == "__main__":
    launch(main, Options, listings={"figures": STUDIES, "systems": _ON_DATA})
