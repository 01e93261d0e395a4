"""Answers stored inputs with an exported model, in a process that knows no run.

python -m experiments.deployment.reload EXPORT_DIR INPUTS OUTPUTS
"""

import sys
from pathlib import Path

import numpy as np

from experiments.common.launch import Exit
from experiments.deployment.artifact import load


def main(folder: str, inputs: str, outputs: str) -> None:
    """Reads `inputs_N` and `lengths_N` of an npz file, writes `outputs_N` of another.

    Args:
      folder: of the exported model.
      inputs: path of the file to read.
      outputs: path of the file to write.
    """
    artifact = load(Path(folder))
    with np.load(inputs) as given:
        answers = {
            name.replace("inputs", "outputs"): np.asarray(
                artifact.call(given[name], given[name.replace("inputs", "lengths")])
            )
            for name in given
            if name.startswith("inputs")
        }
    np.savez(outputs, **answers)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exit as error:
        sys.exit(str(error))
