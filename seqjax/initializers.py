"""Initialisers of recurrent parameters, and the defaults of other frameworks.

Recurrent kernels hold gate blocks side by side. An initialiser with a global
property (orthogonality, fan) must act on each block: `orthogonal` on the fused
`[hidden, 4*hidden]` kernel leaves every gate a contraction with singular values about
one half, and the half-life of the gradient with it. `per_block` states it.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, DType, Initializer, Key
from seqjax.checks import check_choice, check_finite


def per_block(initializer: Initializer, num_blocks: int) -> Initializer:
    """Applies an initialiser to each of the blocks along the last axis.

    Args:
        initializer: `(key, shape, dtype) -> array`, as in `jax.nn.initializers`.
        num_blocks: Number of equal blocks, one per gate.

    Returns:
        An initialiser of shapes `[..., num_blocks*units]`, one key per block.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> init = per_block(jax.nn.initializers.orthogonal(), 2)
        >>> r = init(jax.random.key(0), (3, 6), jnp.float32)
        >>> bool(jnp.allclose(r[:, :3].T @ r[:, :3], jnp.eye(3), atol=1e-6))
        True
    """

    def init(key: Key, shape: tuple[int, ...], dtype: DType) -> Array:
        block = (*shape[:-1], shape[-1] // num_blocks)
        keys = jax.random.split(key, num_blocks)
        return jnp.concatenate([initializer(k, block, dtype) for k in keys], axis=-1)

    return init


def symmetric_uniform(bound: float) -> Initializer:
    """Draws from the uniform distribution on (−bound, bound).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> draws = symmetric_uniform(0.5)(jax.random.key(0), (100,), jnp.float32)
        >>> bool(jnp.max(jnp.abs(draws)) < 0.5)
        True
    """

    def init(key: Key, shape: tuple[int, ...], dtype: DType) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def cut_normal(stddev: float) -> Initializer:
    """Draws stddev times a unit normal cut off at ±2, whose deviation is then 0.88.

    Haiku's `Linear` uses this form; `jax.nn.initializers.truncated_normal` divides
    the 0.88 out.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> draws = cut_normal(1.0)(jax.random.key(0), (10_000,), jnp.float32)
        >>> print(f"{jnp.std(draws):.1f} {jnp.max(draws):.1f}")
        0.9 2.0
    """

    def init(key: Key, shape: tuple[int, ...], dtype: DType) -> Array:
        return stddev * jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)

    return init


def orthogonal(gain: float = 1.0) -> Initializer:
    """Draws gain times a uniformly distributed orthogonal matrix.

    As `jax.nn.initializers.orthogonal`, which has no half precision: drawn in float32
    and rounded there.

    References:
        Saxe, McClelland, Ganguli (2014), Exact solutions to the nonlinear dynamics of
        learning in deep linear neural networks.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> q = orthogonal(0.5)(jax.random.key(0), (4, 4), jnp.float32)
        >>> bool(jnp.allclose(q.T @ q, 0.25 * jnp.eye(4), atol=1e-6))
        True
    """
    check_finite(gain=gain)
    draw = jax.nn.initializers.orthogonal(gain)

    def init(key: Key, shape: tuple[int, ...], dtype: DType) -> Array:
        wide = jnp.float64 if dtype == jnp.float64 else jnp.float32

        # jaxlib on CPU: two batched QR factorisations at once, as of the gates of
        # several networks, may wait for each other's threads for ever.
        @jax.custom_batching.sequential_vmap
        def one(key: Key) -> Array:
            return draw(key, shape, wide).astype(dtype)

        return one(key)

    return init


def identity(gain: float = 1.0) -> Initializer:
    """Gives gain times the identity matrix.

    References:
        Le, Jaitly, Hinton (2015), A simple way to initialize recurrent networks of
        rectified linear units.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> print(identity(0.5)(jax.random.key(0), (2, 2), jnp.float32))
        [[0.5 0. ]
         [0.  0.5]]
    """
    check_finite(gain=gain)

    def init(key: Key, shape: tuple[int, ...], dtype: DType) -> Array:
        del key
        return gain * jnp.eye(*shape, dtype=dtype)

    return init


def chrono_bias(max_lag: float) -> Initializer:
    """Draws forget biases whose time constants spread evenly up to max_lag steps.

    b_f = ln u with u ~ U(1, max_lag − 1); then σ(b_f) forgets 1/(1 + u) per step.

    Args:
        max_lag: Longest dependency expected, in steps; above 2.

    Returns:
        An initialiser of `[hidden]`.

    Raises:
        ValueError: If `max_lag` is not above 2.

    References:
        Tallec, Ollivier (2018), Can recurrent neural networks warp time?

    Example:
        >>> import jax, jax.numpy as jnp
        >>> bias = chrono_bias(100)(jax.random.key(0), (1000,), jnp.float32)
        >>> bool(jnp.all((bias >= 0) & (bias <= jnp.log(99.0))))
        True
    """
    if not (math.isfinite(max_lag) and max_lag > 2):
        raise ValueError(f"max_lag: expected a number of steps above 2, got {max_lag}")

    def init(key: Key, shape: tuple[int, ...], dtype: DType) -> Array:
        return jnp.log(jax.random.uniform(key, shape, dtype, 1.0, max_lag - 1.0))

    return init


class Preset(NamedTuple):
    """How one framework fills the parameters of one kind of cell by default.

    Attributes:
        kernel: Initialiser of the input kernel, `[input, gates*hidden]`.
        recurrent_kernel: Of the recurrent kernel, `[hidden, gates*hidden]`.
        output_kernel: Of a kernel that reads the hidden layer, `[hidden, output]`.
        bias: Of one bias vector.
        num_biases: How many bias vectors the framework adds up in each gate; a cell
            that holds their sum draws that many and adds them.
        forget_bias: Constant added to the forget gate's bias.
    """

    kernel: Initializer
    recurrent_kernel: Initializer
    output_kernel: Initializer
    bias: Initializer
    num_biases: int
    forget_bias: float


_lecun = jax.nn.initializers.lecun_normal()
_glorot = jax.nn.initializers.glorot_uniform()
_orthogonal = orthogonal()
_zeros = jax.nn.initializers.zeros


def _seqjax(kind: str, input_size: int, hidden_size: int, num_gates: int) -> Preset:
    return Preset(_lecun, per_block(_orthogonal, num_gates), _lecun, _zeros, 1, 1.0)


def _flax(kind: str, input_size: int, hidden_size: int, num_gates: int) -> Preset:
    return Preset(_lecun, per_block(_orthogonal, num_gates), _lecun, _zeros, 1, 0.0)


def _keras(kind: str, input_size: int, hidden_size: int, num_gates: int) -> Preset:
    # Both act on the fused kernel: this is Keras's behaviour, kept on purpose.
    return Preset(_glorot, _orthogonal, _glorot, _zeros, 1, 1.0)


def _torch(kind: str, input_size: int, hidden_size: int, num_gates: int) -> Preset:
    uniform = symmetric_uniform(1 / math.sqrt(hidden_size))
    return Preset(uniform, uniform, uniform, uniform, 2, 0.0)


def _equinox(kind: str, input_size: int, hidden_size: int, num_gates: int) -> Preset:
    uniform = symmetric_uniform(1 / math.sqrt(hidden_size))
    return Preset(uniform, uniform, uniform, uniform, 1, 0.0)


def _haiku(kind: str, input_size: int, hidden_size: int, num_gates: int) -> Preset:
    across = cut_normal(1 / math.sqrt(hidden_size))
    if kind == "gru":
        return Preset(_lecun, _lecun, across, _zeros, 1, 0.0)
    if kind == "lstm":  # one Linear over [x, h]
        both = cut_normal(1 / math.sqrt(input_size + hidden_size))
        return Preset(both, both, across, _zeros, 1, 1.0)
    kernel = cut_normal(1 / math.sqrt(input_size))
    return Preset(kernel, across, across, _zeros, 1, 0.0)


PRESETS: Mapping[str, Callable[[str, int, int, int], Preset]] = MappingProxyType(
    {
        "seqjax": _seqjax,
        "torch": _torch,
        "keras": _keras,
        "flax": _flax,
        "haiku": _haiku,
        "equinox": _equinox,
    }
)
"""Name -> `(kind, input_size, hidden_size, num_gates) -> Preset`.

