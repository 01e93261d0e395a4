import signal
from collections.abc import Iterator

import jax
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache


@pytest.fixture(scope="module")
def optimised() -> Iterator[None]:
    """Compiles as for a user, whose bits a test is about, in started processes too."""
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update(name, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name.upper(), "0")
        yield
    jax.config.update(name, before)


@pytest.fixture(scope="session", autouse=True)
def heard_interrupts() -> None:
    """Lets launchers hear Ctrl-C even where the suite runs in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def kept_programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiles a program once for all runs of a module that need the same one."""
    settings: dict[str, str | float | None] = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("programs")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    _configure(settings)
    yield
    _configure(before)


def _configure(settings: dict[str, str | float | None]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    reset_cache()
