"""Lets a trained model go on with a text or a piece of music.

Runs of shakespeare, quatrains and melodies give text, those of chorales chords. All is
shown as it is drawn, and Ctrl-C ends it at any moment. The same flags give the same.
"""

import dataclasses
import functools
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.common.launch import BAD_FLAG, Exit, flag, launch
from experiments.common.names import LANGUAGE, MUSIC
from experiments.generation.chords import Chords
from experiments.generation.language import Language
from experiments.runs import run_dir, task_file
from experiments.runs.checkpoint_flags import CheckpointFlags


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawFlags:
    """Draws: what the model reads first, and how it goes on."""

    prompt: str = flag(
        "",
        "What the model reads first. Text, where \\n is a line break and \\\\ a "
        "backslash; or chords such as C3,G3,E4,C5 with blanks between.",
    )
    num_tokens: int = flag(
        400,
        "Most characters or chords after the prompt.",
        low=1,
        high=10**6,
        unit="tokens",
    )
    num_samples: int = flag(
        1, "How many texts or pieces, one after another.", low=1, high=10**6
    )
    temperature: float = flag(
        1.0,
        "Below 1 draws what is likely more often; 0 the likeliest.",
        low=0,
        high=100,
    )
    top_k: int | None = flag(
        None,
        "Draws one of that many likeliest tokens; of all if none.",
        low=1,
        high=10**6,
    )
    top_p: float = flag(
        1.0,
        "Draws one of the likeliest tokens that have this probability together.",
        above=0,
        high=1,
    )
    form: str | None = flag(
        None,
        "Characters of a line of a quatrain, whose form is then kept exactly.",
        choices=("5", "7"),
    )
    seed: int = flag(0, "Seed of the draws.", low=0, high=2**31 - 1)
    output: str = flag(
        "", "Also write a file: all texts, or MIDI; of several pieces one file each."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(CheckpointFlags, DrawFlags):
    """All flags of `experiments.generate`."""


def main(options: Options) -> int:
    """Shows what the model of a run makes up; returns the exit code."""
    material = _material(options)
    prompt = material.read(options.prompt)
    output = _checked_output(options.output)
    samples: list[list[np.ndarray]] = []
    try:
        for drawn in _drawn(options, material, prompt):
            if samples:
                print()
            samples.append([])
            for token in itertools.chain(prompt, drawn):
                samples[-1].append(token)
                print(material.show(token), end="", flush=True)
            print(material.ending, end="", flush=True)
    finally:
        if output and samples:
            material.write(output, samples)
    material.report(samples)
    return 0


def _material(options: Options) -> Language | Chords:
    """Returns what the run is about, before jax is needed.

    Raises:
      Exit: there is no run, it is one that cannot go on, or a flag does not fit it.
    """
    path = Path(options.run_dir)
    run_options, task = run_dir.read_options(path), task_file.read(path)
    shown = f"--run_dir={path}: a run of --task={run_options.task}"
    if run_options.task not in (*LANGUAGE, *MUSIC):
        raise Exit(
            BAD_FLAG, f"{shown}; expected one of {', '.join((*LANGUAGE, *MUSIC))}"
        )
    try:
        if run_options.task in LANGUAGE:
            return Language(task, options.form)
    except ValueError as error:
        raise Exit(BAD_FLAG, f"{path}: task.json is damaged ({error})") from error
    for name, default in (("form", None), ("top_k", None), ("top_p", 1)):
        if getattr(options, name) != default:
            raise Exit(BAD_FLAG, f"--{name}: has no meaning for chords; {shown}")
    return Chords()


def _checked_output(name: str) -> Path | None:
    """Returns the file to write, which must be one that can be written."""
    if not name:
        return None
    path = Path(name).expanduser()
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise Exit(
            BAD_FLAG, f"--output={name}: expected a file in a folder one can write to"
        )
    return path


def _drawn(
    options: Options, material: Language | Chords, prompt: np.ndarray
) -> Iterator[Iterator[np.ndarray]]:
    """Yields what follows the prompt, token by token, as often as is asked for."""
    # From here on jax is needed, which takes more than a second to import.
    import jax

    from experiments.generation.sampler import Sampler
    from experiments.runs.served import load_model
    from seqjax.decoding import sample_bernoulli, sample_logits

    sample_fn = functools.partial(sample_bernoulli, temperature=options.temperature)
    if isinstance(material, Language):
        sample_fn = functools.partial(
            sample_logits,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
        )
    served = load_model(Path(options.run_dir), options.checkpoint)
    sampler = Sampler(served, material.start, material.allowed, sample_fn)
    for sample in range(options.num_samples):
        key = jax.random.fold_in(jax.random.key(options.seed), sample)
        tokens = itertools.islice(sampler.draw(prompt, key), options.num_tokens)
        yield itertools.takewhile(
            lambda token: material.end is None or token != material.end, tokens
        )


if __name__ == "__main__":
    launch(main, Options)
