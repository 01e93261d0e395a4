"""From a command line to a frozen dataclass of options, with exit codes.

A launcher states its flags once, as the fields of a frozen dataclass:

    @dataclass(frozen=True, kw_only=True)
    class Options:
        '''Report: what is drawn, and from where.'''
        run_dir: str = flag("", "Directory of the run that is drawn.", required=True)

    if __name__ == "__main__":
        launch(main, Options)

A class may be put together from several such classes; each of them is a titled group
in ``--help``, its title being the first line of its docstring. Flags are parsed by
absl. Nothing here imports jax, so that ``--help`` and wrong flags answer at once.
"""

import dataclasses
import difflib
import errno
import math
import os
import signal
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import flags

BAD_FLAG, NON_FINITE, NO_CHECKPOINT, LOCKED_OR_DONE = 2, 3, 4, 5
_MAX_FLAGFILE_BYTES = 1 << 20
_HELP = ("--help", "-help", "-h", "--helpshort", "--helpfull")


class Exit(Exception):
    """Ends a launcher with an exit code and one line of text.

    Attributes:
      code: the exit code, one of the names above.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlagSpec:
    """What is known of one flag beside its name, type and default.

    Attributes:
      help: what the flag does, without default and unit.
      unit: unit of a number; "" for a pure number.
      low: smallest legal number.
      high: largest legal number.
      above: a number that a legal value must exceed.
      choices: the legal values of a text flag; empty means any.
      only: names of other flags, each with the values under which this flag has a
        meaning; elsewhere it must stay at its default.
      operational: True where the value may change when a run is resumed.
      required: True where the empty default must be replaced.
    """

    help: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    only: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    operational: bool = False
    required: bool = False


def flag(default: Any, help: str, **details: Any) -> Any:
    """Returns the dataclass field of one flag.

    Args:
      default: value where the flag is not given.
      help: what the flag does, in 20 characters or more.
      **details: other fields of `FlagSpec`.
    """
    spec = FlagSpec(help=help, **details)
    return dataclasses.field(default=default, metadata={"flag": spec})


def flag_spec(options_type: type, name: str) -> FlagSpec:
    """Returns the `FlagSpec` of the flag `name`."""
    return next(
        f.metadata["flag"] for f in dataclasses.fields(options_type) if f.name == name
    )


def _value_type(options_type: type, name: str) -> tuple[type, bool]:
    """Returns the type of a flag's value, and whether `none` is legal."""
    hint = typing.get_type_hints(options_type)[name]
    if isinstance(hint, types.UnionType):
        return typing.get_args(hint)[0], True
    return hint, False


def _legal(kind: type, spec: FlagSpec, optional: bool) -> str:
    """Describes the legal values of a flag: `a number above 0, at most 10 seconds`."""
    if spec.choices:
        words = f"one of {', '.join(spec.choices)}"
    elif kind is bool:
        words = "true or false"
    elif kind is str:
        words = "printable text without a blank at either end"
    else:
        words = "a whole number" if kind is int else "a number"
        bounds = [f"above {spec.above:g}"] if spec.above is not None else []
        bounds += [f"at least {spec.low:.12g}"] if spec.low is not None else []
        bounds += [f"at most {spec.high:.12g}"] if spec.high is not None else []
        words = " ".join([words, ", ".join(bounds), spec.unit]).replace("  ", " ")
    return words.strip() + (", or none" if optional else "")


def _in_bounds(value: float, spec: FlagSpec) -> bool:
    return (
        math.isfinite(value)
        and (spec.low is None or value >= spec.low)
        and (spec.high is None or value <= spec.high)
        and (spec.above is None or value > spec.above)
    )


def _convert(text: str, kind: type, spec: FlagSpec) -> Any:
    """Returns the value that `text` stands for, or None where it is not legal."""
    if kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower())
    if kind is str:
        legal = text.isprintable() and text == text.strip()
        return text if legal and (not spec.choices or text in spec.choices) else None
    try:
        value = kind(text)
    except (ValueError, OverflowError):
        return None
    return value if _in_bounds(value, spec) else None


