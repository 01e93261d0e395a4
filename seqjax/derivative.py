"""Functions that bring their own reverse rule and leave the rest to JAX.

`jax.custom_vjp` shuts out forward mode, and under `vmap` it sums per-example gradients
only after it has formed them. The two primitives here have neither fault. Applying a
rule is one primitive: `vmap` over shared parameters folds the new axis into the batch
that the function already has. Its derivative is a second one, linear in the tangents:
forward mode and higher derivatives run plain autodiff of the function, and only
transposing it calls the rule.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from seqjax.array_types import Array, PyTree
from seqjax.mesh import vary_alike


@runtime_checkable
class Rule(Protocol):
    """A function of a pytree of arrays, with its reverse rule; hashable by value."""

    def forward(self, operands: Any) -> PyTree:
        """The function."""
        ...

    def keep(self, operands: Any) -> tuple[PyTree, PyTree]:
        """The function, and what `backward` needs beside its operands."""
        ...

    def backward(
        self, operands: Any, kept: PyTree, cotangents: PyTree, wanted: PyTree
    ) -> PyTree:
        """Cotangents of the operands that are `wanted`, bools in their structure.

        Any array may stand in the place of the others.
        """
        ...

    def fold(
        self, operands: Any, mapped: PyTree, size: int
    ) -> tuple[PyTree, Callable[[PyTree], PyTree]] | None:
        """Moves a leading mapped axis into the function's own batch.

        Args:
            operands: Leaves that are `mapped` have a leading axis of `size`.
            mapped: Bools, in the structure of `operands`.
            size: Length of the new axis.

        Returns:
            The operands to call the function on and what gives the outputs their
            leading axis back; None if the axis does not fold.
        """
        ...


def apply_rule(rule: Rule, operands: PyTree) -> PyTree:
    """Computes `rule.forward(operands)`, differentiated by `rule.backward`.

    Args:
        rule: The function and its reverse rule.
        operands: Pytree of arrays.

    Returns:
        The outputs, all of floating point.

    Example:
        >>> import dataclasses, jax
        >>> @dataclasses.dataclass(frozen=True)
        ... class Square:
        ...     def forward(self, x): return x * x
        ...     def keep(self, x): return x * x, ()
        ...     def backward(self, x, kept, g, wanted): return 2 * x * g
        ...     def fold(self, x, mapped, size): return None
        >>> square = lambda x: apply_rule(Square(), x)
        >>> x = jax.numpy.float32(3)
        >>> print(jax.grad(square)(x), jax.jvp(square, (x,), (x,))[1])
        6.0 18.0
    """
    operands = vary_alike(operands)
    leaves, tree = jax.tree.flatten(operands)
    jaxpr, shapes = jax.make_jaxpr(rule.forward, return_shape=True)(operands)
    outputs = _apply.bind(*leaves, rule=rule, tree=tree, jaxpr=jaxpr)
    return jax.tree.unflatten(jax.tree.structure(shapes), outputs)


def _apply_plainly(*leaves: Any, jaxpr: ClosedJaxpr, **_: Any) -> list[Array]:
    return jaxpr_as_fun(jaxpr)(*leaves)


def _apply_jvp(
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    rule: Rule,
    tree: Any,
    jaxpr: ClosedJaxpr,
) -> tuple[list[Array], list[Array]]:
    outputs, kept = rule.keep(jax.tree.unflatten(tree, primals))
    kept, kept_tree = jax.tree.flatten(kept)
    tangents_out = _derivative.bind(
        *primals,
        *kept,
        *(t for t in tangents if type(t) is not ad.Zero),
        rule=rule,
        tree=tree,
        jaxpr=jaxpr,
        kept_tree=kept_tree,
        moving=tuple(type(t) is not ad.Zero for t in tangents),
    )
    return jax.tree.leaves(outputs), tangents_out


def _apply_batch(
    leaves: Sequence[Any],
    axes: Sequence[int | None],
    *,
    rule: Rule,
    tree: Any,
    jaxpr: ClosedJaxpr,
) -> tuple[list[Array], list[int]]:
    del jaxpr
    mapped = tuple(axis is not None for axis in axes)
    leaves = [
        leaf if axis is None else jnp.moveaxis(leaf, axis, 0)
        for leaf, axis in zip(leaves, axes, strict=True)
    ]
    size = leaves[mapped.index(True)].shape[0]
    operands = jax.tree.unflatten(tree, leaves)
    folded = rule.fold(operands, jax.tree.unflatten(tree, mapped), size)
    if folded is None:
        outputs = apply_rule(_Mapped(rule, mapped), operands)
    else:
        operands, unfold = folded
        outputs = unfold(apply_rule(rule, operands))
    outputs = jax.tree.leaves(outputs)
    return outputs, [0] * len(outputs)


@dataclasses.dataclass(frozen=True)
class _Mapped:
    """A rule under `vmap` over the leaves that are `mapped`, parameters among them."""

    rule: Rule
    mapped: tuple[bool, ...]

    def _map(self, fn: Callable[..., PyTree], operands: PyTree, *rest: PyTree):
        leaves, tree = jax.tree.flatten(operands)
        axes = [0 if mapped else None for mapped in self.mapped]
        return jax.vmap(
            lambda leaves, rest: fn(jax.tree.unflatten(tree, leaves), *rest),
            in_axes=(axes, 0),
        )(leaves, rest)

    def forward(self, operands: PyTree) -> PyTree:
        return self._map(self.rule.forward, operands)

    def keep(self, operands: PyTree) -> tuple[PyTree, PyTree]:
        return self._map(self.rule.keep, operands)

    def backward(
        self, operands: PyTree, kept: PyTree, cotangents: PyTree, wanted: PyTree
    ) -> PyTree:
        def backward(operands: PyTree, kept: PyTree, cotangents: PyTree) -> PyTree:
            return self.rule.backward(operands, kept, cotangents, wanted)

        leaves, tree = jax.tree.flatten(self._map(backward, operands, kept, cotangents))
        return jax.tree.unflatten(
            tree,
            [
                leaf if mapped else jnp.sum(leaf, 0)
                for leaf, mapped in zip(leaves, self.mapped, strict=True)
            ],
        )

    def fold(self, operands: PyTree, mapped: PyTree, size: int) -> None:
        del operands, mapped, size


def _derivative_plainly(
    *args: Any, jaxpr: ClosedJaxpr, moving: tuple[bool, ...], **_: Any
) -> list[Array]:
    """The directional derivative of the function by plain autodiff."""
    primals, tangents = args[: len(moving)], args[-sum(moving) :]

    def fn(*moved: Any) -> list[Array]:
        moved_leaves = iter(moved)
        leaves = [
            next(moved_leaves) if moves else leaf
            for leaf, moves in zip(primals, moving, strict=True)
        ]
        return jaxpr_as_fun(jaxpr)(*leaves)

    moved = [leaf for leaf, moves in zip(primals, moving, strict=True) if moves]
    return jax.jvp(fn, moved, list(tangents))[1]


def _derivative_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], **params: Any
) -> tuple[list[Array], list[Array]]:
    count = len(params["moving"])
    num_kept = params["kept_tree"].num_leaves
    # What was kept is a function of the operands, whose tangents say all.
    own = [
        type(t) is not ad.Zero and not count <= i < count + num_kept
        for i, t in enumerate(tangents)
    ]

    def fn(*moved: Any) -> list[Array]:
        moved_leaves = iter(moved)
        args = [
            next(moved_leaves) if moves else leaf
            for leaf, moves in zip(primals, own, strict=True)
        ]
        return _derivative_plainly(*args, **params)

    return jax.jvp(
        fn,
        [leaf for leaf, moves in zip(primals, own, strict=True) if moves],
        [tangent for tangent, moves in zip(tangents, own, strict=True) if moves],
    )


def _derivative_transpose(
    cotangents: Sequence[Any],
    *args: Any,
    rule: Rule,
    tree: Any,
    jaxpr: ClosedJaxpr,
    kept_tree: Any,
    moving: tuple[bool, ...],
) -> list[Any]:
    shapes = jax.tree.structure(
        jax.eval_shape(rule.forward, jax.tree.unflatten(tree, jaxpr.in_avals))
    )
    primals = args[: len(moving)]
    kept = args[len(moving) : len(moving) + kept_tree.num_leaves]
    gradients = rule.backward(
        jax.tree.unflatten(tree, primals),
        jax.tree.unflatten(kept_tree, kept),
        jax.tree.unflatten(shapes, [ad.instantiate_zeros(c) for c in cotangents]),
        jax.tree.unflatten(tree, moving),
    )
    return [None] * (len(primals) + len(kept)) + [
        gradient
        for gradient, moves in zip(jax.tree.leaves(gradients), moving, strict=True)
        if moves
    ]


def _derivative_batch(
    args: Sequence[Any], axes: Sequence[int | None], **params: Any
) -> tuple[list[Array], list[int]]:
    outputs = jax.vmap(lambda args: _derivative_plainly(*args, **params), (axes,))(args)
    return outputs, [0] * len(outputs)


def _primitive(name: str, plainly: Callable[..., list[Array]]) -> Primitive:
    primitive = Primitive(name)
    primitive.multiple_results = True
    primitive.def_impl(plainly)
    primitive.def_abstract_eval(lambda *_, jaxpr, **__: jaxpr.out_avals)
    mlir.register_lowering(primitive, mlir.lower_fun(plainly, multiple_results=True))
    return primitive


_apply = _primitive("apply_rule", _apply_plainly)
ad.primitive_jvps[_apply] = _apply_jvp
batching.primitive_batchers[_apply] = _apply_batch

_derivative = _primitive("derivative_of_rule", _derivative_plainly)
ad.primitive_jvps[_derivative] = _derivative_jvp
ad.primitive_transposes[_derivative] = _derivative_transpose
batching.primitive_batchers[_derivative] = _derivative_batch
