"""An exported model: three files that need nothing of this project.

model.stablehlo       the program, `(weights, inputs, lengths) -> outputs`
weights.safetensors   the weights, just as the program takes them
signature.json        names, shapes and dtypes of all that goes in and comes out, and of
                      the restored parameters; the task; and the SHA-256 of the other
                      two files

The weights are arguments and no constants of the program: they are stored once, other
programs can read them, a compiler folds none of them, and the outputs keep the bits of
the model in its run. Compressed weights are stored, and passed in, as they are
compressed; the program restores them.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy
from flax import linen as nn

from experiments.common import files
from experiments.common.launch import BAD_FLAG, Exit
from experiments.datasets.description import TaskDescription
from experiments.runs import task_file
from experiments.runs.checkpoints import leaves_by_name
from seqjax.array_types import Array, PyTree
from seqjax.compression import dequantise, unpack

PROGRAM, WEIGHTS, SIGNATURE = "model.stablehlo", "weights.safetensors", "signature.json"
_FORMAT = 1
_PLATFORMS = ("cpu", "cuda", "tpu")


class Artifact(NamedTuple):
    """An exported model that is ready for use.

    Attributes:
      signature: what signature.json holds.
      task: what the model reads and answers.
      call: `(inputs, lengths) -> outputs`, for a batch of any size and length.
    """

    signature: dict[str, Any]
    task: TaskDescription
    call: Callable[[np.ndarray, np.ndarray], Array]


def restore(params: PyTree) -> PyTree:
    """Returns parameters with ordinary kernels, whatever they were compressed by."""
    return dequantise(unpack(params))


def weights_data(params: PyTree) -> bytes:
    """Returns parameters, compressed or not, as the bytes of a safetensors file."""
    arrays = {name: np.asarray(leaf) for name, leaf in leaves_by_name(params).items()}
    return safetensors.numpy.save(arrays)


def write(
    folder: Path,
    model: nn.Module,
    params: PyTree,
    task: TaskDescription,
    details: Mapping[str, Any],
) -> dict[str, Any]:
    """Exports a model.

    Args:
      folder: where the files go; made if need be.
      model: reads one sequence of inputs.
      params: its parameters, compressed or not.
      task: what the model reads and answers.
      details: more entries of the signature.

    Returns:
      The signature.

    Raises:
      Exit: the folder cannot be written.
    """
    program, arguments, outputs = _export(model, params, task)
    weights = weights_data(params)
    signature = {
        "format": _FORMAT,
        "program": _describe_file(PROGRAM, program) | {"platforms": _PLATFORMS},
        "weights": _describe_file(WEIGHTS, weights),
        "arguments": arguments,
        "outputs": outputs,
        "parameters": _describe_all(jax.eval_shape(restore, params)),
        "task": task.description(),
        **details,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_atomic(folder / PROGRAM, program)
        files.write_atomic(folder / WEIGHTS, weights)
        # Last: until it is there, the other two are not vouched for.
        files.write_json(folder / SIGNATURE, signature)
    except OSError as error:
        raise Exit(BAD_FLAG, f"{folder}: {error.strerror}") from error
    return signature


def load(folder: Path) -> Artifact:
    """Returns an exported model.

    Raises:
      Exit: the folder holds none, or its files are not those that were written.
    """
    shown = f"{folder / SIGNATURE}"
    try:
        signature = json.loads((folder / SIGNATURE).read_bytes())
        if signature["format"] != _FORMAT:
            raise ValueError(f"expected format {_FORMAT}, got {signature['format']}")
        program, weights = (
            _read_file(folder, signature[part]) for part in ("program", "weights")
        )
        task = task_file.parse(signature["task"])
        exported = jax.export.deserialize(bytearray(program))
        arrays = jax.device_put(safetensors.numpy.load(weights))
    except OSError as error:
        raise Exit(BAD_FLAG, f"{error.filename}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise Exit(BAD_FLAG, f"{shown}: damaged ({error})") from error
    call = jax.jit(exported.call)
    return Artifact(signature, task, lambda xs, lengths: call(arrays, xs, lengths))


def _export(
    model: nn.Module, params: PyTree, task: TaskDescription
) -> tuple[bytes, list[dict[str, Any]], dict[str, Any]]:
    """Returns the program, and its arguments and outputs for the signature."""
    structure, names = jax.tree.structure(params), list(leaves_by_name(params))

    def infer(weights: dict[str, Array], inputs: Array, lengths: Array) -> Any:
        leaves = [weights[name] for name in names]
        params = restore(jax.tree.unflatten(structure, leaves))
        return model.apply({"params": params}, inputs, lengths)[1]

    batch, time = jax.export.symbolic_shape("batch, time")
    inputs = (
        jax.ShapeDtypeStruct((batch, time), np.int32)
        if task.vocabulary
        else jax.ShapeDtypeStruct((batch, time, task.input_size), np.float32)
    )
    lengths = jax.ShapeDtypeStruct((batch,), np.int32)
    weights = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        for name, leaf in sorted(leaves_by_name(params).items())
    }
    with _no_locations():
        exported = jax.export.export(jax.jit(infer), platforms=_PLATFORMS)(
            weights, inputs, lengths
        )
        program = bytes(exported.serialize())
    arguments = [*weights.items(), ("inputs", inputs), ("lengths", lengths)]
    (outputs,) = exported.out_avals
    answer = "forecast" if task.kind == "forecast" else "logits"
    return program, [_describe(*a) for a in arguments], _describe(answer, outputs)


@contextlib.contextmanager
def _no_locations() -> Iterator[None]:
    """Keeps paths of this machine out of what is lowered."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def _describe_all(tree: PyTree) -> list[dict[str, Any]]:
    return [_describe(*item) for item in sorted(leaves_by_name(tree).items())]


def _describe(name: str, array: Any) -> dict[str, Any]:
    """Symbolic sizes are described by their names."""
    shape = [size if isinstance(size, int) else str(size) for size in array.shape]
    return {"name": name, "shape": shape, "dtype": np.dtype(array.dtype).name}


def _describe_file(name: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    return {"file": name, "bytes": len(data), "sha256": digest}


def _read_file(folder: Path, described: Mapping[str, Any]) -> bytes:
    data = (folder / Path(described["file"]).name).read_bytes()
    if hashlib.sha256(data).hexdigest() != described["sha256"]:
        raise ValueError(f"{described['file']} has another SHA-256")
    return data
