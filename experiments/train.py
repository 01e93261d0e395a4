"""Trains a recurrent model, and records how its gradient travels through time."""

from experiments import run_dir
from experiments.launch import launch
from experiments.names import LISTINGS
from experiments.options import Options


def main(options: Options) -> None:
    """Trains, or with `--dry_run` describes what would be trained."""
    if not options.dry_run:
        run_dir.inspect(options)
    # From here on jax is needed, which takes more than a second to import.
    from experiments import dry_run, loop

    if options.dry_run:
        dry_run.describe(options)
    else:
        loop.train(options)


if __name__ == "__main__":
    launch(main, Options, listings=LISTINGS)
