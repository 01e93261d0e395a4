"""A run's model without its data: the parameters that were saved, and no others."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import train
from experiments.common.launch import BAD_FLAG, NO_CHECKPOINT, Exit
from experiments.runs.checkpoints import leaves_by_name
from experiments.runs.factories import build_source
from experiments.runs.served import Served, load_model
from tests.experiments.small_runs import leaf_hashes, options_of, rows


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that went through without a break."""
    path = tmp_path_factory.mktemp("served") / "run"
    train.main(options_of(path, "--gradient_every=0", "--optimizer=momentum"))
    return path


def hashes(served: Served) -> dict[str, str]:
    """SHA-256 of every parameter, as a manifest names it."""
    return {
        f"state.params.{name}": hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest()
        for name, leaf in leaves_by_name(served.params).items()
    }


@pytest.mark.parametrize("checkpoint", ["latest", "best", "10"])
def test_the_parameters_are_those_of_the_checkpoint(
    finished: Path, checkpoint: str
) -> None:
    found = load_model(finished, checkpoint)
    valid = [row for row in rows(finished) if row["split"] == "valid"]
    best = min(valid, key=lambda row: row["mean_squared_error"])["step"]
    assert found.step == {"latest": 12, "best": best, "10": 10}[checkpoint]
    saved = leaf_hashes(finished, found.step)
    assert hashes(found).items() <= saved.items()
    assert len(hashes(found)) == sum(name.startswith("state.params") for name in saved)


def test_the_model_answers_as_it_did_in_the_run(finished: Path) -> None:
    found = load_model(finished, "best")
    source = build_source(found.options, found.options.seed)
    errors = []
    for raw, count in source.eval_batches("test", found.options.eval_size):
        batch = source.expand(raw)
        outputs: Any = found.model.apply({"params": found.params}, batch.inputs)[1]
        errors += np.square(outputs - batch.targets)[:count].ravel().tolist()
    measured = [row for row in rows(finished) if row["split"] == "test"]
    # Means in another order.
    expected = measured[0]["mean_squared_error"]
    np.testing.assert_allclose(np.mean(errors), expected, rtol=1e-5)


def test_what_is_missing_or_damaged_is_one_line(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(Exit, match="holds no run") as caught:
        load_model(tmp_path / "nowhere", "best")
    assert caught.value.code == BAD_FLAG
    with pytest.raises(
        Exit, match=r"no checkpoint of step 7 .* 5, 8, 10, 12"
    ) as caught:
        load_model(finished, "7")
    assert caught.value.code == NO_CHECKPOINT
    copy = shutil.copytree(finished, tmp_path / "copy")
    for text, words in (("{", "damaged"), ('{"a": 1}', "damaged"), (None, "train the")):
        (copy / "task.json").unlink()
        if text is not None:
            (copy / "task.json").write_text(text)
        with pytest.raises(Exit, match=words) as caught:
            load_model(copy, "best")
        assert caught.value.code == BAD_FLAG
        assert "\n" not in str(caught.value)
        (copy / "task.json").touch()


def test_a_checkpoint_of_another_model_is_refused(
    finished: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(finished, tmp_path / "copy")
    flags = (copy / "flags.txt").read_text()
    (copy / "flags.txt").write_text(f"{flags}--hidden_size=5\n")
    with pytest.raises(Exit, match="expected") as caught:
        load_model(copy, "latest")
    assert caught.value.code == NO_CHECKPOINT
