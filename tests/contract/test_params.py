"""Parameters: a pure function of the key, with names and shapes that stay.

After an intended change renew the table with `python -m tests.contract.test_params`.
"""

import json
import pathlib

import jax
import numpy as np

from tests.contract.cases import FACTORIES, make
from tests.helpers import assert_trees_close

TABLE = pathlib.Path(__file__).parents[1] / "goldens" / "params.json"


def _describe(name: str) -> dict[str, str]:
    params = jax.eval_shape(make(name).init, jax.random.key(0))
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }


def test_the_same_key_gives_the_same_params(cell):
    assert_trees_close(cell.init(jax.random.key(3)), cell.init(jax.random.key(3)))


def test_another_key_gives_other_params(cell):
    one, other = cell.init(jax.random.key(3)), cell.init(jax.random.key(4))
    pairs = list(zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
    assert any(np.any(a != b) for a, b in pairs)
    for a, b in pairs:
        # Zeros, a forget bias, an identity; everything else is drawn from the key.
        assert np.unique(a).size <= 2 or np.any(a != b)


def test_the_parameter_tree_stays(name):
    recorded = json.loads(TABLE.read_text())
    assert _describe(name) == recorded.get(name), (
        f"the parameters of {name} are not those recorded in {TABLE.name}, so saved "
        "checkpoints no longer load; if that is intended, renew the table: "
        "python -m tests.contract.test_params"
    )


def test_the_table_holds_nothing_else():
    assert set(json.loads(TABLE.read_text())) == set(FACTORIES)


if __name__ == "__main__":
    table = {name: _describe(name) for name in FACTORIES}
    TABLE.write_text(json.dumps(table, indent=2) + "\n")
