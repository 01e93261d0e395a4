"""Exact gradients carried forward in time for element-wise recurrences, and cheaply.

Each param moves one unit of the carry and stays with it: the influence ∂carry/∂params
has the size of the params. The interface is that of `estimators`.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, Key, PyTree
from seqjax.cell import Cell
from seqjax.gradients.backward import check_one_sequence
from seqjax.gradients.estimators import StepLoss


def diagonal_rtrl_gradient(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    targets: PyTree,
    step_loss: StepLoss,
    carry: PyTree | None = None,
) -> PyTree:
    """Carries forward the influence of each param on its own unit: exact, and cheap.

    For element-wise recurrences, in which unit i of every carry part depends on the
    units i of the parts and on no others:  eₜ₊₁ = jₜ ∘ eₜ + bₜ,  in memory params and
    about the time of the forward pass. A param belongs to the unit of its last axis, as
    in kernels `[input, k*hidden]` and biases `[k*hidden]`.

    Whether a cell is of this kind is tried once, while tracing, at random params, carry
    and input: a derivative in a random direction must be the one in the direction of
    ones times that direction.

    Args:
        cell: A cell with a step and an element-wise recurrence.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`.
        targets: Pytree, leaves `[time, ...]`.
        step_loss: `(y, target) -> scalar`.
        carry: As in `bptt_gradient`.

    Returns:
        ∂L/∂params.

    Raises:
        ValueError: If `xs` is not one sequence, or a unit of the carry depends on other
            units or on their params.

    References:
        Mozer (1989), A focused backpropagation algorithm for temporal pattern
        recognition. Zucchet, Meier, Schug, Mujika, Sacramento (2023), Online learning
        of long-range dependencies.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> leak = Cell(
        ...     init=lambda key: jnp.full(2, 0.5),
        ...     initial_carry=lambda params: jnp.zeros(2),
        ...     step=lambda params, carry, x: (params * carry + x,) * 2,
        ... )
        >>> gradient = diagonal_rtrl_gradient(
        ...     leak, jnp.full(2, 0.5), jnp.ones((3, 2)), jnp.asarray([0.0, 0.0, 1.0]),
        ...     lambda y, w: w * y[0]
        ... )
        >>> print(gradient)  # h is 1, 1 + λ, 1 + λ + λ²
        [2. 0.]
    """
    check_one_sequence(cell, xs)
    start = cell.initial_carry(params) if carry is None else carry
    _check_element_wise(cell, xs, start)

    def add(state: tuple, inputs: tuple) -> tuple[tuple, None]:
        carry, influence, total = state
        x, target = inputs

        def loss(params: PyTree, carry: PyTree) -> Array:
            return step_loss(cell.step(params, carry, x)[1], target)

        by_params, by_carry = jax.grad(loss, (0, 1))(params, carry)
        terms = (by_params, _times_units(jax.tree.leaves(by_carry), influence))
        total = jax.tree.map(lambda a, b, c: a + b + c, total, *terms)
        new, own = _own_units(lambda p: cell.step(p, carry, x)[0], params)
        rows = _part_derivatives(lambda c: cell.step(params, c, x)[0], carry)
        influence = [
            jax.tree.map(jnp.add, of_part, _times_units(row, influence))
            for of_part, row in zip(own, rows, strict=True)
        ]
        return (new, influence, total), None

    def begin(params: PyTree) -> PyTree:
        return cell.initial_carry(params) if carry is None else start

    _, influence = _own_units(begin, params)
    zeros = jax.tree.map(jnp.zeros_like, params)
    state, _ = jax.lax.scan(add, (start, influence, zeros), (xs, targets))
    return state[2]


def _own_units(fn: Callable[[PyTree], PyTree], params: PyTree):
    """`fn(params)`, and per part of it the derivative of each param's own unit."""
    carry, pull = jax.vjp(fn, params)
    return carry, [pull(cotangent)[0] for cotangent in _ones_by_part(carry)]


def _part_derivatives(
    fn: Callable[[PyTree], PyTree], carry: PyTree
) -> list[list[Array]]:
    """∂part′/∂part, `[hidden]`, of units with themselves: row later, column earlier."""
    columns = [
        jax.tree.leaves(jax.jvp(fn, (carry,), (tangent,))[1])
        for tangent in _ones_by_part(carry)
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def _ones_by_part(carry: PyTree) -> list[PyTree]:
    """One tree per part, with ones there and zeros elsewhere."""
    leaves, structure = jax.tree.flatten(carry)
    return [
        structure.unflatten(
            jnp.ones_like(leaf) if i == j else jnp.zeros_like(leaf)
            for j, leaf in enumerate(leaves)
        )
        for i in range(len(leaves))
    ]


def _times_units(factors: list[Array], influence: list[PyTree]) -> PyTree:
    """Σ over parts of factor[unit of the param] · influence."""

    def combine(*leaves: Array) -> Array:
        terms = [_spread(f, a) * a for f, a in zip(factors, leaves, strict=True)]
        return functools.reduce(jnp.add, terms)

    return jax.tree.map(combine, *influence)


def _spread(units: Array, leaf: Array) -> Array:
    """The value of each entry's unit; zeros where the last axis does not fit."""
    last = leaf.shape[-1] if leaf.ndim else 1
    blocks, left_over = divmod(last, units.shape[0])
    if left_over:
        return jnp.zeros_like(leaf)
    wide = jnp.broadcast_to(jnp.tile(units, blocks), (*leaf.shape[:-1], last))
    return wide.reshape(leaf.shape)


def _check_element_wise(cell: Cell, xs: PyTree, carry: PyTree) -> None:
    shapes = {leaf.shape for leaf in jax.tree.leaves(carry)}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise ValueError(
            "diagonal_rtrl_gradient: expected carry parts of one shape [hidden], got "
            f"{sorted(map(list, shapes))}; use rtrl_gradient"
        )
    # Concrete under every transformation: nothing here depends on a traced value.
    with jax.ensure_compile_time_eval():
        x = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), xs)
        separate = jax.jit(functools.partial(_separates_units, cell, x))()
    if not bool(separate):
        raise ValueError(
            f"diagonal_rtrl_gradient: expected an element-wise recurrence, got {cell}, "
            "whose units depend on other units or on their params; use snap1_gradient "
            "for an estimate, rtrl_gradient for the exact gradient"
        )


def _separates_units(cell: Cell, x: PyTree) -> Array:
    """Tries J v = v ∘ (J 1) and Bᵀ v = v ∘ (Bᵀ 1) at a random point and v."""
    init_key, params_key, carry_key, x_key, units_key = jax.random.split(
        jax.random.key(0), 5
    )
    # Away from what the cell starts with: an identity kernel is no diagonal one.
    params = cell.init(init_key)
    params = jax.tree.map(jnp.add, params, _normal_like(params_key, params))
    carry = _normal_like(carry_key, cell.initial_carry(params))
    x = _normal_like(x_key, x)
    part = jax.tree.leaves(carry)[0]
    units = jax.random.normal(units_key, part.shape, part.dtype)

    def agree(a: Array, b: Array) -> Array:
        # Other units give differences as large as the values themselves.
        return jnp.allclose(a, b, rtol=1e-2, atol=1e-5)

    _, pull = jax.vjp(lambda p: cell.step(p, carry, x)[0], params)
    _, push = jax.linearize(lambda c: cell.step(params, c, x)[0], carry)
    answers = []
    for ones in _ones_by_part(carry):
        along = jax.tree.map(lambda part: part * units, ones)
        answers += [
            jax.tree.map(lambda a, b: agree(a * units, b), push(ones), push(along)),
            jax.tree.map(
                lambda a, b: agree(_spread(units, a) * a, b), pull(ones), pull(along)
            ),
        ]
    return jnp.all(jnp.stack(jax.tree.leaves(answers)))


def _normal_like(key: Key, tree: PyTree) -> PyTree:
    """Normal draws for what is floating-point, zeros for the rest."""
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(
        jax.random.normal(k, leaf.shape, leaf.dtype)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
        else jnp.zeros(leaf.shape, leaf.dtype)
        for k, leaf in zip(jax.random.split(key, len(leaves)), leaves, strict=True)
    )
