"""A model to ask, out of a run or out of an export."""

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.common.launch import Exit
from experiments.datasets.description import TaskDescription
from experiments.datasets.units import in_units, standardise
from experiments.deployment.answering import Infer
from experiments.runs.served import Served, load_model
from seqjax.array_types import PyTree


class Model(NamedTuple):
    """A model that is ready for use.

    Attributes:
      task: what it reads and answers.
      max_length: steps that it read of a sequence in training; 0 for all.
      infer: the model itself, in the units of the data.
    """

    task: TaskDescription
    max_length: int
    infer: Infer


def model_of_run(path: Path, checkpoint: str) -> Model:
    """Returns the model of a run.

    Args:
      path: directory of the run.
      checkpoint: as for `load_model`.

    Raises:
      Exit: as `load_model`.
    """
    served = load_model(path, checkpoint)
    infer = _of_data(served.task, compiled(served, served.params))
    return Model(served.task, served.options.max_length, infer)


def model_of_export(folder: Path) -> Model:
    """Returns an exported model.

    Args:
      folder: what `experiments.export` wrote.

    Raises:
      Exit: as `artifact.load`.
    """
    require_packages()
    from experiments.deployment import artifact

    exported = artifact.load(folder)
    infer = _of_data(exported.task, exported.call)
    return Model(exported.task, exported.signature["max_length"], infer)


def _of_data(task: TaskDescription, infer: Infer) -> Infer:
    """Returns a model that reads and answers in the units of the data."""

    def asked(inputs: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        outputs = np.asarray(infer(standardise(task, inputs), lengths))
        return in_units(task, outputs, inputs[np.arange(len(inputs)), lengths - 1])

    return asked


def require_packages() -> None:
    """Refuses to go on without the packages of the extra `export`.

    Raises:
      Exit: one of them is missing.
    """
    for name in ("flatbuffers", "safetensors"):
        if importlib.util.find_spec(name) is None:
            raise Exit(
                1,
                f"exported models need {name}, which is missing; pip install "
                "flatbuffers safetensors",
            )


def compiled(served: Served, params: PyTree) -> Infer:
    """Returns the model of a run with some parameters, compiled for every shape.

    Args:
      served: the model.
      params: like those of the run.
    """
    params = jax.device_put(params)

    @jax.jit
    def infer(params: PyTree, inputs: jax.Array, lengths: jax.Array) -> Any:
        return served.model.apply({"params": params}, inputs, lengths)[1]

    return lambda inputs, lengths: infer(params, inputs, lengths)
