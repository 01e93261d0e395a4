"""Strict settings for the whole suite, in force before the first test module."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import pytest
from jaxtyping import install_import_hook

import tests.typecheck  # noqa: F401, the hook looks it up by name

# Shapes and types in signatures are checked while the suite runs, and free in use.
install_import_hook("seqjax", "tests.typecheck.check").__enter__()

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)


@pytest.fixture
def x64():
    """Runs one test in float64."""
    with jax.enable_x64(True):
        yield
