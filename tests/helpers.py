"""Comparison of pytrees, results with all their gradients, and trace counting."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any
Run = Callable[[PyTree, jax.Array, PyTree], tuple[PyTree, PyTree]]
"""`(params, xs, carry) -> (carry, ys)`."""


def assert_trees_close(
    actual: PyTree, expected: PyTree, *, rtol: float = 0.0, atol: float = 0.0
) -> None:
    """Compares two pytrees of one structure, shapes too; exact by default."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(actual),
        jax.tree.leaves(expected),
        strict=True,
    )
    for (path, a), b in pairs:
        name = jax.tree_util.keystr(path)
        assert np.shape(a) == np.shape(b), f"{name}: {np.shape(a)} and {np.shape(b)}"
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=name)


def random_like(tree: PyTree, seed: int, scale: float = 0.5) -> PyTree:
    """Normal draws with the structure, shapes and dtypes of a tree: no zero leaves."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(
            scale * rng.standard_normal(np.shape(leaf)), leaf.dtype
        ),
        tree,
    )


def weighted_sum(tree: PyTree, weights: PyTree) -> jax.Array:
    """Σ w ∘ a over all leaves."""
    terms = jax.tree.map(lambda a, w: jnp.sum(a * w), tree, weights)
    return functools.reduce(jnp.add, jax.tree.leaves(terms))


def value_and_grads(
    run: Run, params: PyTree, xs: jax.Array, carry: PyTree, weights: PyTree
) -> tuple[PyTree, PyTree]:
    """`(carry, ys)` of `run(params, xs, carry)`, and the gradients of its arguments.

    The loss is the sum of the results weighed by `weights`, shaped like `(carry, ys)`,
    so that every entry of both counts with a weight of its own.
    """

    def loss(params: PyTree, xs: jax.Array, carry: PyTree):
        results = run(params, xs, carry)
        return weighted_sum(results, weights), results

    grad = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    (_, results), grads = grad(params, xs, carry)
    return results, grads


@contextlib.contextmanager
def implicit_promotion() -> Iterator[None]:
    """Lifts the suite's strict promotion around a framework that cannot do with it."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def count_traces(fn: Callable[..., Any]) -> tuple[Callable[..., Any], list[int]]:
    """Wraps `fn`, and returns a list that grows by one each time `fn` is traced."""
    traces: list[int] = []

    @functools.wraps(fn)
    def counted(*args: Any, **kwargs: Any) -> Any:
        traces.append(len(traces))
        return fn(*args, **kwargs)

    return counted, traces
