"""Gradients carried forward in time: whole, on a sparse pattern, or at random.

What is carried is the influence Eₜ = ∂carryₜ/∂params, whole or in part:
Eₜ₊₁ = Jₜ Eₜ + Bₜ with Jₜ = ∂carryₜ₊₁/∂carryₜ and Bₜ the derivative of carryₜ₊₁ by the
params as step t itself uses them. No state of the past is kept. The interface is that
of `estimators`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from seqjax.array_types import Array, Key, PyTree
from seqjax.cell import Cell
from seqjax.gradients.backward import check_one_sequence
from seqjax.gradients.estimators import StepLoss
from seqjax.tree import norm

_EPSILON = 1e-20
"""Keeps the scales of a rank-one influence finite where a norm is 0."""


def rtrl_gradient(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    targets: PyTree,
    step_loss: StepLoss,
    carry: PyTree | None = None,
) -> PyTree:
    """Carries the whole influence matrix forward: exact, and online.

    Eₜ₊₁ = Jₜ Eₜ + Bₜ,  ∂L/∂params = Σₜ ∂Lₜ/∂params|carryₜ + (∂Lₜ/∂carryₜ) Eₜ

    Memory carry · params, and carry² · params operations per step, whatever the
    number of steps.

    Args:
        cell: A cell with a step.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`.
        targets: Pytree, leaves `[time, ...]`.
        step_loss: `(y, target) -> scalar`.
        carry: As in `bptt_gradient`.

    Returns:
        ∂L/∂params.

    Raises:
        ValueError: If `xs` is not one sequence.

    References:
        Williams, Zipser (1989), A learning algorithm for continually running fully
        recurrent neural networks.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> from seqjax.gradients.estimators import bptt_gradient
        >>> cell = cells.gru(1, 2)
        >>> case = cell, cell.init(jax.random.key(0)), jnp.ones((5, 1)), jnp.zeros(5)
        >>> loss = lambda y, target: jnp.sum(jnp.square(y - target))
        >>> exact, online = bptt_gradient(*case, loss), rtrl_gradient(*case, loss)
        >>> bool(jnp.allclose(exact.kernel, online.kernel, atol=1e-6))
        True
    """

    def whole(kept: Array, influence: Array, own: Array) -> tuple[Array, Array]:
        return kept, influence

    return _dense_influence(cell, params, xs, targets, step_loss, carry, whole)


def snap1_gradient(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    targets: PyTree,
    step_loss: StepLoss,
    carry: PyTree | None = None,
) -> PyTree:
    """Carries forward the influence of each param on what it moves within one step.

    Eₜ₊₁ = M ∘ (Jₜ Eₜ + Bₜ),  M = 1 where Bₛ ≠ 0 for an s ≤ t, else 0

    Exact where every entry of the carry depends on itself alone, of the last carry.
    M is read off the values met so far. This shows the bias of the method and not its
    speed: the matrices are dense here, as in `rtrl_gradient`.

    Args:
        cell: A cell with a step.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`.
        targets: Pytree, leaves `[time, ...]`.
        step_loss: `(y, target) -> scalar`.
        carry: As in `bptt_gradient`.

    Returns:
        Tree like `params`.

    Raises:
        ValueError: If `xs` is not one sequence.

    References:
        Menick, Elsen, Evci, Osindero, Simonyan, Graves (2021), A practical sparse
        approximation for real time recurrent learning.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.gru(1, 2)
        >>> case = cell, cell.init(jax.random.key(0)), jnp.ones((5, 1)), jnp.zeros(5)
        >>> gradient = snap1_gradient(*case, lambda y, target: jnp.sum(y) - target)
        >>> gradient.kernel.shape
        (1, 6)
    """

    def within_one_step(kept: Array, influence: Array, own: Array):
        kept = kept | (own != 0)
        return kept, jnp.where(kept, influence, 0)

    return _dense_influence(
        cell, params, xs, targets, step_loss, carry, within_one_step
    )


class _RankOne(NamedTuple):
    """The influence  carry ⊗ params."""

    carry: Array
    params: Array


def uoro_gradient(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    targets: PyTree,
    step_loss: StepLoss,
    carry: PyTree | None = None,
    *,
    key: Key,
) -> PyTree:
    """Carries forward a random influence of rank one, right on average.

    s′ = ρ₀ J s + ρ₁ ν,  w′ = w/ρ₀ + (νᵀ B)/ρ₁,  ν = ±1,  E[s ⊗ w] = ∂carry/∂params,
    ρ₀ = √(‖w‖/‖J s‖),  ρ₁ = √(‖νᵀ B‖/‖ν‖)

    Unbiased; costs one derivative forward and two backward per step, in memory
    carry + params. The variance grows with the carry and with the memory of the cell.

    Args:
        cell: A cell with a step.
        params: Parameters of `cell`.
        xs: Inputs of one sequence, `[time, input]`.
        targets: Pytree, leaves `[time, ...]`.
        step_loss: `(y, target) -> scalar`.
        carry: As in `bptt_gradient`.
        key: For the signs ν; average over keys with `jax.vmap`.

    Returns:
        Tree like `params`, of expectation ∂L/∂params.

    Raises:
        ValueError: If `xs` is not one sequence.

    References:
        Tallec, Ollivier (2018), Unbiased online recurrent optimization.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from seqjax import cells
        >>> cell = cells.gru(1, 2)
        >>> case = cell, cell.init(jax.random.key(0)), jnp.ones((5, 1)), jnp.zeros(5)
        >>> gradient = uoro_gradient(
        ...     *case, lambda y, target: jnp.sum(y) - target, key=jax.random.key(1)
        ... )
        >>> gradient.kernel.shape
        (1, 6)
    """
    num_steps = check_one_sequence(cell, xs)
    flat = _Flat(cell, params, carry, step_loss)
    carry_key, step_key = jax.random.split(key)

    def sample(key: Key, like: Array) -> Array:
        return jax.random.rademacher(key, like.shape, like.dtype)

    def add(state: tuple, inputs: tuple) -> tuple[tuple, None]:
        carry, influence, total = state
        x, target, key = inputs
        by_params, by_carry = flat.loss_gradients(carry, x, target)
        total = (
            total + by_params + jnp.vdot(by_carry, influence.carry) * influence.params
        )
        new, pushed = jax.jvp(
            lambda carry: flat.step(flat.params, carry, x),
            (carry,),
            (influence.carry,),
        )
        signs = sample(key, carry)
        _, pull = jax.vjp(lambda params: flat.step(params, carry, x), flat.params)
        influence = _mix(_RankOne(pushed, influence.params), signs, *pull(signs))
        return (new, influence, total), None

    start, pull = jax.vjp(flat.initial_carry, flat.params)
    signs = sample(carry_key, start)
    zeros = jnp.zeros_like(flat.params)
    influence = _mix(_RankOne(jnp.zeros_like(start), zeros), signs, *pull(signs))
    keys = jax.random.split(step_key, num_steps)
    state, _ = jax.lax.scan(add, (start, influence, zeros), (xs, targets, keys))
    return flat.unravel(state[2])


def _mix(old: _RankOne, signs: Array, own: Array) -> _RankOne:
    """One term of rank one for two, with the scales of least variance."""
    keep = _balance(old.params, old.carry)
    take = _balance(own, signs)
    return _RankOne(keep * old.carry + take * signs, old.params / keep + own / take)


def _balance(a: Array, b: Array) -> Array:
    ratio = (norm(a) + _EPSILON) / (norm(b) + _EPSILON)
    return jnp.sqrt(ratio).astype(a.dtype)


class _Flat:
    """A cell and a loss as functions of vectors."""

    def __init__(
        self, cell: Cell, params: PyTree, carry: PyTree | None, step_loss: StepLoss
    ) -> None:
        self.cell, self.given, self.step_loss = cell, carry, step_loss
        self.params, self.unravel = ravel_pytree(params)
        like = cell.initial_carry(params) if carry is None else carry
        _, self.unravel_carry = ravel_pytree(like)

    def initial_carry(self, params: Array) -> Array:
        carry = self.given
        if carry is None:
            carry = self.cell.initial_carry(self.unravel(params))
        return ravel_pytree(carry)[0]

    def step(self, params: Array, carry: Array, x: PyTree) -> Array:
        new, _ = self.cell.step(self.unravel(params), self.unravel_carry(carry), x)
        return ravel_pytree(new)[0]

    def loss_gradients(
        self, carry: Array, x: PyTree, target: PyTree
    ) -> tuple[Array, Array]:
        """Of the loss of one step, by params and by the carry that enters it."""

        def loss(params: Array, carry: Array) -> Array:
            carry = self.unravel_carry(carry)
            _, y = self.cell.step(self.unravel(params), carry, x)
            return self.step_loss(y, target)

        return jax.grad(loss, (0, 1))(self.params, carry)


def _dense_influence(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    targets: PyTree,
    step_loss: StepLoss,
    carry: PyTree | None,
    keep: Callable[[Array, Array, Array], tuple[Array, Array]],
) -> PyTree:
    """Forward mode with `keep(kept, influence, own) -> (kept, influence)`."""
    check_one_sequence(cell, xs)
    flat = _Flat(cell, params, carry, step_loss)
    start = flat.initial_carry(flat.params)
    own = jax.jacrev(flat.initial_carry)(flat.params)
    kept, influence = keep(jnp.zeros(own.shape, bool), own, own)

    def add(state: tuple, inputs: tuple) -> tuple[tuple, None]:
        carry, influence, kept, total = state
        x, target = inputs
        by_params, by_carry = flat.loss_gradients(carry, x, target)
        total = total + by_params + by_carry @ influence
        own, jacobian = jax.jacrev(flat.step, (0, 1))(flat.params, carry, x)
        kept, influence = keep(kept, jacobian @ influence + own, own)
        return (flat.step(flat.params, carry, x), influence, kept, total), None

    state = (start, influence, kept, jnp.zeros_like(flat.params))
    state, _ = jax.lax.scan(add, state, (xs, targets))
    return flat.unravel(state[3])
