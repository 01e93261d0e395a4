"""Docstrings: every public name has one, and every example in them runs."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import seqjax

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(seqjax.__path__, "seqjax.")
)


def test_walk_finds_the_library():
    assert {"seqjax.cell", "seqjax.unroll", "seqjax.cells.lstm"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_public_names_are_sorted_and_documented():
    assert list(seqjax.__all__) == sorted(seqjax.__all__)
    for name in seqjax.__all__:
        value = getattr(seqjax, name)
        assert name == "__version__" or value.__doc__, name


def test_readme_example_runs():
    text = (ROOT / "README.md").read_text()
    blocks = text.split("```python\n")[1:]
    assert blocks
    for block in blocks:
        exec(compile(block.split("```")[0], "README.md", "exec"), {})
