"""The architecture: who may import whom, and what the library may not touch."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A module imports only from floors below its own; within a floor, without circles.
FLOORS = (
    (
        "array_types",
        "checks",
        "chunks",
        "derivative",
        "initializers",
        "made",
        "mesh",
        "tree",
    ),
    ("cell", "ctc", "tasks", "loss_sums", "losses"),
    (
        "cells",
        "stepping",
        "affine_chunk",
        "affine_scan",
        "running",
        "unroll",
        "combinators",
        "parallel",
    ),
    ("compression", "decoding", "gradients", "models", "streaming"),
    ("training",),
)
# Floors are shared by modules that do not know each other, but for these.
SAME_FLOOR = {
    ("checks", "initializers"),
    ("array_types", "initializers"),
    ("array_types", "tree"),
    ("array_types", "chunks"),
    ("array_types", "derivative"),
    ("array_types", "mesh"),
    ("mesh", "derivative"),
    ("ctc", "loss_sums"),
    ("loss_sums", "losses"),
    ("stepping", "affine_chunk"),
    ("stepping", "affine_scan"),
    ("affine_chunk", "affine_scan"),
    ("stepping", "running"),
    ("affine_scan", "running"),
    ("stepping", "unroll"),
    ("running", "unroll"),
    ("running", "combinators"),
    ("unroll", "combinators"),
    ("unroll", "parallel"),
}
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
FORBIDDEN_IN_LIBRARY = {"absl", "time", "os", "matplotlib", "orbax", "rich", "logging"}
OPTAX_FLOOR = {"ctc", "training"}


def _modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names if node.module == "seqjax" else {str(node.module)}
    return found


def _room(path: Path) -> str:
    return path.relative_to(ROOT / "seqjax").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", _modules("seqjax"), ids=str)
def test_library_imports_point_down(path):
    room = _room(path)
    if room == "__init__":
        return
    for name in _imports(path):
        top, _, rest = name.partition(".")
        assert top not in FORBIDDEN_IN_LIBRARY, f"{path} imports {name}"
        assert top != "experiments", f"{path} imports {name}"
        assert top != "optax" or room in OPTAX_FLOOR, f"{path} imports optax"
        if top != "seqjax":
            continue
        other = rest.partition(".")[0]
        assert other in FLOOR_OF, f"{path} imports the facade or an unknown {name}"
        below = FLOOR_OF[other] < FLOOR_OF[room]
        assert below or other == room or (other, room) in SAME_FLOOR, (
            f"{path} imports {name}, which is not below it"
        )


@pytest.mark.parametrize("path", _modules("seqjax"), ids=str)
def test_library_does_not_assert_print_or_read_files(path):
    tree = ast.parse(path.read_text())
    calls = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"print", "open", "eval", "exec", "input"}
    assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree))


@pytest.mark.parametrize("path", _modules("experiments"), ids=str)
def test_nothing_unpickles_or_runs_a_shell(path):
    text = path.read_text()
    assert not _imports(path) & {"pickle", "dill", "marshal", "shelve"}
    assert "shell=True" not in text
    assert "allow_pickle=True" not in text
    assert ".extractall(" not in text


LAUNCHERS = {
    path.stem
    for path in (ROOT / "experiments").glob("*.py")
    if '\nif __name__ == "__main__":' in path.read_text()
}


@pytest.mark.parametrize("path", _modules("experiments"), ids=str)
def test_launchers_do_not_import_each_other(path):
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "experiments" and len(parts) > 1 and path.stem in LAUNCHERS:
            assert parts[1] not in LAUNCHERS - {path.stem}, f"{path} imports {name}"


@pytest.mark.parametrize("package", ["seqjax", "experiments"])
def test_functions_are_short(package):
    for path in _modules(package):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                assert length <= 80, f"{path}: {node.name} has {length} lines"
