"""The CPU devices of a run, and how one training step is spread over them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, PartitionSpec

from experiments.common.launch import BAD_FLAG, Exit

_AXIS = "batch"
SHARED, SPREAD = PartitionSpec(), PartitionSpec(_AXIS)
"""Whole on every device, or each device its share of the leading axis."""


def make_mesh(host_devices: int) -> Mesh | None:
    """Returns the devices that share a batch; None for one device, of any kind.

    To be called before jax has looked for its devices: it then finds as many of the
    CPU's as are asked for.

    Args:
      host_devices: how many.

    Raises:
      Exit: jax has looked already and found fewer, or does not run on CPUs.
    """
    if host_devices == 1:
        return None
    shown = f"--host_devices={host_devices}"
    try:
        jax.config.update("jax_num_cpu_devices", host_devices)
    except RuntimeError as error:
        if len(jax.devices()) < host_devices:
            raise Exit(
                BAD_FLAG, f"{shown}: this process has {len(jax.devices())} already"
            ) from error
    if jax.default_backend() != "cpu":
        raise Exit(
            BAD_FLAG,
            f"{shown}: expected 1 where jax runs on {jax.default_backend()}; set "
            "JAX_PLATFORMS=cpu to run on CPUs",
        )
    return jax.make_mesh((host_devices,), (_AXIS,), axis_types=(AxisType.Auto,))


def spread(
    step: Callable[..., Any], mesh: Mesh | None, in_specs: Any, out_specs: Any
) -> Callable[..., Any]:
    """Spreads a step over the devices of a mesh.

    Args:
      step: takes a batch and `axis_name`, over which it sums what belongs together.
      mesh: from `make_mesh`; None leaves the step as it is.
      in_specs: `SHARED` or `SPREAD` for every argument.
      out_specs: the same for every result.
    """
    if mesh is None:
        return step
    part = functools.partial(step, axis_name=_AXIS)
    return jax.shard_map(part, mesh=mesh, in_specs=in_specs, out_specs=out_specs)
