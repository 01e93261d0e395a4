"""The machine and the software that were measured, and their settings."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import jax

from experiments.benchmarks.options import PEERS, Plan
from experiments.common import environment


def configure(plan: Plan) -> None:
    """Puts jax on the CPU and gives torch the cores that jax has.

    Called before the first array is made.
    """
    jax.config.update("jax_platforms", "cpu")
    if plan.host_devices > 1:
        jax.config.update("jax_num_cpu_devices", plan.host_devices)
    if "torch" in plan.peers:
        import torch

        # As XLA does. New threads inherit it, so it comes before they start.
        torch.set_flush_denormal(True)
        torch.set_num_threads(_num_cores())


def describe(plan: Plan) -> dict[str, Any]:
    """Returns processor, cores, threads, versions and the settings that matter."""
    known = environment.describe()
    packages = sorted({"jax", "jaxlib", *(PEERS[peer] for peer in plan.peers)})
    return known | {
        "cpu": _cpu_model(),
        "num_cores": _num_cores(),
        "versions": known["versions"]
        | {name: importlib.metadata.version(name) for name in packages},
        "threads": {"xla": _num_cores(), **_torch_threads(plan)},
        "environment": {
            name: os.environ.get(name, "")
            for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "KERAS_BACKEND")
        },
    }


def _torch_threads(plan: Plan) -> dict[str, int]:
    if "torch" not in plan.peers:
        return {}
    import torch

    return {"torch": torch.get_num_threads()}


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    """Returns the processor's name, as Linux tells it where there is Linux."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()