Exact in distribution for the cells that the framework has: torch RNN, LSTM, GRU;
Keras SimpleRNN, LSTM, GRU; Flax linen SimpleCell, LSTMCell (Optimized too), GRUCell;
Haiku VanillaRNN, LSTM, GRU; Equinox LSTMCell, GRUCell. Elsewhere (`jordan`; options
that a framework lacks) the same rule is applied to the new shapes.
"""


def preset(
    name: str,
    kind: str,
    input_size: int,
    hidden_size: int,
    num_gates: int,
    *,
    kernel_init: Initializer | None = None,
    recurrent_kernel_init: Initializer | None = None,
    bias_init: Initializer | None = None,
) -> Preset:
    """Looks up a framework's default initialisation, with the caller's replacements.

    Args:
        name: `seqjax` (LeCun-normal kernels, an orthogonal recurrent block per gate,
            zero biases, forget bias 1), `torch`, `keras`, `flax`, `haiku`, `equinox`.
        kind: `elman`, `jordan`, `lstm` or `gru`.
        input_size: Features of x.
        hidden_size: Units per gate.
        num_gates: Gate blocks in the kernels.
        kernel_init: Replaces the input kernel's initialiser; acts on each gate block.
        recurrent_kernel_init: Likewise for the recurrent kernel.
        bias_init: Likewise for the bias.

    Returns:
        The initialisers.

    Raises:
        ValueError: If `name` is not known.

    Example:
        >>> preset("keras", "lstm", 3, 16, 4).forget_bias
        1.0
    """
    check_choice("init", name, PRESETS)
    chosen = PRESETS[name](kind, input_size, hidden_size, num_gates)
    if kernel_init:
        chosen = chosen._replace(kernel=per_block(kernel_init, num_gates))
    if recurrent_kernel_init:
        recurrent = per_block(recurrent_kernel_init, num_gates)
        chosen = chosen._replace(recurrent_kernel=recurrent)
    if bias_init:
        chosen = chosen._replace(bias=bias_init, num_biases=1)
    return chosen


def summed(initializer: Initializer, num_terms: int) -> Initializer:
    """Adds up independent draws, for a bias that stands for several.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> init = summed(symmetric_uniform(1.0), 2)
        >>> draws = init(jax.random.key(0), (1000,), jnp.float32)
        >>> bool(jnp.max(draws) > 1.0)
        True
    """

    def init(key: Key, shape: tuple[int, ...], dtype: DType) -> Array:
        keys = jax.random.split(key, num_terms)
        return sum(
            (initializer(k, shape, dtype) for k in keys), jnp.zeros(shape, dtype)
        )

    return init
