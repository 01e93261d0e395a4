"""Draws the plots of a run and its report.html again, from its files alone.

The report is one page that needs no other file and no network; it can be drawn at any
time, also while the run goes on.
"""

from dataclasses import dataclass
from pathlib import Path

from experiments.common.launch import BAD_FLAG, Exit, flag, launch


@dataclass(frozen=True, kw_only=True)
class Options:
    """Report: what is drawn, and from where."""

    run_dir: str = flag("", "Directory of the run that is drawn.", required=True)


def main(options: Options) -> int:
    """Draws the pictures and the page, and prints where they are."""
    path = Path(options.run_dir)
    if not (path / "flags.txt").is_file():
        raise Exit(BAD_FLAG, f"--run_dir={path}: holds no run (no flags.txt)")
    # Matplotlib takes a second to import, which a wrong flag need not wait.
    from experiments.reports.report_page import write_report

    try:
        print(write_report(path))
    except (OSError, ValueError) as error:
        raise Exit(1, str(error)) from error
    return 0


if __name__ == "__main__":
    launch(main, Options)
