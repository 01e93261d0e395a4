"""Checkpoints: exact bytes back, or a clear refusal; never a silent difference."""

import errno
import gc
import random
import resource
import shutil
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.runs.checkpoints import (
    Checkpoints,
    DamagedError,
    NonFiniteError,
    leaves_by_name,
    tree_hash,
)


class Layer(NamedTuple):
    kernel: jax.Array
    bias: jax.Array | None


def make_tree(seed: int) -> dict:
    key = jax.random.key(seed)
    return {
        "layer": Layer(jax.random.normal(key, (3, 4)), None),
        "short": jnp.full(2, 1 / 3, jnp.bfloat16),
        "empty": jnp.zeros((0, 3)),
        "step": jnp.asarray(seed, jnp.int32),
        "flag": jnp.asarray(True),
    }


def test_restores_every_byte_and_the_structure(tmp_path: Path) -> None:
    tree = make_tree(7)
    Checkpoints(tmp_path / "c").save(10, tree)
    like = jax.eval_shape(lambda: make_tree(7))
    restored = Checkpoints(tmp_path / "c").restore(10, like)
    assert jax.tree.structure(restored) == jax.tree.structure(tree)
    for old, new in zip(jax.tree.leaves(tree), jax.tree.leaves(restored), strict=True):
        assert old.dtype == new.dtype
        np.testing.assert_array_equal(np.asarray(old), new)
    assert tree_hash(restored) == tree_hash(tree) != tree_hash(make_tree(8))


def test_names_follow_the_path() -> None:
    assert list(leaves_by_name({"a": Layer(jnp.ones(1), None), "b": [2]})) == [
        "a.kernel",
        "b.0",
    ]


def test_newest_steps_and_those_they_need_survive(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    # The best step is 2, then 4, as seen from the step that is saved.
    for step, best in [(1, 1), (2, 2), (3, 2), (4, 4), (5, 4)]:
        checkpoints.save(step, make_tree(step), keep=(best,))
    assert checkpoints.steps() == [4, 5]
    checkpoints.save(6, make_tree(6), keep=(4,))
    assert checkpoints.steps() == [4, 5, 6]
    folders = {path.name for path in tmp_path.iterdir()}
    assert folders == {"4", "4.json", "5", "5.json", "6", "6.json"}


def test_the_best_of_the_step_before_survives_a_new_best(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    for step, best in [(1, 1), (2, 1), (3, 3)]:
        checkpoints.save(step, make_tree(step), keep=(best,))
    # 2 may be all that is left when 3 turns out to be damaged, and 2 needs 1.
    assert checkpoints.steps() == [1, 2, 3]


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, make_tree(1))
    checkpoints.save(1, make_tree(2))
    restored = checkpoints.restore(1, make_tree(0))
    assert tree_hash(restored) == tree_hash(make_tree(2))


# The first file that Orbax writes is its own; arrays come from C++, which has an error
# of another type.
@pytest.mark.parametrize("largest", [0, 4096])
def test_a_disk_that_takes_no_more_says_so_and_keeps_what_it_has(
    tmp_path: Path, largest: int
) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, make_tree(1))
    large = {"kernel": jax.random.normal(jax.random.key(0), (100, 100))}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Under another number the same as a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            checkpoints.save(2, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert checkpoints.steps() == [1]
    restored = checkpoints.restore(1, make_tree(0))
    assert tree_hash(restored) == tree_hash(make_tree(1))
    checkpoints.save(2, large)
    assert checkpoints.steps() == [1, 2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_tree_that_is_not_finite_is_not_saved(tmp_path: Path, bad, dtype) -> None:
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(NonFiniteError, match=r"step 5: layer\.kernel is not finite"):
        checkpoints.save(5, {"layer": Layer(jnp.array([1, bad], dtype), None)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t | {"step": jnp.asarray(1, jnp.uint32)}, "step .*int32.*uint32"),
        (lambda t: t | {"short": t["short"].astype(jnp.float32)}, "bfloat16.*float32"),
        (lambda t: t | {"flag": jnp.ones(2, bool)}, r"flag .*\(\).*\(2,\)"),
        (lambda t: t | {"more": jnp.ones(1)}, "lacks more"),
        (lambda t: {k: t[k] for k in t if k != "flag"}, "also holds flag"),
    ],
)
def test_another_tree_is_refused(tmp_path: Path, change, message: str) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, make_tree(1))
    with pytest.raises(ValueError, match=message):
        checkpoints.restore(1, change(make_tree(1)))


def _damage(path: Path, how: str, random_source: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if how == "delete":
        path.unlink()
        return
    if how == "truncate":
        del data[len(data) // 2 :]
    elif how == "zero":
        data = bytearray(len(data))
    elif data:
        position = random_source.randrange(len(data))
        data[position] ^= 1 << random_source.randrange(8)
    path.write_bytes(data)


# Orbax leaves an event loop and files open when it fails to read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("how", ["flip", "truncate", "zero", "delete"])
def test_damage_is_never_silent(tmp_path: Path, how: str) -> None:
    pristine, trees = tmp_path / "pristine", {1: make_tree(1), 2: make_tree(2)}
    for step, tree in trees.items():
        Checkpoints(pristine).save(step, tree)
    targets = sorted(p for p in (pristine / "2").rglob("*") if p.is_file())
    targets.append(pristine / "2.json")
    random_source, outcomes = random.Random(0), []
    for trial in range(60 if how == "flip" else len(targets)):
        copy = tmp_path / str(trial)
        shutil.copytree(pristine, copy)
        target = targets[trial % len(targets)].relative_to(pristine)
        _damage(copy / target, how, random_source)
        damaged = []
        checkpoints = Checkpoints(copy, on_damage=lambda s, why, d=damaged: d.append(s))
        found = checkpoints.restore_newest(make_tree(0))
        assert found is not None
        step, tree = found
        assert tree_hash(tree) == tree_hash(trees[step])
        # A deleted manifest means that the step was never committed.
        unmade = how == "delete" and target.name == "2.json"
        assert damaged == ([2] if step == 1 and not unmade else [])
        outcomes.append(step)
        shutil.rmtree(copy)
    # Some files are redundant to Orbax; but not all of them are.
    assert set(outcomes) == {1, 2}
    gc.collect()  # so that what is left open is noticed here, not in another test


def test_nothing_is_restored_where_all_is_damaged(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, make_tree(1))
    (tmp_path / "1.json").write_text("{}")
    assert checkpoints.restore_newest(make_tree(0)) is None
    assert checkpoints.steps() == [1]
    with pytest.raises(DamagedError, match="step 1"):
        checkpoints.restore(1, make_tree(0))


@pytest.mark.parametrize("what", ["manifest", "bytes"])
def test_one_checkpoint_cannot_pass_for_another(tmp_path: Path, what: str) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, make_tree(step))
    if what == "manifest":
        (tmp_path / "2.json").write_bytes((tmp_path / "1.json").read_bytes())
    else:
        # To Orbax this is a checkpoint in best order.
        shutil.rmtree(tmp_path / "2")
        shutil.copytree(tmp_path / "1", tmp_path / "2")
    with pytest.raises(DamagedError, match="another SHA-256"):
        checkpoints.restore(2, make_tree(0))


def test_sweep_removes_later_steps_and_leftovers(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=5)
    for step in (1, 2, 3):
        checkpoints.save(step, make_tree(step))
    (tmp_path / "3.json").unlink()
    (tmp_path / "4.orbax-checkpoint-tmp").mkdir()
    checkpoints.sweep(1)
    assert {path.name for path in tmp_path.iterdir()} == {"1", "1.json"}
