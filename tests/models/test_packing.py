import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.datasets.batching import fill_rows, pack
from seqjax import cells
from seqjax.combinators import bidirectional, stack
from seqjax.models import POOLINGS, Packing, SequenceClassifier, unpack
from tests.helpers import assert_trees_close

LENGTHS = [3, 7, 1, 9, 2, 5, 4]
ROW = 11
RNG = np.random.default_rng(0)
SEQUENCES = [RNG.normal(size=(n, 2)).astype(np.float32) for n in LENGTHS]
CELLS = {
    "gru": cells.gru(2, 4),
    "bidirectional": bidirectional(cells.lstm(2, 3)),
    "stack": stack(bidirectional(cells.gru(2, 3)), bidirectional(cells.elman(6, 2))),
}


def apply(model: SequenceClassifier, *args: Any, **options: Any) -> Any:
    return model.apply(*args, **options)


def packed() -> tuple[jax.Array, Packing]:
    packing = pack(LENGTHS, ROW)
    rows = fill_rows(SEQUENCES, packing)
    assert packing.num_rows < len(LENGTHS)
    return jnp.asarray(rows.values), Packing(
        *map(jnp.asarray, (rows.resets, packing.rows, packing.starts))
    )


def padded() -> jax.Array:
    rows = np.zeros((len(LENGTHS), max(LENGTHS), 2), np.float32)
    for row, sequence in zip(rows, SEQUENCES, strict=True):
        row[: len(sequence)] = sequence
    return jnp.asarray(rows)


def test_unpack_gives_back_the_sequences():
    values, packing = packed()
    got = unpack(values, packing, jnp.asarray(LENGTHS), max(LENGTHS))
    np.testing.assert_array_equal(got, padded())


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        *(("gru", pooling) for pooling in POOLINGS),
        ("bidirectional", "last"),
        ("stack", "mean"),
    ],
)
def test_sequences_that_share_rows_do_not_see_each_other(name, pooling):
    model = SequenceClassifier(CELLS[name], 3, pooling=pooling)
    lengths = jnp.asarray(LENGTHS)
    rows, packing = packed()
    params = model.init(jax.random.key(0), rows, lengths, packing=packing)["params"]

    @functools.partial(jax.jit, static_argnums=2)
    def run(params, xs, is_packed):
        def loss(params):
            _, logits = apply(
                model,
                {"params": params},
                xs,
                lengths,
                packing=packing if is_packed else None,
            )
            return jnp.sum(jnp.sin(logits)), logits

        return jax.grad(loss, has_aux=True)(params)

    alone, together = run(params, padded(), False), run(params, rows, True)
    # float32 sums over a few dozen steps in another order.
    assert_trees_close(together, alone, rtol=1e-4, atol=1e-6)


def test_packed_sequences_need_their_lengths():
    rows, packing = packed()
    model = SequenceClassifier(CELLS["gru"], 3)
    with pytest.raises(ValueError, match="lengths: expected those"):
        model.init(jax.random.key(0), rows, packing=packing)
