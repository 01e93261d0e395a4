"""The network whose recurrence is a rotation, the exponential of a skew matrix."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.array_types import Array, DType, Initializer, Key
from seqjax.cell import Affine, AffineParams, Cell
from seqjax.cells.elman import resolve_activation
from seqjax.checks import check_choice, check_positive
from seqjax.initializers import symmetric_uniform
from seqjax.made import factory
from seqjax.tree import norm_dtype


def _cayley_angles(key: Key, shape: tuple[int, ...], dtype: DType) -> Array:
    return -jnp.tan(jax.random.uniform(key, shape, dtype, 0, math.pi / 2) / 2)


ANGLES: Mapping[str, Initializer] = MappingProxyType(
    {"henaff": symmetric_uniform(math.pi), "cayley": _cayley_angles}
)
"""Name -> distribution of the angles, radians, by which R first turns its planes."""

_BIAS_BOUND = 0.01
_MAX_SQUARINGS = 16


class ExpRNNParams(NamedTuple):
    """Parameters.

    Attributes:
        kernel: W, `[input, hidden]`.
        skew: U above its diagonal, row by row, `[hidden*(hidden-1)/2]`: as many numbers
            as a rotation has.
        bias: b, `[hidden]`.
    """

    kernel: Array
    skew: Array
    bias: Array


class ExpRNNCarry(NamedTuple):
    """Carry: h, `[hidden]`."""

    hidden: Array


def modrelu(z: Array, bias: Array) -> Array:
    """Shrinks or stretches every entry by a bias and keeps its sign.

    modReLU(z, b) = sign(z) max(0, |z| + b)

    The slope is 1 where |z| + b ≥ 0 and 0 elsewhere, at z = 0 too: with b = 0 it is the
    identity and all of its derivatives.

    Args:
        z: `[hidden]`.
        bias: b, `[hidden]`.

    References:
        Arjovsky, Shah, Bengio (2016), Unitary evolution recurrent neural networks.

    Example:
        >>> import jax.numpy as jnp
        >>> print(modrelu(jnp.array([-2.0, 0.5, 2.0]), jnp.full(3, -1.0)))
        [-1.  0.  1.]
    """
    return jnp.where(jnp.abs(z) + bias >= 0, z + jnp.sign(z) * bias, 0)


@factory
def exprnn(
    input_size: int,
    hidden_size: int,
    *,
    activation: str | Callable[[Array], Array] = "modrelu",
    angles: str = "henaff",
    kernel_init: Initializer | None = None,
    dtype: DType = jnp.float32,
) -> Cell[ExpRNNParams, ExpRNNCarry]:
    """Builds a network whose recurrent kernel is a rotation, whatever its parameters.

    R = exp(U − Uᵀ) with U strictly upper triangular
    h′ = modReLU(x W + h R, b),  y = h′

    R has determinant 1 and no singular value but 1, so that the recurrence alone lets
    gradients neither vanish nor explode; with b = 0 neither does modReLU. Read R with
    `cell.affine.split(params).recurrent_kernel`. It is computed once per unroll, in
    float32 at least. The authors train `skew` at a tenth of the learning rate of the
    other parameters.

    Args:
        input_size: Features of x.
        hidden_size: Units of h, and of y.
        activation: "modrelu", or φ of h′ = φ(x W + h R + b): a name in
            `seqjax.cells.elman.ACTIVATIONS` or any function.
        angles: Where R starts: it turns hidden/2 planes of two neighbouring units by
            angles drawn as "henaff", U(−π, π), or "cayley", −tan(u/2) with
            u ~ U(0, π/2).
        kernel_init: Initialiser of W; normal with variance 2/input if None. b starts
            uniform on (−0.01, 0.01).
        dtype: Of params and carry.

    Returns:
        A cell with x `[input]`, carry `ExpRNNCarry(hidden)`, y `[hidden]`.

    Raises:
        ValueError: On a size below 1 or an unknown name.

    References:
        Lezcano-Casado, Martínez-Rubio (2019), Cheap orthogonal constraints in neural
        networks: a simple parametrization of the orthogonal and unitary group.
        Henaff, Szlam, LeCun (2016), Recurrent orthogonal networks and long-memory
        tasks ("henaff"). Helfrich, Willmott, Ye (2018), Orthogonal recurrent neural
        networks with scaled Cayley transform ("cayley").

    Example:
        >>> import jax, jax.numpy as jnp
        >>> cell = exprnn(input_size=3, hidden_size=4)
        >>> r = cell.affine.split(cell.init(jax.random.key(0))).recurrent_kernel
        >>> bool(jnp.allclose(r @ r.T, jnp.eye(4), atol=1e-6))
        True
    """
    check_positive(input_size=input_size, hidden_size=hidden_size)
    check_choice("angles", angles, ANGLES)
    phi = _with_bias(activation)
    draw_kernel = kernel_init or jax.nn.initializers.normal(math.sqrt(2 / input_size))

    def init_params(key: Key) -> ExpRNNParams:
        kernel_key, angle_key, bias_key = jax.random.split(key, 3)
        turned = ANGLES[angles](angle_key, (hidden_size // 2,), dtype)
        first = np.arange(0, hidden_size - 1, 2)
        upper = jnp.zeros((hidden_size, hidden_size), dtype)
        return ExpRNNParams(
            draw_kernel(kernel_key, (input_size, hidden_size), dtype),
            upper.at[first, first + 1].set(turned)[np.triu_indices(hidden_size, 1)],
            symmetric_uniform(_BIAS_BOUND)(bias_key, (hidden_size,), dtype),
        )

    def rest(bias: Array, u: Array, v: Array, carry: ExpRNNCarry):
        h = phi(u + v, bias)
        return ExpRNNCarry(h), h

    affine = Affine(
        split=lambda p: AffineParams(
            p.kernel, None, rotation(p.skew, hidden_size), p.bias
        ),
        hidden=lambda carry: carry.hidden,
        rest=rest,
    )
    return Cell(
        init=init_params,
        initial_carry=lambda params: ExpRNNCarry(jnp.zeros(hidden_size, dtype)),
        step=affine.step,
        affine=affine,
        output=lambda carry: carry.hidden,
    )


def _with_bias(
    activation: str | Callable[[Array], Array],
) -> Callable[[Array, Array], Array]:
    if activation == "modrelu":
        return modrelu
    phi = resolve_activation(activation)
    return lambda z, bias: phi(z + bias)


def rotation(skew: Array, size: int) -> Array:
    """Takes the rotation R = exp(U − Uᵀ) of the entries of U.

    Scaling and squaring of a Taylor series, then one step towards the nearest
    orthogonal matrix. These are products alone: the triangular solve inside
    `jax.scipy.linalg.expm` takes 30 times as long at size 128 on a CPU.

    Args:
        skew: U above its diagonal, row by row, `[size*(size-1)/2]`.
        size: Rows of R.

    Returns:
        `[size, size]`, in the dtype of `skew`; orthogonal to a few roundings. NaN where
        an absolute row sum of U − Uᵀ exceeds 65536, whose angles have no digits left.

    References:
        Moler, Van Loan (2003), Nineteen dubious ways to compute the exponential of a
        matrix, twenty-five years later. Björck, Bowie (1971), An iterative algorithm
        for computing the best estimate of an orthogonal matrix (the last step).

    Example:
        >>> import jax.numpy as jnp
        >>> print(jnp.round(rotation(jnp.array([jnp.pi / 2]), 2), 3) + 0.0)
        [[ 0.  1.]
         [-1.  0.]]
    """
    # Sums of products in half precision would not leave an orthogonal matrix.
    entries = jnp.asarray(skew, norm_dtype(skew))
    upper = jnp.zeros((size, size), entries.dtype)
    upper = upper.at[np.triu_indices(size, 1)].set(entries)
    r = _exponential(upper - upper.T)
    r = 1.5 * r - 0.5 * r @ (r.T @ r)
    return r.astype(skew.dtype)


# Compiled once: a step outside jit would compile the loops anew at every call.
@jax.jit
def _exponential(a: Array) -> Array:
    """Takes exp(a) = exp(a/2ᵏ)^(2ᵏ) of a matrix, with k such that ‖a/2ᵏ‖ < 1."""
    _, exponent = jnp.frexp(jax.lax.stop_gradient(jnp.max(jnp.sum(jnp.abs(a), 0))))
    num_squarings = jnp.maximum(exponent, 0)
    scale = jnp.ldexp(jnp.ones((), a.dtype), -num_squarings)
    a = a * jnp.where(num_squarings > _MAX_SQUARINGS, jnp.nan, scale)
    one = jnp.eye(a.shape[0], dtype=a.dtype)
    # The first term left out is below the rounding of 1: 1/11! and 1/19!.
    degree = 18 if a.dtype == jnp.float64 else 10

    def add_term(r: Array, k: Array) -> tuple[Array, None]:
        return one + a @ r / k, None

    def square(r: Array, i: Array) -> tuple[Array, None]:
        return jax.lax.cond(i < num_squarings, lambda r: r @ r, lambda r: r, r), None

    r, _ = jax.lax.scan(add_term, one, jnp.arange(degree, 0, -1, a.dtype))
    return jax.lax.scan(square, r, jnp.arange(_MAX_SQUARINGS, dtype=jnp.int32))[0]
