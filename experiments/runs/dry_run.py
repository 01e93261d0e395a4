"""Describes a run without making it: shapes, parameter counts, memory of a step."""

import dataclasses
import math
import sys

import jax

from experiments.runs import loop
from experiments.runs.checkpoints import leaves_by_name
from experiments.runs.options import Options
from experiments.runs.programs import Programs, parameter_counts

_MIB = 1024 * 1024


def describe(options: Options) -> None:
    """Prints what the flags would train; writes nothing.

    Args:
      options: the flags of the run.

    Raises:
      Exit: the flags do not make a task, a model or an optimiser.
    """
    programs = loop.build(options)
    source = programs.source
    print(f"task       {source.name}, {source.kind}, scored by {source.metric}")
    if source.dropped:
        print(f"left out   {source.dropped:,} training sequences above --max_length")
    print(f"cell       {programs.model.cell}")
    for name, shape in _example_shapes(programs).items():
        print(f"{name:10} {shape}")
    print("parameters")
    for name, leaf in leaves_by_name(programs.state_shape.params).items():
        print(f"  {name:30} {leaf.dtype} {list(leaf.shape)}")
    counts = parameter_counts(programs.state_shape.params)
    for name, count in (counts | {"total": sum(counts.values())}).items():
        print(f"  {name:30} {count:,}")
    print("memory of one update on each device, MiB")
    for name, size in _memory(options, programs).items():
        print(f"  {name:30} {size / _MIB:,.2f}")


def _example_shapes(programs: Programs) -> dict[str, str]:
    source = programs.source
    example = jax.eval_shape(source.expand, source.shapes[0])
    return {
        name: f"{leaf.dtype} {list(leaf.shape)}"
        for name, leaf in leaves_by_name(example).items()
    }


def _memory(options: Options, programs: Programs) -> dict[str, int]:
    """Returns bytes by purpose, as the compiler plans them, beside plain autodiff's."""
    state = jax.tree.leaves(programs.state_shape)
    sizes = {"state": sum(x.dtype.itemsize * math.prod(x.shape) for x in state)}
    analysis = programs.update.largest.memory_analysis()
    if analysis is None:
        print("the compiler tells nothing about memory here", file=sys.stderr)
        return sizes
    sizes |= {
        "arguments": analysis.argument_size_in_bytes,
        "outputs": analysis.output_size_in_bytes,
        "shared by both": analysis.alias_size_in_bytes,
        "temporaries": analysis.temp_size_in_bytes,
    }
    if options.method != "scan":
        plain = loop.build(dataclasses.replace(options, method="scan"))
        if analysis := plain.update.largest.memory_analysis():
            sizes["temporaries, --method=scan"] = analysis.temp_size_in_bytes
    return sizes
