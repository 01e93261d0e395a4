"""Text: how a prompt is read, what may follow, and how it is shown."""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from experiments.common import files
from experiments.common.launch import BAD_FLAG, Exit
from experiments.datasets.description import TaskDescription
from experiments.datasets.literature import HAN, QUATRAIN
from experiments.datasets.vocabulary import END, START, Vocabulary
from experiments.generation.verse import verse_shares

# The task whose sequences begin anywhere and do not end.
_WINDOWED = "shakespeare"
_NUM_SPECIALS = 4
_ANY_HAN = "字"


class Language:
    """The characters of a run.

    Attributes:
      start: what the model reads before the prompt: the start token, or for text
        without beginning a line break.
      end: the token that ends a text, or None.
      ending: what is shown behind a text.
      allowed: which tokens may stand at a place, `[places, vocab]`; the last row holds
        for all later places.
    """

    ending = "\n"

    def __init__(self, task: TaskDescription, form: str | None) -> None:
        """Takes the vocabulary of a task.

        Args:
          task: what the model reads and answers.
          form: characters of a line of a quatrain; None for no form.

        Raises:
          Exit: a form is asked for that the task does not have.
        """
        if form and task.name != "quatrains":
            raise Exit(
                BAD_FLAG,
                f"--form={form}: expected none for a run of --task={task.name}; "
                "quatrains have a form",
            )
        self._vocabulary = Vocabulary(task.vocabulary)
        self._is_verse = task.name == "quatrains"
        windowed = task.name == _WINDOWED
        first = self._vocabulary.encode(["\n"])[0] if windowed else START
        self.start = np.asarray(first, np.int32)
        self.end = None if windowed else END
        self.allowed = self._form(int(form)) if form else self._anything()

    def read(self, prompt: str) -> np.ndarray:
        r"""Returns the tokens of a prompt, int32 `[time]`.

        Args:
          prompt: text; `\n` stands for a line break, `\\` for a backslash.

        Raises:
          Exit: a character is unknown or does not fit the form.
        """
        marks = {"n": "\n", "\\": "\\"}
        text = re.sub(r"\\([n\\])", lambda found: marks[found[1]], prompt)
        known = set(self._vocabulary.tokens)
        unknown = [
            character for character in dict.fromkeys(text) if character not in known
        ]
        if unknown:
            raise Exit(
                BAD_FLAG,
                f"--prompt: the run has not seen {', '.join(map(repr, unknown))} in "
                "training; expected other characters",
            )
        tokens = self._vocabulary.encode(list(text))
        for place, token in enumerate(tokens):
            if not self.allowed[min(place, len(self.allowed) - 1), token]:
                raise Exit(
                    BAD_FLAG,
                    f"--prompt: {text[place]!r} as character {place + 1} does not fit "
                    "--form; expected a poem's beginning, such as 白日依山盡，",
                )
        return tokens

    def show(self, token: np.ndarray) -> str:
        """Returns the text of a token."""
        return self._vocabulary.tokens[int(token)]

    def report(self, samples: Sequence[Sequence[np.ndarray]]) -> None:
        """Tells on standard error how many quatrains have kept their form."""
        if not self._is_verse:
            return
        texts = ["".join(map(self.show, sample)) for sample in samples]
        kept = [len(text) // 4 - 1 for text in texts if QUATRAIN.fullmatch(text)]
        lines = f"lines of 5: {kept.count(5)}, of 7: {kept.count(7)}"
        print(f"form kept: {len(kept)} of {len(texts)} ({lines})", file=sys.stderr)
        if kept:
            print(_verse(filter(QUATRAIN.fullmatch, texts)), file=sys.stderr)

    def write(self, path: Path, samples: Sequence[Sequence[np.ndarray]]) -> None:
        """Writes all texts, an empty line between any two."""
        texts = ["".join(map(self.show, sample)) for sample in samples]
        files.write_atomic(path, ("\n\n".join(texts) + "\n").encode())

    def _anything(self) -> np.ndarray:
        allowed = np.ones((1, len(self._vocabulary)), bool)
        allowed[0, :_NUM_SPECIALS] = False
        if self.end is not None:
            allowed[0, self.end] = True
        return allowed

    def _form(self, size: int) -> np.ndarray:
        tokens = self._vocabulary.tokens
        han = np.array([bool(re.fullmatch(HAN, token)) for token in tokens])
        line = _ANY_HAN * size
        rows = []
        for mark in f"{line}，{line}。" * 2:
            rows.append(han if mark == _ANY_HAN else np.array(tokens) == mark)
            if not rows[-1].any():
                raise Exit(
                    BAD_FLAG, f"--form={size}: the run's vocabulary has no {mark!r}"
                )
        return np.stack([*rows, np.arange(len(tokens)) == END])


def _verse(poems: Iterable[str]) -> str:
    """Says how many poems rhyme, and whether they mind the tones."""
    try:
        shares = verse_shares([*poems])
    except ImportError as error:
        return f"rhyme and tones were not looked at: {error}"
    return (
        f"in today's Mandarin {shares.rhyme:.0%} of them rhyme (real ones: 84 %), "
        f"{shares.level:.0%} of the rhyming lines end in a level tone (92 %), and in "
        f"{shares.alternation:.0%} of all lines the tones alternate (73 %)"
    )
