"""Trains a recurrent model, and records how its gradient travels through time."""

from pathlib import Path

from experiments.common.launch import NON_FINITE, Exit, launch
from experiments.common.names import LISTINGS
from experiments.runs import run_dir
from experiments.runs.options import Options


def main(options: Options) -> None:
    """Trains, or with `--dry_run` describes what would be trained."""
    if not options.dry_run:
        run_dir.inspect(options)
    # From here on jax is needed, which takes more than a second to import.
    from experiments.runs import dry_run, loop

    if options.dry_run:
        dry_run.describe(options)
        return
    try:
        loop.train(options)
    except Exit as error:
        if error.code == NON_FINITE:
            _draw_report(options)
        raise
    _draw_report(options)


def _draw_report(options: Options) -> None:
    if not options.report:
        return
    # Matplotlib takes a second to import, which a run without plots need not wait.
    from experiments.reports.report_page import write_report

    try:
        print(f"report: {write_report(Path(options.run_dir))}")
    except (OSError, ValueError) as error:
        raise Exit(1, f"the run is complete, its report is not: {error}") from error


if __name__ == "__main__":
    launch(main, Options, listings=LISTINGS)
