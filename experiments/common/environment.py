"""What a run depends on beside its flags: the same environment gives the same bits."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def describe() -> dict[str, Any]:
    """Returns versions, code revision, devices, visible cores and XLA's flags."""
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "git": _git(),
        "devices": [device.device_kind for device in jax.devices()],
        "visible_cores": _visible_cores(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "x64": bool(jax.config.read("jax_enable_x64")),
    }


def _visible_cores() -> list[int]:
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _git() -> dict[str, Any]:
    """Returns the revision of this code, None outside a git clone."""
    revision = _git_output("rev-parse", "HEAD")
    changed = _git_output("status", "--porcelain")
    return {
        "revision": revision or None,
        "dirty": None if changed is None else bool(changed),
    }


def _git_output(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() if not done.returncode else None
