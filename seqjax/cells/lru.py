"""The linear recurrent unit: a diagonal complex recurrence between two products."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, DType, Key
from seqjax.cell import Affine, AffineParams, Cell
from seqjax.cells.elman import resolve_activation
from seqjax.checks import check_finite, check_positive
from seqjax.made import factory
from seqjax.tree import norm_dtype


class LRUParams(NamedTuple):
    """Parameters; of complex numbers first all real, then all imaginary parts.

    Attributes:
        nu_log: log of −ln |λ|, `[state]`.
        theta_log: log of the angle of λ, radians, `[state]`.
        gamma_log: log of the scale γ of what enters, `[state]`.
        kernel: B, `[input, 2*state]`.
        output_kernel: Re C above −Im C, `[2*state, hidden]`.
        skip_kernel: D, `[input, hidden]`.
    """

    nu_log: Array
    theta_log: Array
    gamma_log: Array
    kernel: Array
    output_kernel: Array
    skip_kernel: Array


class LRUCarry(NamedTuple):
    """Carry: s, `[2*state]`, its real parts and then its imaginary ones."""

    state: Array


@factory
def lru(
    input_size: int,
    hidden_size: int,
    *,
    state_size: int | None = None,
    min_radius: float = 0.0,
    max_radius: float = 1.0,
    max_phase: float = 2 * math.pi,
    output_activation: str | Callable[[Array], Array] = "identity",
    dtype: DType = jnp.float32,
) -> Cell[LRUParams, LRUCarry]:
    """Builds a linear recurrent unit.

    λ = exp(−exp ν + i exp θ)
    s′ = λ ∘ s + γ ∘ (x B),  y = φ(Re(s′ C) + x D)

    Every entry of s is a rotation that shrinks: a gradient with respect to it decays as
    |λ|ᵗ exactly, for any input, and |λ| < 1 whatever ν is. All is linear up to φ, so
    that layers on top of each other need a φ, or something else, between them. The
    authors put a GELU, a gate and a sum with the input there, and their D is a vector,
    as x and y are of one size. They train ν, θ and γ at a fraction of the
    learning rate of the rest.

    Real arithmetic throughout: no carry, parameter or gradient is complex. s′ C is
    taken as (λ ∘ s) C + (γ ∘ x B) C, whose products know no s′; that makes the cell an
    affine one. In half precision λ itself is computed in float32.

    Args:
        input_size: Features of x.
        hidden_size: Features of y.
        state_size: Complex entries of s; hidden_size if None.
        min_radius: Smallest |λ| to start from, in [0, max_radius).
        max_radius: Largest |λ| to start from, at most 1. |λ|² starts uniform between.
        max_phase: Angles of λ start uniform on (0, max_phase), radians.
        output_activation: φ, a name in `seqjax.cells.elman.ACTIVATIONS` or a function.
        dtype: Of params and carry.

    Returns:
        A cell with x `[input]`, carry `LRUCarry(state)`, y `[hidden]`.

    Raises:
        ValueError: On a size below 1, radii or a phase out of range, an unknown name.

    References:
        Orvieto, Smith, Gu, Fernando, Gulcehre, Pascanu, De (2023), Resurrecting
        recurrent neural networks for long sequences.

    Example:
        >>> import jax
        >>> cell = lru(input_size=3, hidden_size=4, min_radius=0.9, max_radius=0.999)
        >>> radius = abs(eigenvalues(cell.init(jax.random.key(0))))
        >>> bool(((radius > 0.9) & (radius < 0.999)).all())
        True
    """
    size = hidden_size if state_size is None else state_size
    check_positive(input_size=input_size, hidden_size=hidden_size, state_size=size)
    _check_ring(min_radius, max_radius, max_phase)
    phi = resolve_activation(output_activation)
    normal = jax.nn.initializers.normal
    draw_in = normal(math.sqrt(1 / (2 * input_size)))
    draw_out = normal(math.sqrt(1 / size))
    draw_skip = normal(math.sqrt(1 / input_size))

    def init_params(key: Key) -> LRUParams:
        radius_key, phase_key, in_key, out_key, skip_key = jax.random.split(key, 5)
        ring = _ring(
            radius_key,
            phase_key,
            (size,),
            (min_radius, max_radius),
            max_phase,
            norm_dtype(dtype),
        )
        nu, theta, gamma = (part.astype(dtype) for part in ring)
        return LRUParams(
            nu,
            theta,
            gamma,
            draw_in(in_key, (input_size, 2 * size), dtype),
            draw_out(out_key, (2 * size, hidden_size), dtype),
            draw_skip(skip_key, (input_size, hidden_size), dtype),
        )

    def rest(turn: tuple[Array, Array], u: Array, v: Array, carry: LRUCarry):
        entering, shortcut = u[: 2 * size], u[2 * size :]
        state = jnp.concatenate(_turned(turn, carry.state)) + entering
        return LRUCarry(state), phi(shortcut + v)

    affine = Affine(split=_split, hidden=lambda carry: carry.state, rest=rest)
    return Cell(
        init=init_params,
        initial_carry=lambda params: LRUCarry(jnp.zeros(2 * size, dtype)),
        step=affine.step,
        affine=affine,
    )


def eigenvalues(params: LRUParams) -> Array:
    """Returns λ, `[state]`, complex.

    Args:
        params: Of an `lru` cell.

    Example:
        >>> import jax.numpy as jnp
        >>> zero = jnp.zeros(1)
        >>> print(abs(eigenvalues(LRUParams(zero, zero, zero, zero, zero, zero))))
        [0.36787945]
    """
    real, imaginary = _eigenvalues(params)
    return jax.lax.complex(real, imaginary)


def _eigenvalues(params: LRUParams) -> tuple[Array, Array]:
    wide = norm_dtype(params.nu_log)
    radius = jnp.exp(-jnp.exp(params.nu_log.astype(wide)))
    angle = jnp.exp(params.theta_log.astype(wide))
    return radius * jnp.cos(angle), radius * jnp.sin(angle)


def _turned(turn: tuple[Array, Array], state: Array) -> tuple[Array, Array]:
    """Multiplies complex numbers: `turn` parts `[state]`, `state` `[2*state]`."""
    a, b = turn
    real, imaginary = jnp.split(state, 2)
    return a * real - b * imaginary, b * real + a * imaginary


def _split(params: LRUParams) -> AffineParams:
    dtype = params.kernel.dtype
    a, b = (part.astype(dtype) for part in _eigenvalues(params))
    scaled = params.kernel * jnp.tile(jnp.exp(params.gamma_log), 2)[None, :]
    shortcut = scaled @ params.output_kernel + params.skip_kernel
    # Re(C λ s) = (a Re C − b Im C) Re s − (b Re C + a Im C) Im s.
    real, minus_imaginary = jnp.split(params.output_kernel, 2)
    a_rows, b_rows = a[:, None], b[:, None]
    recurrent_kernel = jnp.concatenate(
        [
            a_rows * real + b_rows * minus_imaginary,
            a_rows * minus_imaginary - b_rows * real,
        ]
    )
    return AffineParams(
        jnp.concatenate([scaled, shortcut], axis=1), None, recurrent_kernel, (a, b)
    )


def _ring(
    radius_key: Key,
    phase_key: Key,
    shape: tuple[int],
    radii: tuple[float, float],
    max_phase: float,
    dtype: DType,
) -> tuple[Array, Array, Array]:
    """Draws ν, θ and γ: λ uniform in area on a ring, γ such that s keeps x's size."""
    low, high = radii
    eps, tiny = float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).tiny)
    share = jax.random.uniform(radius_key, shape, dtype, tiny, 1)
    # Between the smallest and the largest radius whose logarithms are finite.
    squared = jnp.minimum(share * (high**2 - low**2) + low**2, 1 - eps)
    rate = -0.5 * jnp.log(squared)
    phase = max_phase * jax.random.uniform(phase_key, shape, dtype, tiny, 1)
    # 1 − |λ|², to all its digits where |λ| is near 1.
    gamma_log = 0.5 * jnp.log(-jnp.expm1(-2 * rate))
    return jnp.log(rate), jnp.log(phase), gamma_log


def _check_ring(min_radius: float, max_radius: float, max_phase: float) -> None:
    check_finite(min_radius=min_radius, max_radius=max_radius, max_phase=max_phase)
    if not 0 <= min_radius < max_radius <= 1:
        raise ValueError(
            "min_radius and max_radius: expected 0 <= min_radius < max_radius <= 1, "
            f"got {min_radius} and {max_radius}; 0.9 and 0.999 remember long"
        )
    if max_phase <= 0:
        raise ValueError(f"max_phase: expected an angle above 0, got {max_phase}")
