"""The directory of a run: what is in it, who may write to it, how it ended.

flags.txt            all flags; --flagfile=RUN/flags.txt repeats the run
run.json             environment, attempts, status, task and result
metrics.jsonl        one row per step and split
events.jsonl         start, resume, checkpoint, damage, stop, end
gradient_norms.npz   how the gradient fell over time
checkpoints/         see `checkpoints`
plots/, report.html  drawn from the files above
"""

import contextlib
import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.common import files
from experiments.common.launch import (
    BAD_FLAG,
    LOCKED_OR_DONE,
    NO_CHECKPOINT,
    Exit,
    format_value,
    parse,
    read_flagfile,
)
from experiments.runs.options import Options, format_flags


def read_options(path: Path) -> Options:
    """Returns the options that a run directory was made with.

    Raises:
      Exit: there is no run, or its flags are not legal any more.
    """
    if not (path / "flags.txt").is_file():
        raise Exit(BAD_FLAG, f"--run_dir={path}: holds no run (no flags.txt)")
    return parse(read_flagfile(path / "flags.txt"), Options)


def read_record(path: Path) -> dict[str, Any]:
    """Returns what run.json holds; nothing where a run ended before writing it."""
    try:
        return json.loads((path / "run.json").read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise Exit(BAD_FLAG, f"--run_dir={path}: run.json is damaged") from error


def inspect(options: Options) -> None:
    """Refuses a run directory in which `options` cannot be run; changes nothing.

    Raises:
      Exit: the directory cannot be written, holds another run or other files, or the
        run in it is done.
    """
    path = Path(options.run_dir)
    try:
        _inspect(path, options)
    except OSError as error:
        raise Exit(BAD_FLAG, f"--run_dir={path}: {error.strerror}") from error


def _inspect(path: Path, options: Options) -> None:
    shown = f"--run_dir={path}"
    if not path.exists():
        _check_writable(path, shown)
        if options.resume == "must":
            raise Exit(NO_CHECKPOINT, f"--resume=must: {path} does not exist")
        return
    if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
        raise Exit(BAD_FLAG, f"{shown}: expected a directory that can be written")
    # Hidden files are the lock and what a killed start left of flags.txt.
    names = {entry.name for entry in path.iterdir() if not entry.name.startswith(".")}
    if "flags.txt" in names:
        _check_resumable(path, options)
    elif names:
        raise Exit(BAD_FLAG, f"{shown}: holds files but no run; choose another one")
    elif options.resume == "must":
        raise Exit(NO_CHECKPOINT, f"--resume=must: {path} holds no run")


def _check_writable(path: Path, shown: str) -> None:
    parent = next(p for p in path.absolute().parents if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise Exit(BAD_FLAG, f"{shown}: {parent} is not a directory one can write to")


def _check_resumable(path: Path, options: Options) -> None:
    old = read_options(path)
    if options.resume == "never":
        raise Exit(BAD_FLAG, f"--resume=never: {path} holds a run; expected none")
    for name, value in options.identity().items():
        if old.identity().get(name) != value:
            raise Exit(
                BAD_FLAG,
                f"--{name}={format_value(value)}: the run in {path} has "
                f"--{name}={format_value(getattr(old, name))}; a resumed run keeps it, "
                "another one needs another --run_dir",
            )
    done = read_record(path).get("status") == "done"
    if done and options.num_steps <= old.num_steps:
        raise Exit(
            LOCKED_OR_DONE,
            f"the run in {path} is done; raise --num_steps={old.num_steps} to go on, "
            "or choose another --run_dir",
        )


class RunDir:
    """A run directory that this process holds the lock of.

    Attributes:
      path: the directory.
      resumed: whether it held a run before.
    """

    def __init__(self, path: Path, record: dict[str, Any], *, resumed: bool) -> None:
        self.path = path
        self.resumed = resumed
        self._record = record

    def event(self, name: str, **details: Any) -> None:
        """Appends a line to events.jsonl."""
        line = files.json_line({"time": _now(), "event": name, **details})
        with (self.path / "events.jsonl").open("ab") as stream:
            stream.write(line)

    def update(self, **entries: Any) -> None:
        """Sets entries of run.json."""
        self._record.update(entries)
        files.write_json(self.path / "run.json", self._record)

    def finish(self, status: str, **entries: Any) -> None:
        """Sets the status, and ends the attempt."""
        attempt = self._record["attempts"][-1]
        attempt.update(ended=_now(), status=status)
        self.update(status=status, **entries)
        self.event(status)


@contextlib.contextmanager
def open_run(options: Options, environment: dict[str, Any]) -> Iterator[RunDir]:
    """Makes or reopens the run directory and holds its lock.

    A block that ends in an exception leaves the status `failed`, unless the block
    itself called `finish`.

    Args:
      options: the flags of the run.
      environment: from `environment.describe`.

    Yields:
      The directory, its status `incomplete`.

    Raises:
      Exit: another process holds the lock; or as `inspect`.
    """
    path = Path(options.run_dir)
    inspect(options)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / ".lock").open("a+b")
    except OSError as error:
        raise Exit(BAD_FLAG, f"--run_dir={path}: {error.strerror}") from error
    with lock:
        _acquire(lock.fileno(), path)
        # The directory may have changed while the lock was not held.
        inspect(options)
        run = _start(path, options, environment)
        try:
            yield run
        except OSError as error:
            if error.errno:  # Otherwise a name would hide the words of the error.
                error.filename = error.filename or str(path)
            raise
        finally:
            if run._record["status"] == "incomplete":
                with contextlib.suppress(OSError):  # A full disk holds no more words.
                    run.finish("failed")


def _acquire(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace")
        raise Exit(
            LOCKED_OR_DONE, f"the run in {path} is locked by {holder or 'a process'}"
        ) from error
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())


def _start(path: Path, options: Options, environment: dict[str, Any]) -> RunDir:
    """Writes flags.txt and run.json for a new attempt."""
    resumed = (path / "flags.txt").exists()
    record = read_record(path)
    attempt: dict[str, Any] = {"started": _now(), "argv": sys.argv}
    if resumed:
        attempt["changed"] = _changes(path, options, record, environment)
    _write_flags(path, options)
    run = RunDir(path, record, resumed=resumed)
    attempts = [*record.get("attempts", []), attempt]
    run.update(
        status="incomplete",
        **environment,
        argv=sys.argv,
        seed=options.seed,
        attempts=attempts,
    )
    run.event("resume" if resumed else "start", argv=sys.argv)
    return run


def _changes(
    path: Path, options: Options, record: dict[str, Any], environment: dict[str, Any]
) -> dict[str, list[Any]]:
    """Returns old and new value of flags and environment entries that differ."""
    old = vars(read_options(path))
    changed = {
        f"--{name}": [old[name], value]
        for name, value in vars(options).items()
        if old[name] != value
    }
    known = {name: value for name, value in environment.items() if name in record}
    moved = {n: [record[n], value] for n, value in known.items() if record[n] != value}
    for name in moved:
        print(f"warning: {name} changed since the run began", file=sys.stderr)
    return changed | moved


def _write_flags(path: Path, options: Options) -> None:
    text = format_flags(options)
    lines = [line for line in text.split("\n") if line.startswith("--")]
    if parse(lines, Options) != options:
        raise Exit(BAD_FLAG, "the flags do not survive being written to flags.txt")
    files.write_atomic(path / "flags.txt", text.encode())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
