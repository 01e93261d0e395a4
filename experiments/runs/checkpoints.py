"""Checkpoints that are verified: Orbax holds the bytes, a manifest vouches for them.

Orbax commits a step by renaming a folder, but does not notice a flipped bit, and it
casts a dtype that does not fit without a word. So every step also has a manifest,
`STEP.json`, written after the commit: SHA-256, shape and dtype of every leaf, and a
SHA-256 of the manifest itself. A step without a valid manifest is not a checkpoint.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from experiments.common import files


class DamagedError(Exception):
    """A checkpoint whose bytes are not those that were saved."""


class NonFiniteError(ValueError):
    """A tree that holds NaN or infinity and is therefore not saved."""


def leaves_by_name(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a pytree under names such as `params.cell.kernel`."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in flat
    }


def tree_hash(tree: Any) -> str:
    """Returns one SHA-256 over names, shapes, dtypes and bytes of all leaves."""
    described = {name: _describe(leaf) for name, leaf in leaves_by_name(tree).items()}
    return _digest(json.dumps(described, sort_keys=True).encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _describe(leaf: Any) -> dict[str, Any]:
    array = np.asarray(leaf)
    return {
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        "sha256": _digest(array.tobytes()),
    }


def _is_finite(array: np.ndarray) -> bool:
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return True
    # NumPy has no isfinite for the short floats of machine learning.
    wide = array if array.dtype.itemsize > 2 else array.astype(np.float32)
    return bool(np.isfinite(wide).all())


class Checkpoints:
    """The checkpoints of one run.

    Attributes:
      folder: holds `STEP/`, written by Orbax, and `STEP.json`, the manifest.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep_last: int = 2,
        on_damage: Callable[[int, str], None] = lambda step, reason: None,
    ) -> None:
        """Opens a folder of checkpoints, which need not exist.

        Args:
          folder: where the checkpoints are.
          keep_last: how many of the newest steps survive a save.
          on_damage: called with step and reason for every damaged step met.
        """
        self.folder = folder.absolute()
        self._keep_last = keep_last
        self._on_damage = on_damage

    def steps(self) -> list[int]:
        """Returns the steps that have a manifest, damaged or not, oldest first."""
        stems = (path.stem for path in self.folder.glob("*.json"))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def save(self, step: int, tree: Any, *, keep: tuple[int, ...] = ()) -> None:
        """Saves `tree` as `step`, then deletes the steps no longer needed.

        Kept are the newest steps and those that one of them named in `keep`.

        Args:
          step: number of updates done.
          tree: pytree of arrays.
          keep: steps that must live as long as this one, such as the best.

        Raises:
          NonFiniteError: `tree` holds NaN or infinity.
          OSError: the disk does not take the bytes.
        """
        leaves = {name: np.asarray(x) for name, x in leaves_by_name(tree).items()}
        for name, leaf in leaves.items():
            if not _is_finite(leaf):
                raise NonFiniteError(f"step {step}: {name} is not finite")
        self._delete(step)
        # Orbax refuses arrays without elements; the manifest says all about them.
        stored = {name: leaf for name, leaf in leaves.items() if leaf.size}
        path = self.folder / str(step)
        try:
            with ocp.PyTreeCheckpointer() as orbax:
                orbax.save(path, stored)
        except ValueError as error:
            if found := re.search(r"os_error_code='(\d+)'", str(error)):
                number = int(found[1])
                raise OSError(number, os.strerror(number), str(path)) from error
            raise
        self._write_manifest(step, leaves, keep)
        self._prune()

    def restore(self, step: int, like: Any) -> Any:
        """Returns the tree saved as `step`, its leaves NumPy arrays.

        Args:
          step: one of `steps()`.
          like: pytree of arrays, or of `jax.ShapeDtypeStruct`, with the structure,
            shapes and dtypes to expect.

        Raises:
          DamagedError: the bytes are not those that were saved.
          ValueError: the checkpoint is intact but does not fit `like`.
        """
        described = self._read_manifest(step)["leaves"]
        self._check_fit(step, described, leaves_by_name(like))
        loaded = self._load(step, described)
        for name, leaf in loaded.items():
            if _describe(leaf) != described[name]:
                raise DamagedError(f"step {step}: {name} has another SHA-256")
        structure = jax.tree_util.tree_structure(like)
        names = leaves_by_name(like)
        return jax.tree_util.tree_unflatten(structure, [loaded[n] for n in names])

    def restore_newest(self, like: Any) -> tuple[int, Any] | None:
        """Returns the newest intact step and its tree, or None without any.

        Raises:
          ValueError: the newest intact checkpoint does not fit `like`.
        """
        for step in reversed(self.steps()):
            try:
                return step, self.restore(step, like)
            except DamagedError as error:
                self._on_damage(step, str(error))
        return None

    def sweep(self, newest: int) -> None:
        """Deletes steps after `newest`, and what an interrupted save left behind."""
        for step in self.steps():
            if step > newest:
                self._delete(step)
        committed = {str(step) for step in self.steps()}
        for path in self.folder.glob("*"):
            if path.is_dir() and path.name not in committed:
                shutil.rmtree(path)

    def _manifest_path(self, step: int) -> Path:
        return self.folder / f"{step}.json"

    def _write_manifest(
        self, step: int, leaves: dict[str, np.ndarray], keep: tuple[int, ...]
    ) -> None:
        described = {name: _describe(leaf) for name, leaf in leaves.items()}
        manifest = {"step": step, "keep": list(keep), "leaves": described}
        manifest["sha256"] = _digest(json.dumps(manifest, sort_keys=True).encode())
        files.write_json(self._manifest_path(step), manifest)

    def _read_manifest(self, step: int) -> dict[str, Any]:
        try:
            manifest = json.loads(self._manifest_path(step).read_bytes())
            claimed = manifest.pop("sha256")
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise DamagedError(f"step {step}: the manifest is not readable") from error
        found = _digest(json.dumps(manifest, sort_keys=True).encode())
        if claimed != found or manifest["step"] != step:
            raise DamagedError(f"step {step}: the manifest has another SHA-256")
        return manifest

    def _check_fit(
        self, step: int, described: dict[str, Any], expected: dict[str, Any]
    ) -> None:
        for name in sorted(described.keys() ^ expected.keys()):
            where = "lacks" if name in expected else "also holds"
            raise ValueError(f"the checkpoint of step {step} {where} {name}")
        for name, leaf in expected.items():
            saved = (tuple(described[name]["shape"]), described[name]["dtype"])
            wanted = (tuple(np.shape(leaf)), np.dtype(leaf.dtype).name)
            if saved != wanted:
                raise ValueError(
                    f"the checkpoint of step {step} holds {name} with shape and dtype "
                    f"{saved}; expected {wanted}"
                )

    def _load(self, step: int, described: dict[str, Any]) -> dict[str, np.ndarray]:
        empty = {name: d for name, d in described.items() if 0 in d["shape"]}
        as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
        wanted = {name: as_numpy for name in described if name not in empty}
        try:
            with ocp.PyTreeCheckpointer() as orbax:
                loaded = orbax.restore(self.folder / str(step), restore_args=wanted)
            loaded = {name: loaded[name] for name in wanted}
        # Damaged bytes end in one of many exceptions, from JSON's to TensorStore's.
        except Exception as error:
            raise DamagedError(f"step {step}: Orbax cannot read it") from error
        return loaded | {
            name: np.empty(d["shape"], np.dtype(d["dtype"]))
            for name, d in empty.items()
        }

    def _prune(self) -> None:
        newest = self.steps()[-self._keep_last :]
        kept = set(newest)
        for step in newest:
            try:
                kept.update(self._read_manifest(step)["keep"])
            except DamagedError as error:
                self._on_damage(step, str(error))
        for step in set(self.steps()) - kept:
            self._delete(step)

    def _delete(self, step: int) -> None:
        """Deletes a step, its manifest first so that no half of it counts."""
        self._manifest_path(step).unlink(missing_ok=True)
        shutil.rmtree(self.folder / str(step), ignore_errors=True)