class _Parser(flags.ArgumentParser):
    """An absl parser that says what it expected."""

    def __init__(self, kind: type, spec: FlagSpec, optional: bool) -> None:
        self.kind, self.spec, self.optional = kind, spec, optional

    def parse(self, argument: Any) -> Any:
        if not isinstance(argument, str) or (argument == "none" and self.optional):
            return None if argument == "none" else argument
        value = _convert(argument, self.kind, self.spec)
        if value is None:
            close = difflib.get_close_matches(argument, self.spec.choices, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(
                f"expected {_legal(self.kind, self.spec, self.optional)}{hint}"
            )
        return value


def _define(options_type: type, listings: Mapping[str, Any]) -> flags.FlagValues:
    """Returns fresh absl flags, one per field of `options_type`."""
    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    for field in dataclasses.fields(options_type):
        kind, optional = _value_type(options_type, field.name)
        spec: FlagSpec = field.metadata["flag"]
        parser = _Parser(kind, spec, optional)
        boolean = kind is bool
        new = flags.Flag(parser, None, field.name, None, spec.help, boolean=boolean)
        # Set past the parser, which refuses "" where it stands for "not given".
        new.default = new.value = field.default
        flags.DEFINE_flag(new, values, module_name=__name__)
    if listings:
        flags.DEFINE_list("list", [], _list_help(listings), values)
    return values


def _list_help(listings: Mapping[str, Any]) -> str:
    return f"Print the legal names of some of {', '.join(listings)}, and stop."


def read_flagfile(path: Path, including: tuple[Path, ...] = ()) -> list[str]:
    """Returns the arguments written in a flagfile, one a line.

    Blank lines and lines that begin with `#` or `//` are skipped. A line
    `--flagfile=OTHER` is replaced by what OTHER holds; OTHER is looked up beside the
    file that names it.

    Args:
      path: the flagfile.
      including: the files that led here, to notice a circle.

    Raises:
      Exit: the file is missing, not a text file, or includes itself.
    """
    path = path.expanduser()
    shown = f"--flagfile={path}"
    if path.resolve() in including:
        raise Exit(BAD_FLAG, f"{shown}: the file includes itself")
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "no such file"
        raise Exit(BAD_FLAG, f"{shown}: {what}; expected a text file of flags")
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_FLAGFILE_BYTES + 1)
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Exit(BAD_FLAG, f"{shown}: not a readable text file") from error
    if len(data) > _MAX_FLAGFILE_BYTES or "\0" in text:
        raise Exit(BAD_FLAG, f"{shown}: not a text file of at most 1 MiB")
    arguments = []
    for number, line in enumerate(map(str.strip, text.split("\n")), start=1):
        if not line or line.startswith(("#", "//")):
            continue
        if not line.startswith("-"):
            raise Exit(
                BAD_FLAG, f"{shown}, line {number}: {line!r} is not --name=value"
            )
        arguments.append(line)
    return expand_flagfiles(arguments, path.parent, (*including, path.resolve()))


def expand_flagfiles(
    arguments: Sequence[str], folder: Path, including: tuple[Path, ...] = ()
) -> list[str]:
    """Returns `arguments` with every `--flagfile` replaced by the file's lines."""
    expanded: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.lstrip("-").partition("=")
        if name != "flagfile" or not argument.startswith("-"):
            expanded.append(argument)
            continue
        value = value if equals else next(rest, "")
        if not value or "\0" in value:
            raise Exit(BAD_FLAG, "--flagfile: expected the path of a text file")
        expanded += read_flagfile(folder / Path(value).expanduser(), including)
    return expanded


def parse(
    arguments: Sequence[str],
    options_type: type,
    listings: Mapping[str, Sequence[str]] = types.MappingProxyType({}),
) -> Any:
    """Returns the options that `arguments` (without the program) stand for.

    Later arguments win. A method `check` of the options, where there is one, is called
    last; it raises ValueError for combinations that make no sense.

    Raises:
      Exit: an argument is unknown or not legal, or a name list was asked for (code 0).
    """
    values = _define(options_type, listings)
    try:
        left = values(["launcher", *expand_flagfiles(arguments, Path())])
    except flags.UnrecognizedFlagError as error:
        known = [*values, "flagfile", "help"]
        close = difflib.get_close_matches(error.flagname, known, n=1)
        hint = f"; did you mean --{close[0]}?" if close else "; --help lists the flags"
        raise Exit(BAD_FLAG, f"--{error.flagname}: unknown flag{hint}") from error
    except (flags.Error, ValueError) as error:
        text = str(error).removeprefix("flag ")
        text = text.replace("Missing value for flag ", "a value is missing after ")
        raise Exit(BAD_FLAG, text) from error
    if len(left) > 1:
        raise Exit(BAD_FLAG, f"{left[1]!r}: expected --name=value, got a bare word")
    if listings and values["list"].value:
        raise Exit(0, _listing(values["list"].value, listings))
    names = [field.name for field in dataclasses.fields(options_type)]
    options = options_type(**{name: values[name].value for name in names})
    _check(options)
    return options


