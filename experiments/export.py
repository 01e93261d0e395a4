"""Writes a trained model as files that need nothing of this project.

A program in StableHLO, its weights in safetensors, and a signature in JSON; then asks
them in a fresh process whether they answer as the run does.
"""

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.common import files
from experiments.common.launch import BAD_FLAG, Exit, flag, launch
from experiments.common.model_flags import ModelFlags
from experiments.common.out_dir import print_table
from experiments.runs import run_dir
from experiments.runs.checkpoint_flags import CheckpointFlags

if TYPE_CHECKING:
    from experiments.runs.served import Served

_MISMATCH = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(CheckpointFlags):
    """Export: to where, and how small."""

    out_dir: str = flag("", "Folder for the exported files.", required=True)
    quantise: str = flag(
        "none",
        "How kernels and embeddings are stored: as they are, or rounded to whole "
        "numbers from -127 to 127 with a scale for each of their columns.",
        choices=("none", "int8"),
    )
    sparsity: float = flag(
        0.0,
        "Share of the weights of each kernel that become zero, the smallest ones; the "
        "others are stored with a mask.",
        low=0.0,
        high=0.99,
    )
    verify: bool = flag(
        True, "Reload the files in a fresh process, and compare with the run."
    )
    table: bool = flag(
        False,
        "Measure on the test set what several compressions cost; needs the data.",
    )
    eval_size: int | None = flag(
        None,
        "Sequences of the test set for --table; that of the run if none, 0 for all of "
        "a data set.",
        low=0,
        high=10**7,
        unit="sequences",
        only={"table": (True,)},
    )
    data_dir: str | None = flag(
        None,
        "Folder of all data sets for --table; that of the run if none.",
        only={"table": (True,)},
    )


def main(options: Options) -> int:
    """Exports a model; returns 1 where the files do not answer as the run does."""
    path, out_dir = Path(options.run_dir), Path(options.out_dir)
    run_dir.read_options(path)
    # From here on jax is needed, which takes more than a second to import.
    from experiments.deployment.models import require_packages

    require_packages()
    from experiments.deployment import artifact, compressed
    from experiments.runs.served import load_model

    served = load_model(path, options.checkpoint)
    params = compressed.compress(served.params, options.quantise, options.sparsity)
    signature = artifact.write(
        out_dir, inference_model(served), params, served.task, _details(options, served)
    )
    full = len(artifact.weights_data(served.params))
    for part in ("program", "weights"):
        file = signature[part]
        print(f"{out_dir / file['file']}: {file['bytes']:,} bytes")
    print(f"the weights of the run, as float32: {full:,} bytes")
    code = _verify(out_dir, served, params) if options.verify else 0
    if options.table:
        _write_table(options, out_dir)
    return code


def inference_model(served: "Served") -> Any:
    """Returns the model of a run, without what a backward pass would keep.

    Raises:
      Exit: it reads more than one sequence.
    """
    from experiments.runs.factories import build_model

    if served.task.source_vocabulary:
        raise Exit(
            BAD_FLAG,
            f"--run_dir: a run of {served.task.name} reads two sequences, source and "
            "target; only models of one sequence are exported",
        )
    return build_model(dataclasses.replace(served.options, method="auto"), served.task)


def _details(options: Options, served: "Served") -> dict[str, Any]:
    from experiments.common import environment

    names = [field.name for field in dataclasses.fields(ModelFlags)]
    return {
        "max_length": served.options.max_length,
        "compression": {"quantise": options.quantise, "sparsity": options.sparsity},
        "model": {name: getattr(served.options, name) for name in names},
        "step": served.step,
        "seed": served.options.seed,
        "versions": environment.describe()["versions"],
    }


def _verify(out_dir: Path, served: "Served", params: Any) -> int:
    from experiments.deployment import artifact, models, verification

    infer = models.compiled(served, artifact.restore(params))
    verdict = verification.verify(out_dir, served.task, infer)
    print(f"asked in a fresh process, against the run: {verdict.text}")
    return 0 if verdict.passed else _MISMATCH


def _write_table(options: Options, out_dir: Path) -> None:
    from experiments.deployment.compressed import compare_compressions
    from experiments.runs.measured import restore

    restored = restore(
        Path(options.run_dir),
        options.checkpoint,
        eval_size=options.eval_size,
        data_dir=options.data_dir,
    )
    source = restored.programs.source
    rows = compare_compressions(
        restored.state.params, functools.partial(restored.measure, "test")
    )
    columns = {
        "stored": "kernels as",
        "zeros": "zeros",
        "bytes": "bytes",
        "share": "share",
        "loss": "test loss",
        source.metric: f"test {source.metric}",
    }
    title = (
        f"{source.name}: a guess without memory has {source.metric} "
        f"{source.baseline_metric:.4g}"
    )
    print_table(title, columns, rows)
    lines = b"".join(files.json_line(row) for row in rows)
    files.write_atomic(out_dir / "compression.jsonl", lines)


if __name__ == "__main__":
    launch(main, Options)
