"""Gradient norms at every step: seqjax's probes against a loop over torch's LSTMCell.

Both have the same weights and the same loss, and both give the gradient of the
parameters as well; the norms are ln ‖∂L/∂carryₜ‖ of what enters step t.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from experiments.benchmarks import figures, peers, tables, timing
from experiments.benchmarks.compare import Row, case
from experiments.benchmarks.options import Plan, Shape
from experiments.benchmarks.work import (
    PyTree,
    compile_pass,
    inputs,
    mean_squares,
)
from seqjax import cells, make_probes, unroll

_GRADIENT, _PROBES, _LOOP = "seqjax gradient", "seqjax probes", "torch loop"


class Probed(NamedTuple):
    """The compiled gradient with probes, and its arguments."""

    program: Callable[..., Any]
    params: cells.LSTMParams
    probes: PyTree
    xs: jax.Array

    def run(self) -> cells.LSTMCarry:
        """Returns the norms, leaves `[batch, time+1]`; the other gradients are made."""
        _, (_, norms) = jax.block_until_ready(
            self.program(self.params, self.probes, self.xs)
        )
        return norms


def measure(plan: Plan) -> Iterator[Row]:
    """Yields plain gradient, probes and torch's loop for every shape."""
    # torch is needed from here on, and by no other module that this one imports.
    from experiments.benchmarks.torch_peer import NormLoop

    for shape in plan.shapes:
        model = peers.seqjax("lstm", shape, plan.methods[0])
        probed = compile_probed(shape, plan.methods[0], model.params)
        plain = compile_pass(model, shape, "backward").program
        loop = NormLoop(shape, model.params)
        works: dict[str, Callable[[], object]] = {
            _GRADIENT: lambda plain=plain, model=model, probed=probed: (
                jax.block_until_ready(plain(model.params, probed.xs))
            ),
            _PROBES: probed.run,
            _LOOP: loop.run,
        }
        curves = {
            # What enters no step, the final carry, torch's loop does not ask for.
            _PROBES: [np.asarray(part)[:, :-1] for part in probed.run()],
            _LOOP: [part.numpy() for part in loop.run()],
        }
        samples = timing.alternate(works, plan.repetitions, plan.seconds)
        for name in works:
            yield {
                **case("lstm", shape, "backward"),
                "peer": name,
                "repetitions": len(samples[name]),
                "seconds": timing.quartiles(samples[name]),
                "ratio": timing.ratios(samples[name], samples[_GRADIENT]),
                "ratio_to_probes": timing.ratios(samples[name], samples[_PROBES]),
                "samples": samples[name],
                **_curves(curves, name),
            }


def compile_probed(shape: Shape, method: str, params: cells.LSTMParams) -> Probed:
    """Compiles the gradient with respect to parameters and probes."""
    cell = cells.lstm(shape.input, shape.hidden)

    def loss(params: PyTree, probes: PyTree, xs: jax.Array) -> jax.Array:
        carry, ys = unroll(cell, params, xs, method=method, probes=probes)
        return mean_squares(carry.hidden, ys)

    probes = make_probes(cell, params, (shape.batch,), shape.time)
    xs = jnp.asarray(inputs(shape))
    lowered = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(params, probes, xs)
    return Probed(lowered.compile(), params, probes, xs)


def largest_difference(first: Sequence[Any], second: Sequence[Any]) -> float:
    """Returns the largest difference of log norms, infinite where one alone is -inf."""
    return max(
        float(np.max(np.abs(np.subtract(a, b, where=a != b, out=np.zeros_like(a)))))
        for a, b in zip(first, second, strict=True)
    )


def _curves(curves: dict[str, list[np.ndarray]], name: str) -> Row:
    """The norms of the first sequence, and how far they are from the probes'."""
    if name not in curves:
        return {}
    hidden, cell = (part[0].tolist() for part in curves[name])
    return {
        "log_norms": {"hidden": hidden, "cell": cell},
        "largest_difference": largest_difference(curves[name], curves[_PROBES]),
    }


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Returns nothing: every ratio stands in the rows."""
    return []


def list_tables(rows: Sequence[Row], summary: Sequence[Row]) -> list[Table]:
    """Returns times, both ratios, and how far the norms agree."""
    compared = [row for row in rows if row["peer"] == _LOOP]
    return [
        tables.matrix("Time, ms: median (quartiles)", rows, tables.milliseconds),
        tables.matrix("Time over that of the plain gradient", rows, tables.ratio),
        tables.matrix(
            "Time over that of the gradient with probes",
            rows,
            lambda row: f"{row['ratio_to_probes']['median']:.3g}",
        ),
        tables.matrix(
            "Largest difference of the log norms from those of the probes, nats",
            compared,
            lambda row: f"{row['largest_difference']:.1e}",
        ),
    ]


def draw(rows: Sequence[Row]) -> Figure:
    """Draws the norms of the first sequence of both, a panel for each shape."""
    shapes = list(dict.fromkeys(row["shape"] for row in rows))
    figure, panels = figures.curves(len(shapes))
    for axes, shape in zip(panels, shapes, strict=True):
        own = {row["peer"]: row for row in rows if row["shape"] == shape}
        for part, style in (("hidden", "-"), ("cell", "--")):
            probed, loop = (own[name]["log_norms"][part] for name in (_PROBES, _LOOP))
            axes.plot(probed, style, color="black", label=f"probes, {part}")
            every = max(1, len(loop) // 24)
            marker = {"hidden": "o", "cell": "s"}[part]
            axes.plot(
                range(0, len(loop), every),
                loop[::every],
                marker,
                color="#d55e00",
                markerfacecolor="none",
                markersize=5,
                label=f"torch loop, {part}",
            )
        axes.set_title(shape)
        axes.set_xlabel("time step t")
        axes.set_ylabel("ln gradient norm (nats)")
    figures.add_key(figure)
    return figure