def _listing(kinds: Sequence[str], listings: Mapping[str, Sequence[str]]) -> str:
    unknown = [kind for kind in kinds if kind not in listings]
    if unknown:
        raise Exit(
            BAD_FLAG, f"--list={unknown[0]}: expected some of {', '.join(listings)}"
        )
    return "\n".join(f"{kind}: {' '.join(listings[kind])}" for kind in kinds)


def _check(options: Any) -> None:
    """Refuses missing flags, flags without effect, and bad combinations."""
    for field in dataclasses.fields(options):
        spec: FlagSpec = field.metadata["flag"]
        value = getattr(options, field.name)
        if spec.required and value == field.default:
            raise Exit(BAD_FLAG, f"--{field.name}: required; {spec.help}")
        for other, legal in spec.only.items():
            if value != field.default and getattr(options, other) not in legal:
                raise Exit(
                    BAD_FLAG,
                    f"--{field.name}={format_value(value)}: has a meaning only with "
                    f"--{other}={'|'.join(map(format_value, legal))}, got "
                    f"--{other}={format_value(getattr(options, other))}",
                )
    try:
        getattr(options, "check", lambda: None)()
    except ValueError as error:
        raise Exit(BAD_FLAG, str(error)) from error


def format_value(value: Any) -> str:
    """Returns a flag's value as text that parses back to the same value."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def groups(options_type: type) -> list[tuple[str, list[dataclasses.Field[Any]]]]:
    """Returns the titled groups of flags, in the order of the base classes."""
    own = [base for base in options_type.__bases__ if dataclasses.is_dataclass(base)]
    inherited = {f.name for base in own for f in dataclasses.fields(base)}
    listed = [(base, dataclasses.fields(base)) for base in own]
    rest = [f for f in dataclasses.fields(options_type) if f.name not in inherited]
    listed += [(options_type, tuple(rest))] if rest else []
    return [((cls.__doc__ or "").split("\n")[0], list(fs)) for cls, fs in listed]


def format_help(
    program: str, doc: str, options_type: type, listings: Mapping[str, Any]
) -> str:
    """Returns the text of `--help`."""
    lines = [doc.strip(), "", f"Usage: python -m {program} [--flag=value ...]"]
    for title, fields in groups(options_type):
        lines += ["", title]
        for field in fields:
            kind, optional = _value_type(options_type, field.name)
            spec: FlagSpec = field.metadata["flag"]
            default = format_value(field.default) or "not set"
            unit = f" {spec.unit}" if spec.unit and field.default is not None else ""
            legal = f"default {default}{unit}; {_legal(kind, spec, optional)}"
            lines += _wrapped(f"--{field.name}: {spec.help}", "  ")
            lines += _wrapped(legal, "      ")
    lines += ["", "Everywhere"]
    if listings:
        lines += _wrapped(f"--list: {_list_help(listings)}", "  ")
    lines += [
        "  --flagfile: Read flags from a text file, one a line; later flags win.",
        "      a nested --flagfile is looked up beside the file that names it",
        "  --help: Print this text and stop.",
    ]
    return "\n".join(lines)


def _one_line(text: str) -> str:
    """Shows a line break, and whatever else does not print, as an escape."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, 88, initial_indent=indent, subsequent_indent="      ")


def launch(
    main: Callable[[Any], int | None],
    options_type: type,
    *,
    listings: Mapping[str, Sequence[str]] = types.MappingProxyType({}),
) -> NoReturn:
    """Runs `main(options)` and ends the process with an exit code.

    Args:
      main: takes the options; returns the exit code, None for 0. Its module's
        docstring heads `--help`.
      options_type: frozen dataclass whose fields are made by `flag`.
      listings: kinds of names that `--list` prints.
    """
    try:
        sys.exit(_run(main, options_type, listings))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # Nobody reads on; what is left in the buffer must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def _run(
    main: Callable[[Any], int | None],
    options_type: type,
    listings: Mapping[str, Sequence[str]],
) -> int | None:
    module = sys.modules[main.__module__]
    program = module.__spec__.name if module.__spec__ else Path(sys.argv[0]).stem
    try:
        if any(argument in _HELP for argument in sys.argv[1:]):
            raise Exit(
                0, format_help(program, str(module.__doc__), options_type, listings)
            )
        code = main(parse(sys.argv[1:], options_type, listings))
    except Exit as error:
        code = error.code
        shown = f"{program}: {_one_line(str(error))}" if code else str(error)
        print(shown, file=sys.stderr if code else sys.stdout)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        code, place = 1, f"{error.filename}: " if error.filename else ""
        shown = f"{program}: {_one_line(place)}{error.strerror}; what was saved stays: "
        print(f"{shown}free some and give the same command again", file=sys.stderr)
    sys.stdout.flush()
    return code
