"""One case of a comparison: every framework, one cell, one shape, one pass."""

from collections.abc import Iterator
from typing import Any

from experiments.benchmarks import peers, timing
from experiments.benchmarks.options import Plan, Shape
from experiments.benchmarks.work import Loss, Work, jax_work, mean_squares

Row = dict[str, Any]


def works(
    plan: Plan, kind: str, shape: Shape, pass_name: str, loss: Loss = mean_squares
) -> dict[str, Work]:
    """Builds, and where there is something to compile compiles, every framework."""
    built = {
        name: jax_work(model, shape, pass_name, loss)
        for name, model in peers.models(plan, kind, shape).items()
    }
    if "torch" in plan.peers:
        from experiments.benchmarks.torch_peer import torch_work

        built["torch"] = torch_work(kind, shape, pass_name)
    return built


def check_alike(built: dict[str, Work], shape: Shape) -> None:
    """Raises ValueError unless all give outputs `[batch, time, hidden]`."""
    expected = (shape.batch, shape.time, shape.hidden)
    for name, work in built.items():
        if tuple(work.output_shape) != expected:
            raise ValueError(
                f"{name}: expected outputs of shape {list(expected)}, got "
                f"{list(work.output_shape)}"
            )


def compare(
    plan: Plan, kind: str, shape: Shape, pass_name: str, loss: Loss = mean_squares
) -> Iterator[Row]:
    """Measures all frameworks of a plan in turn, and yields a row for each."""
    built = works(plan, kind, shape, pass_name, loss)
    check_alike(built, shape)
    functions = {name: work.run for name, work in built.items()}
    samples = timing.alternate(functions, plan.repetitions, plan.seconds)
    reference = samples[peers.seqjax_name(plan.methods[0])]
    for name, work in built.items():
        yield {
            **case(kind, shape, pass_name),
            "peer": name,
            "num_params": work.num_params,
            **_compilation(work),
            "repetitions": len(samples[name]),
            "seconds": timing.quartiles(samples[name]),
            "ratio": timing.ratios(samples[name], reference),
            "samples": samples[name],
        }


def case(kind: str, shape: Shape, pass_name: str) -> Row:
    """Returns the entries of a row that say what was measured."""
    return {
        "kind": kind,
        "shape": str(shape),
        **shape._asdict(),
        "pass": pass_name,
    }


def _compilation(work: Work) -> Row:
    compiled = work.compiled
    return {
        "compile_seconds": compiled and compiled.seconds,
        "temporaries": compiled and compiled.temporaries,
        "arguments": compiled and compiled.arguments,
    }
