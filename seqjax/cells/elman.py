"""Elman's simple recurrent network, and its identity-initialised variant."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, DType, Initializer, Key
from seqjax.cell import Affine, AffineParams, Cell
from seqjax.checks import check_choice, check_positive
from seqjax.initializers import identity, preset, summed
from seqjax.made import factory


def _identity_function(a: Array) -> Array:
    return a


ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = MappingProxyType(
    {
        "tanh": jnp.tanh,
        "relu": jax.nn.relu,
        "sigmoid": jax.nn.sigmoid,
        "identity": _identity_function,
    }
)
"""Names that stand for an activation function."""


def resolve_activation(
    activation: str | Callable[[Array], Array],
) -> Callable[[Array], Array]:
    """Turns a name into its function; a function stays.

    Raises:
        ValueError: If the name is not in `ACTIVATIONS`.

    Example:
        >>> print(resolve_activation("relu")(-1.0))
        0.0
    """
    if callable(activation):
        return activation
    check_choice("activation", activation, ACTIVATIONS)
    return ACTIVATIONS[activation]


class ElmanParams(NamedTuple):
    """Parameters: `[input, hidden]`, `[hidden, hidden]`, `[hidden]`."""

    kernel: Array
    recurrent_kernel: Array
    bias: Array


class ElmanCarry(NamedTuple):
    """Carry: h, `[hidden]`."""

    hidden: Array


@factory
def elman(
    input_size: int,
    hidden_size: int,
    *,
    activation: str | Callable[[Array], Array] = "tanh",
    init: str = "seqjax",
    kernel_init: Initializer | None = None,
    recurrent_kernel_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    dtype: DType = jnp.float32,
) -> Cell[ElmanParams, ElmanCarry]:
    """Builds Elman's network: the whole hidden layer is fed back.

    h′ = φ(x W + h R + b),  y = h′

    Args:
        input_size: Features of x.
        hidden_size: Units of h, and of y.
        activation: φ: `tanh`, `relu`, `sigmoid`, `identity`, or any function.
        init: Named defaults for every parameter; see `seqjax.initializers.preset`.
        kernel_init: Replaces the preset's initialiser of W.
        recurrent_kernel_init: Of R.
        bias_init: Of b.
        dtype: Of params and carry.

    Returns:
        A cell with x `[input]`, carry `ElmanCarry(hidden)`, y `[hidden]`.

    Raises:
        ValueError: On a size below 1 or an unknown name.

    References:
        Elman (1990), Finding structure in time. Elman's output layer is left to the
        caller, as in every library.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> cell = elman(input_size=3, hidden_size=4)
        >>> params = cell.init(jax.random.key(0))
        >>> carry, y = cell.step(params, cell.initial_carry(params), jnp.ones(3))
        >>> y.shape
        (4,)
    """
    check_positive(input_size=input_size, hidden_size=hidden_size)
    phi = resolve_activation(activation)
    inits = preset(
        init,
        "elman",
        input_size,
        hidden_size,
        1,
        kernel_init=kernel_init,
        recurrent_kernel_init=recurrent_kernel_init,
        bias_init=bias_init,
    )

    def init_params(key: Key) -> ElmanParams:
        kernel_key, recurrent_key, bias_key = jax.random.split(key, 3)
        bias = summed(inits.bias, inits.num_biases)
        return ElmanParams(
            inits.kernel(kernel_key, (input_size, hidden_size), dtype),
            inits.recurrent_kernel(recurrent_key, (hidden_size, hidden_size), dtype),
            bias(bias_key, (hidden_size,), dtype),
        )

    def rest(params: tuple[()], u: Array, v: Array, carry: ElmanCarry):
        h = phi(u + v)
        return ElmanCarry(h), h

    affine = Affine(
        split=lambda p: AffineParams(p.kernel, p.bias, p.recurrent_kernel, ()),
        hidden=lambda carry: carry.hidden,
        rest=rest,
    )
    return Cell(
        init=init_params,
        initial_carry=lambda params: ElmanCarry(jnp.zeros(hidden_size, dtype)),
        step=affine.step,
        affine=affine,
        output=lambda carry: carry.hidden,
    )


@factory
def irnn(
    input_size: int,
    hidden_size: int,
    *,
    gain: float = 1.0,
    kernel_stddev: float = 0.001,
    dtype: DType = jnp.float32,
) -> Cell[ElmanParams, ElmanCarry]:
    """Builds the IRNN: Elman's network with ReLU and an identity recurrent kernel.

    h′ = max(0, x W + h R + b),  R = gain · I and b = 0 at the start

    Args:
        input_size: Features of x.
        hidden_size: Units of h, and of y.
        gain: Factor on the identity; below 1 where long memory is not wanted.
        kernel_stddev: Standard deviation of the Gaussian input kernel.
        dtype: Of params and carry.

    Returns:
        A cell with x `[input]`, carry `ElmanCarry(hidden)`, y `[hidden]`.

    Raises:
        ValueError: On a size below 1 or a gain that is not finite.

    References:
        Le, Jaitly, Hinton (2015), A simple way to initialize recurrent networks of
        rectified linear units.

    Example:
        >>> import jax
        >>> params = irnn(3, 4, gain=0.5).init(jax.random.key(0))
        >>> print(params.recurrent_kernel[0])
        [0.5 0.  0.  0. ]
    """
    return elman(
        input_size,
        hidden_size,
        activation="relu",
        kernel_init=jax.nn.initializers.normal(kernel_stddev),
        recurrent_kernel_init=identity(gain),
        dtype=dtype,
    )
