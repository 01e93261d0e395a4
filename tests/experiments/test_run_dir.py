"""Run directories: one writer, one identity, and a record of how the run ended."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.common import environment
from experiments.common.launch import Exit, format_value, parse
from experiments.runs import run_dir
from experiments.runs.options import Options

ENVIRONMENT = {"versions": {"jax": "0"}, "git": {"revision": None}, "devices": ["cpu"]}


def make_options(path: Path, *arguments: str) -> Options:
    return parse([f"--run_dir={path}", *arguments], Options)


def make_run(path: Path, *arguments: str, status: str = "stopped") -> None:
    with run_dir.open_run(make_options(path, *arguments), ENVIRONMENT) as run:
        run.finish(status)


def record(path: Path) -> dict:
    return json.loads((path / "run.json").read_text())


def events(path: Path) -> list[str]:
    lines = (path / "events.jsonl").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


def test_a_new_run_leaves_flags_and_record(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    options = make_options(path, "--seed=3", "--cell=gru")
    with run_dir.open_run(options, ENVIRONMENT) as run:
        assert not run.resumed
        assert record(path)["status"] == "incomplete"
        run.finish("done", result={"metric": float("nan")})
    assert run_dir.read_options(path) == options
    kept = record(path)
    assert kept["status"] == "done"
    assert kept["seed"] == 3
    assert kept["result"] == {"metric": None}
    assert kept["devices"] == ["cpu"]
    assert kept["argv"] == sys.argv
    assert [attempt["status"] for attempt in kept["attempts"]] == ["done"]
    assert events(path) == ["start", "done"]


@pytest.mark.parametrize("error", [RuntimeError("words"), OSError("words")])
def test_an_exception_keeps_its_words_and_leaves_the_status_failed(
    tmp_path: Path, error: Exception
) -> None:
    with (
        pytest.raises(type(error), match=r"^words$"),
        run_dir.open_run(make_options(tmp_path / "a"), ENVIRONMENT),
    ):
        raise error
    assert record(tmp_path / "a")["status"] == "failed"


def test_resuming_adds_an_attempt_and_records_what_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a"
    make_run(path)
    changed = make_options(path, "--save_every=7", "--num_steps=5000")
    with run_dir.open_run(changed, ENVIRONMENT | {"devices": ["gpu"]}) as run:
        assert run.resumed
        run.finish("done")
    attempts = record(path)["attempts"]
    assert [attempt["status"] for attempt in attempts] == ["stopped", "done"]
    assert attempts[1]["changed"] == {
        "--save_every": [500, 7],
        "--num_steps": [3000, 5000],
        "devices": [["cpu"], ["gpu"]],
    }
    assert "devices changed" in capsys.readouterr().err
    assert run_dir.read_options(path) == changed
    assert events(path) == ["start", "stopped", "resume", "done"]


@pytest.mark.parametrize(
    "field",
    [f for f in dataclasses.fields(Options) if not f.metadata["flag"].operational],
    ids=lambda field: field.name,
)
def test_another_identity_is_refused_with_both_values(
    tmp_path: Path, field: dataclasses.Field
) -> None:
    path = tmp_path / "a"
    make_run(path)
    old = make_options(path)
    value = _another(field)
    new = dataclasses.replace(old, **{field.name: value})
    with pytest.raises(Exit) as caught:
        run_dir.inspect(new)
    assert caught.value.code == 2
    assert f"--{field.name}={format_value(value)}:" in str(caught.value)
    assert f"--{field.name}={format_value(field.default)};" in str(caught.value)


def _another(field: dataclasses.Field) -> object:
    spec = field.metadata["flag"]
    if spec.choices:
        return next(choice for choice in spec.choices if choice != field.default)
    if field.type is bool:
        return not field.default
    return spec.low if spec.high == field.default else spec.high


def test_num_steps_is_identity_under_a_cosine_only(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    run_dir.inspect(make_options(tmp_path / "a", "--num_steps=9"))
    make_run(tmp_path / "b", "--schedule=cosine")
    with pytest.raises(Exit, match=r"--num_steps=9: .* --num_steps=3000"):
        run_dir.inspect(
            make_options(tmp_path / "b", "--num_steps=9", "--schedule=cosine")
        )


def test_a_done_run_is_refused_until_it_is_made_longer(tmp_path: Path) -> None:
    path = tmp_path / "a"
    make_run(path, status="done")
    with pytest.raises(Exit, match="is done") as caught:
        run_dir.inspect(make_options(path))
    assert caught.value.code == 5
    run_dir.inspect(make_options(path, "--num_steps=3001"))


@pytest.mark.parametrize("status", ["incomplete", "stopped", "failed", "diverged"])
def test_any_other_run_goes_on(tmp_path: Path, status: str) -> None:
    make_run(tmp_path / "a", status=status)
    run_dir.inspect(make_options(tmp_path / "a"))


def test_resume_never_and_must(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(Exit, match="--resume=must") as caught:
        run_dir.inspect(make_options(path, "--resume=must"))
    assert caught.value.code == 4
    path.mkdir()
    with pytest.raises(Exit, match="--resume=must") as caught:
        run_dir.inspect(make_options(path, "--resume=must"))
    assert caught.value.code == 4
    make_run(path, "--resume=never")
    run_dir.inspect(make_options(path, "--resume=must"))
    with pytest.raises(Exit, match="--resume=never") as caught:
        run_dir.inspect(make_options(path, "--resume=never"))
    assert caught.value.code == 2


def test_a_locked_run_is_refused_and_names_the_holder(tmp_path: Path) -> None:
    options = make_options(tmp_path / "a")
    code = (
        "import sys\n"
        "from experiments.runs import run_dir\n"
        "from experiments.common.launch import parse\n"
        "from experiments.runs.options import Options\n"
        f"options = parse(['--run_dir={options.run_dir}'], Options)\n"
        "with run_dir.open_run(options, {}) as run:\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(Exit, match=f"locked by process {holder.pid} on") as caught,
            run_dir.open_run(options, ENVIRONMENT),
        ):
            pass
        assert caught.value.code == 5
        holder.kill()
    # The lock dies with its holder, however it ended.
    with run_dir.open_run(options, ENVIRONMENT) as run:
        assert run.resumed


def test_a_start_that_was_killed_before_flags_is_a_new_run(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".flags.txt.new").write_text("--se")
    with run_dir.open_run(make_options(tmp_path), ENVIRONMENT) as run:
        assert not run.resumed


def test_a_start_that_was_killed_before_the_record_goes_on(tmp_path: Path) -> None:
    make_run(tmp_path)
    (tmp_path / "run.json").unlink()
    with run_dir.open_run(make_options(tmp_path), ENVIRONMENT) as run:
        assert run.resumed


def test_the_environment_names_versions_devices_and_cores() -> None:
    described = environment.describe()
    assert {"jax", "jaxlib", "flax", "optax", "python"} <= set(described["versions"])
    assert described["devices"]
    assert all(isinstance(core, int) for core in described["visible_cores"])
    assert set(described["git"]) == {"revision", "dirty"}
    json.dumps(described, allow_nan=False)
