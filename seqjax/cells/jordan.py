"""Jordan's network: the output, not the hidden layer, is fed back."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, DType, Initializer, Key
from seqjax.cell import Affine, AffineParams, Cell
from seqjax.cells.elman import resolve_activation
from seqjax.checks import check_finite, check_positive
from seqjax.initializers import preset, summed
from seqjax.made import factory


class JordanParams(NamedTuple):
    """Parameters, with the shapes of their equation.

    Attributes:
        kernel: W, `[input, hidden]`.
        recurrent_kernel: U, `[output, hidden]`.
        bias: b, `[hidden]`.
        output_kernel: V, `[hidden, output]`.
        output_bias: d, `[output]`.
    """

    kernel: Array
    recurrent_kernel: Array
    bias: Array
    output_kernel: Array
    output_bias: Array


class JordanCarry(NamedTuple):
    """Carry: the fed-back output s, `[output]`."""

    output: Array


@factory
def jordan(
    input_size: int,
    hidden_size: int,
    *,
    output_size: int | None = None,
    leak: float = 0.0,
    activation: str | Callable[[Array], Array] = "tanh",
    output_activation: str | Callable[[Array], Array] = "identity",
    init: str = "seqjax",
    kernel_init: Initializer | None = None,
    recurrent_kernel_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    dtype: DType = jnp.float32,
) -> Cell[JordanParams, JordanCarry]:
    """Builds Jordan's network: feedback goes through the output.

    h = φ(x W + s U + b),  y = ψ(h V + d),  s′ = α s + y

    With α = 0, Jordan's textbook form, every Jacobian ∂s′/∂s passes the output and has
    rank at most min(hidden, output); α > 0 adds an exact leaky path αᵗ beside it.

    Args:
        input_size: Features of x.
        hidden_size: Units of h.
        output_size: Features of y and s; `hidden_size` if None.
        leak: α, per step.
        activation: φ: a name in `ACTIVATIONS` or any function.
        output_activation: ψ, likewise.
        init: Named defaults for W, U, b, V, d; see `seqjax.initializers.preset`.
        kernel_init: Replaces the preset's initialiser of W.
        recurrent_kernel_init: Of U.
        bias_init: Of b.
        dtype: Of params and carry.

    Returns:
        A cell with x `[input]`, carry `JordanCarry(output)`, y `[output]`.

    Raises:
        ValueError: On a size below 1, an unknown name, or a leak that is not finite.

    References:
        Jordan (1986), Serial order: a parallel distributed processing approach.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> cell = jordan(3, 8, output_size=2, leak=0.5)
        >>> params = cell.init(jax.random.key(0))
        >>> carry, y = cell.step(params, cell.initial_carry(params), jnp.ones(3))
        >>> y.shape
        (2,)
    """
    output_size = hidden_size if output_size is None else output_size
    check_positive(
        input_size=input_size, hidden_size=hidden_size, output_size=output_size
    )
    check_finite(leak=leak)
    phi = resolve_activation(activation)
    psi = resolve_activation(output_activation)
    inits = preset(
        init,
        "jordan",
        input_size,
        hidden_size,
        1,
        kernel_init=kernel_init,
        recurrent_kernel_init=recurrent_kernel_init,
        bias_init=bias_init,
    )

    def init_params(key: Key) -> JordanParams:
        kernel_key, recurrent_key, bias_key, output_key, output_bias_key = (
            jax.random.split(key, 5)
        )
        bias = summed(inits.bias, inits.num_biases)
        return JordanParams(
            inits.kernel(kernel_key, (input_size, hidden_size), dtype),
            inits.recurrent_kernel(recurrent_key, (output_size, hidden_size), dtype),
            bias(bias_key, (hidden_size,), dtype),
            inits.output_kernel(output_key, (hidden_size, output_size), dtype),
            inits.bias(output_bias_key, (output_size,), dtype),
        )

    def rest(readout: tuple[Array, Array], u: Array, v: Array, carry: JordanCarry):
        output_kernel, output_bias = readout
        y = psi(phi(u + v) @ output_kernel + output_bias)
        return JordanCarry(leak * carry.output + y), y

    affine = Affine(
        split=lambda p: AffineParams(
            p.kernel, p.bias, p.recurrent_kernel, (p.output_kernel, p.output_bias)
        ),
        hidden=lambda carry: carry.output,
        rest=rest,
    )
    return Cell(
        init=init_params,
        initial_carry=lambda params: JordanCarry(jnp.zeros(output_size, dtype)),
        step=affine.step,
        affine=affine,
        output=(lambda carry: carry.output) if leak == 0 else None,
    )
