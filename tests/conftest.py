"""Strict settings for the whole suite, in force before the first test module."""

import gc
import os
from importlib.metadata import version

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("MPLBACKEND", "Agg")

# Most of the suite's time goes into the compilation of small programs. The older
# emitters of loops, all into one module, need half of it, and programs need the same
# memory, to a few hundred bytes. Flags that are not known end the process, so these are
# for the version that knows them. Without optimisation by LLVM it is half again, here
# and in the processes that tests start; tests of claims about bits ask for the fixture
# `optimised`. For the compiler as a user has it:
# `XLA_FLAGS= JAX_DISABLE_MOST_OPTIMIZATIONS=0 make test`.
if version("jaxlib").startswith("0.10."):
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
    )
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest
from jaxtyping import install_import_hook

import tests.typecheck  # noqa: F401, the hook looks it up by name

# Shapes and types in signatures are checked while the suite runs, and free in use.
install_import_hook("seqjax", "tests.typecheck.check").__enter__()

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_collection_finish() -> None:
    """Spares the garbage collector what all frameworks together have imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)


@pytest.fixture
def x64():
    """Runs one test in float64."""
    with jax.enable_x64(True):
        yield
