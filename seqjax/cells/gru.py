"""The gated recurrent unit, in both of its forms."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, DType, Initializer, Key
from seqjax.cell import Affine, AffineParams, Cell
from seqjax.checks import check_positive
from seqjax.initializers import chrono_bias, preset, summed
from seqjax.made import factory


class GRUParams(NamedTuple):
    """Parameters, gates in the order r z n.

    Attributes:
        kernel: W, `[input, 3*hidden]`.
        recurrent_kernel: R, `[hidden, 3*hidden]`.
        bias: b, `[3*hidden]`.
        recurrent_bias: d, `[hidden]`, inside the reset product; None for reset before.
    """

    kernel: Array
    recurrent_kernel: Array
    bias: Array
    recurrent_bias: Array | None


class GRUCarry(NamedTuple):
    """Carry: h, `[hidden]`."""

    hidden: Array


@factory
def gru(
    input_size: int,
    hidden_size: int,
    *,
    reset_after: bool = True,
    max_lag: float | None = None,
    init: str = "seqjax",
    kernel_init: Initializer | None = None,
    recurrent_kernel_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    dtype: DType = jnp.float32,
) -> Cell[GRUParams, GRUCarry]:
    """Builds a GRU cell.

    r = σ(x W_r + h R_r + b_r),  z = σ(x W_z + h R_z + b_z)
    reset_after:  n = tanh(x W_n + b_n + r ∘ (h R_n + d))
    otherwise:    n = tanh(x W_n + b_n + (r ∘ h) R_n)
    h′ = (1 − z) ∘ n + z ∘ h,  y = h′

    The first form is that of PyTorch, cuDNN, Flax, Equinox and Keras's default, the
    second that of the paper and of Haiku. Here z keeps the past; the paper's z and
    Haiku's replace it (1 − z in place of z).

    Args:
        input_size: Features of x.
        hidden_size: Units of h, and of y.
        reset_after: Where the reset gate acts: on the recurrent product, or on h.
        max_lag: Chrono initialisation for dependencies up to this many steps:
            b_z = ln U(1, max_lag − 1).
        init: Named defaults for every parameter; see `seqjax.initializers.preset`.
        kernel_init: Replaces the preset's initialiser of W, per gate block.
        recurrent_kernel_init: Of R, per gate block.
        bias_init: Of b and d, per gate block.
        dtype: Of params and carry.

    Returns:
        A cell with x `[input]`, carry `GRUCarry(hidden)`, y `[hidden]`.

    Raises:
        ValueError: On a size below 1, an unknown name, or `max_lag` not above 2.

    References:
        Cho et al. (2014), Learning phrase representations using RNN encoder-decoder
        for statistical machine translation. Tallec, Ollivier (2018), Can recurrent
        neural networks warp time? (chrono).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> cell = gru(input_size=3, hidden_size=16)
        >>> params = cell.init(jax.random.key(0))
        >>> carry, y = cell.step(params, cell.initial_carry(params), jnp.ones(3))
        >>> y.shape
        (16,)
    """
    check_positive(input_size=input_size, hidden_size=hidden_size)
    chrono = None if max_lag is None else chrono_bias(max_lag)
    inits = preset(
        init,
        "gru",
        input_size,
        hidden_size,
        3,
        kernel_init=kernel_init,
        recurrent_kernel_init=recurrent_kernel_init,
        bias_init=bias_init,
    )
    # The n block keeps its two biases apart when the reset gate stands between them.
    both = summed(inits.bias, inits.num_biases)
    bias_n = inits.bias if reset_after else both

    def init_params(key: Key) -> GRUParams:
        kernel_key, recurrent_key, r_key, z_key, n_key, d_key = jax.random.split(key, 6)
        blocks = [
            both(r_key, (hidden_size,), dtype),
            (chrono or both)(z_key, (hidden_size,), dtype),
            bias_n(n_key, (hidden_size,), dtype),
        ]
        return GRUParams(
            inits.kernel(kernel_key, (input_size, 3 * hidden_size), dtype),
            inits.recurrent_kernel(
                recurrent_key, (hidden_size, 3 * hidden_size), dtype
            ),
            jnp.concatenate(blocks),
            inits.bias(d_key, (hidden_size,), dtype) if reset_after else None,
        )

    affine = _reset_after() if reset_after else _reset_before(hidden_size)
    return Cell(
        init=init_params,
        initial_carry=lambda params: GRUCarry(jnp.zeros(hidden_size, dtype)),
        step=affine.step,
        affine=affine,
        output=lambda carry: carry.hidden,
    )


def _blend(h: Array, z: Array, n: Array) -> tuple[GRUCarry, Array]:
    h = (1 - z) * n + z * h
    return GRUCarry(h), h


def _reset_after() -> Affine:
    def rest(recurrent_bias: Array, u: Array, v: Array, carry: GRUCarry):
        u_r, u_z, u_n = jnp.split(u, 3)
        v_r, v_z, v_n = jnp.split(v, 3)
        r = jax.nn.sigmoid(u_r + v_r)
        z = jax.nn.sigmoid(u_z + v_z)
        n = jnp.tanh(u_n + r * (v_n + recurrent_bias))
        return _blend(carry.hidden, z, n)

    return Affine(
        split=lambda p: AffineParams(
            p.kernel, p.bias, p.recurrent_kernel, p.recurrent_bias
        ),
        hidden=lambda carry: carry.hidden,
        rest=rest,
    )


def _reset_before(hidden_size: int) -> Affine:
    """The second product, of r ∘ h, is not affine in h: R_n goes to the rest."""
    gates = 2 * hidden_size

    def rest(candidate_kernel: Array, u: Array, v: Array, carry: GRUCarry):
        r, z = jnp.split(jax.nn.sigmoid(u[:gates] + v), 2)
        n = jnp.tanh(u[gates:] + (r * carry.hidden) @ candidate_kernel)
        return _blend(carry.hidden, z, n)

    return Affine(
        split=lambda p: AffineParams(
            p.kernel,
            p.bias,
            p.recurrent_kernel[:, :gates],
            p.recurrent_kernel[:, gates:],
        ),
        hidden=lambda carry: carry.hidden,
        rest=rest,
    )
