"""Measures seqjax beside other frameworks, all doing the same work on the CPU.

The work is a recurrent layer over inputs `[batch, time, input]` in float32, with the
mean of the squares of all its outputs as loss: forward is the loss, backward the loss
and its gradient with respect to every parameter. Each study prints tables and writes
OUT_DIR/STUDY.json and OUT_DIR/STUDY.png:

speed: time of every peer over that of seqjax.
rounding: time with bfloat16 operands of products over that with float32.
memory: temporaries that the compiler plans for the gradient; nothing runs.
longest: longest sequence whose gradient is planned within 1 GiB; nothing runs.
norms: gradient norms at every step, against a loop over torch's LSTMCell.
linear: time of the gradient against the number of steps.

Frameworks take turns in one process, in an order drawn anew for every repetition; what
is reported are medians and quartiles. Compile time is never part of a time. The peers
come with `pip install -e ".[test]"`.
"""

import importlib
import importlib.metadata
import os
import sys
from pathlib import Path

from experiments.benchmarks.options import PEERS, Options, Plan
from experiments.common import files
from experiments.common.launch import BAD_FLAG, Exit


def main(options: Options) -> None:
    """Runs one study, prints its tables, and writes its JSON file and its picture."""
    plan = options.plan()
    require_packages(plan)
    # Both are read when the package loads. Idle threads of torch that spin would take
    # the cores away from whoever is measured next.
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    folder = Path(options.out_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Exit(BAD_FLAG, f"--out_dir={folder}: {error.strerror}") from error
    # From here on jax is needed, which takes more than a second to import.
    from experiments.benchmarks import figures, machine, tables

    machine.configure(plan)
    study = importlib.import_module(f"experiments.benchmarks.{plan.study}")
    record = {
        "study": plan.study,
        "plan": plan.described(),
        "machine": machine.describe(plan),
        "load_average": {"before": os.getloadavg(), "after": None},
        "done": False,
        "rows": [],
        "summary": [],
    }
    target = folder / f"{plan.study}.json"
    for row in study.measure(plan):
        record["rows"].append(row)
        # Written row by row: what was measured for an hour survives a kill.
        files.write_json(target, record)
        print(tables.heading(row), file=sys.stderr, flush=True)
    record["summary"] = study.summarise(record["rows"])
    record["load_average"]["after"] = os.getloadavg()
    record["done"] = True
    files.write_json(target, record)
    tables.show(study.list_tables(record["rows"], record["summary"]), record)
    picture = figures.save(study.draw, record["rows"], target, record["machine"])
    print(f"{target}\n{picture}")


def require_packages(plan: Plan) -> None:
    """Ends the launcher where the package of a peer that was asked for is absent.

    Raises:
      Exit: with code 2, naming the package.
    """
    for peer in plan.peers:
        try:
            importlib.metadata.version(PEERS[peer])
        except importlib.metadata.PackageNotFoundError as error:
            raise Exit(
                BAD_FLAG,
                f"--peers={peer}: the package {PEERS[peer]} is not installed; "
                'pip install -e ".[test]" brings every peer',
            ) from error
