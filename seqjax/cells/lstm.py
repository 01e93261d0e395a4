"""Long short-term memory, with its published variants as options."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, DType, Initializer, Key
from seqjax.cell import Affine, AffineParams, Cell
from seqjax.checks import check_finite, check_positive
from seqjax.initializers import Preset, chrono_bias, preset, summed
from seqjax.made import factory

NORM_EPSILON = 1e-5
"""Added to the variance inside the layer norms."""


class LSTMNorm(NamedTuple):
    """Scales of the layer norms.

    Attributes:
        input_scale: `[gates*hidden]`, of x W.
        recurrent_scale: `[gates*hidden]`, of h R.
        cell_scale: `[hidden]`, of c′.
        cell_bias: `[hidden]`, of c′.
    """

    input_scale: Array
    recurrent_scale: Array
    cell_scale: Array
    cell_bias: Array


class LSTMParams(NamedTuple):
    """Parameters; options that are off hold None.

    Attributes:
        kernel: W, `[input, gates*hidden]`, gates in the order i f g o.
        recurrent_kernel: R, `[output, gates*hidden]`; output is hidden, or projection.
        bias: b, `[gates*hidden]`.
        peephole: `[sigmoid_gates, hidden]`, rows in the order i f o.
        projection: P, `[hidden, projection]`.
        norm: Scales of the layer norms.
    """

    kernel: Array
    recurrent_kernel: Array
    bias: Array
    peephole: Array | None = None
    projection: Array | None = None
    norm: LSTMNorm | None = None


class _Rest(NamedTuple):
    """What stands outside the two products; bias only under layer norms."""

    bias: Array | None
    peephole: Array | None
    projection: Array | None
    norm: LSTMNorm | None


class LSTMCarry(NamedTuple):
    """Carry: h, `[output]`, and c, `[hidden]`."""

    hidden: Array
    cell: Array


@factory
def lstm(
    input_size: int,
    hidden_size: int,
    *,
    peephole: bool = False,
    coupled: bool = False,
    forget_gate: bool = True,
    projection_size: int | None = None,
    layer_norm: bool = False,
    forget_bias: float | None = None,
    max_lag: float | None = None,
    init: str = "seqjax",
    kernel_init: Initializer | None = None,
    recurrent_kernel_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    dtype: DType = jnp.float32,
) -> Cell[LSTMParams, LSTMCarry]:
    """Builds an LSTM cell.

    [i f g o] = x W + h R + b
    c′ = σ(f) ∘ c + σ(i) ∘ tanh(g),  h′ = σ(o) ∘ tanh(c′),  y = h′

    Options change single terms: `peephole` adds p ∘ c to i and f, and p ∘ c′ to o;
    `coupled` sets σ(i) = 1 − σ(f) and drops the block i; `forget_gate=False` sets
    σ(f) = 1 and drops the block f; `projection_size` makes h′ = (σ(o) ∘ tanh(c′)) P;
    `layer_norm` puts LN(x W) + LN(h R) + b in place of the sum (each norm over all
    gates together) and LN(c′) inside the last tanh.

    Args:
        input_size: Features of x.
        hidden_size: Units of c, and of h without projection.
        peephole: Lets the gates see the cell; weights start at 0.
        coupled: Ties the input gate to the forget gate.
        forget_gate: False gives the cell of 1997.
        projection_size: Features of h and y, or None for no projection.
        layer_norm: Normalises the products and the cell.
        forget_bias: Added to b_f at initialisation; the preset's own (1 for `seqjax`,
            `keras`, `haiku`, else 0) if None.
        max_lag: Chrono initialisation for dependencies up to this many steps:
            b_f = ln U(1, max_lag − 1) and b_i = −b_f.
        init: Named defaults for every parameter; see `seqjax.initializers.preset`.
        kernel_init: Replaces the preset's initialiser of W, per gate block.
        recurrent_kernel_init: Of R, per gate block.
        bias_init: Of b, per gate block.
        dtype: Of params and carry.

    Returns:
        A cell with x `[input]`, carry `LSTMCarry(hidden, cell)`, y `[output]`.

    Raises:
        ValueError: On a size below 1, an unknown name, or options that contradict.

    References:
        Hochreiter, Schmidhuber (1997), Long short-term memory. Gers, Schmidhuber,
        Cummins (2000), Learning to forget. Gers, Schraudolph, Schmidhuber (2002),
        Learning precise timing with LSTM recurrent networks (peepholes). Greff et al.
        (2017), LSTM: a search space odyssey (coupled gates). Sak, Senior, Beaufays
        (2014), Long short-term memory based recurrent neural network architectures
        (projection). Ba, Kiros, Hinton (2016), Layer normalization. Jozefowicz,
        Zaremba, Sutskever (2015), An empirical exploration of recurrent network
        architectures (forget bias 1). Tallec, Ollivier (2018), Can recurrent neural
        networks warp time? (chrono).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> cell = lstm(input_size=3, hidden_size=16)
        >>> params = cell.init(jax.random.key(0))
        >>> carry, y = cell.step(params, cell.initial_carry(params), jnp.ones(3))
        >>> y.shape, carry.cell.shape
        ((16,), (16,))
    """
    check_positive(input_size=input_size, hidden_size=hidden_size)
    _check_options(coupled, forget_gate, projection_size, forget_bias, max_lag)
    gates = _gate_names(coupled, forget_gate)
    output_size = hidden_size if projection_size is None else projection_size
    width = len(gates) * hidden_size
    inits = preset(
        init,
        "lstm",
        input_size,
        hidden_size,
        len(gates),
        kernel_init=kernel_init,
        recurrent_kernel_init=recurrent_kernel_init,
        bias_init=bias_init,
    )
    if forget_bias is not None:
        inits = inits._replace(forget_bias=forget_bias)

    def init_params(key: Key) -> LSTMParams:
        kernel_key, recurrent_key, bias_key, projection_key = jax.random.split(key, 4)
        return LSTMParams(
            inits.kernel(kernel_key, (input_size, width), dtype),
            inits.recurrent_kernel(recurrent_key, (output_size, width), dtype),
            _init_bias(bias_key, inits, gates, hidden_size, max_lag, dtype),
            jnp.zeros((len(gates) - 1, hidden_size), dtype) if peephole else None,
            inits.output_kernel(projection_key, (hidden_size, output_size), dtype)
            if projection_size
            else None,
            _unit_norm(width, hidden_size, dtype) if layer_norm else None,
        )

    def rest(params: _Rest, u: Array, v: Array, carry: LSTMCarry):
        norm, b = params.norm, params.bias
        z = u + v if norm is None or b is None else _normalised_sum(norm, b, u, v)
        c, o = _new_cell(
            dict(zip(gates, jnp.split(z, len(gates)), strict=True)),
            params,
            carry.cell,
            coupled,
            forget_gate,
        )
        c_read = (
            c if norm is None else (_standardise(c) * norm.cell_scale + norm.cell_bias)
        )
        h = jax.nn.sigmoid(o) * jnp.tanh(c_read)
        h = h if params.projection is None else h @ params.projection
        return LSTMCarry(h, c), h

    affine = Affine(split=_split, hidden=lambda carry: carry.hidden, rest=rest)
    return Cell(
        init=init_params,
        initial_carry=lambda params: LSTMCarry(
            jnp.zeros(output_size, dtype), jnp.zeros(hidden_size, dtype)
        ),
        step=affine.step,
        affine=affine,
        output=lambda carry: carry.hidden,
    )


def _check_options(
    coupled: bool,
    forget_gate: bool,
    projection_size: int | None,
    forget_bias: float | None,
    max_lag: float | None,
) -> None:
    if projection_size is not None:
        check_positive(projection_size=projection_size)
    if max_lag is not None:
        chrono_bias(max_lag)  # refuses a bad value here, and not at the first init
    if forget_bias is not None:
        check_finite(forget_bias=forget_bias)
    if forget_bias is not None and max_lag is not None:
        raise ValueError(
            "forget_bias and max_lag: expected at most one of the two, got "
            f"{forget_bias} and {max_lag}; chrono initialisation draws the biases"
        )
    if forget_gate:
        return
    for name, value in (
        ("coupled", coupled or None),
        ("forget_bias", forget_bias),
        ("max_lag", max_lag),
    ):
        if value is not None:
            raise ValueError(
                f"{name}: expected none without a forget gate, got {value}; "
                "leave it out or set forget_gate=True"
            )


def _gate_names(coupled: bool, forget_gate: bool) -> tuple[str, ...]:
    absent = {"i"} if coupled else set() if forget_gate else {"f"}
    return tuple(gate for gate in "ifgo" if gate not in absent)


def _init_bias(
    key: Key,
    inits: Preset,
    gates: tuple[str, ...],
    hidden_size: int,
    max_lag: float | None,
    dtype: DType,
) -> Array:
    draw = summed(inits.bias, inits.num_biases)
    chrono_key, *keys = jax.random.split(key, 1 + len(gates))
    blocks = {
        gate: draw(gate_key, (hidden_size,), dtype)
        for gate, gate_key in zip(gates, keys, strict=True)
    }
    if max_lag is not None:
        chrono = chrono_bias(max_lag)(chrono_key, (hidden_size,), dtype)
        blocks.update(
            {g: b for g, b in {"i": -chrono, "f": chrono}.items() if g in gates}
        )
    elif "f" in blocks:
        blocks["f"] = blocks["f"] + inits.forget_bias
    return jnp.concatenate([blocks[gate] for gate in gates])


def _unit_norm(width: int, hidden_size: int, dtype: DType) -> LSTMNorm:
    return LSTMNorm(
        jnp.ones(width, dtype),
        jnp.ones(width, dtype),
        jnp.ones(hidden_size, dtype),
        jnp.zeros(hidden_size, dtype),
    )


def _split(params: LSTMParams) -> AffineParams:
    # The bias stands outside the layer norm of the input product.
    inside, outside = (
        (params.bias, None) if params.norm is None else (None, params.bias)
    )
    rest = _Rest(outside, params.peephole, params.projection, params.norm)
    return AffineParams(params.kernel, inside, params.recurrent_kernel, rest)


def _standardise(z: Array) -> Array:
    centred = z - jnp.mean(z)
    return centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred)) + NORM_EPSILON)


def _normalised_sum(norm: LSTMNorm, bias: Array, u: Array, v: Array) -> Array:
    normed_u = _standardise(u) * norm.input_scale
    return normed_u + _standardise(v) * norm.recurrent_scale + bias


def _new_cell(
    gates: dict[str, Array],
    params: _Rest,
    c: Array,
    coupled: bool,
    forget_gate: bool,
) -> tuple[Array, Array]:
    """c′, and the output gate's pre-activation."""
    if params.peephole is not None:
        peepholes = dict(
            zip((g for g in gates if g != "g"), params.peephole, strict=True)
        )
        gates = {
            gate: z + peepholes[gate] * c if gate in "if" else z
            for gate, z in gates.items()
        }
    f = jax.nn.sigmoid(gates["f"]) if forget_gate else jnp.ones_like(c)
    i = 1 - f if coupled else jax.nn.sigmoid(gates["i"])
    c = f * c + i * jnp.tanh(gates["g"])
    if params.peephole is None:
        return c, gates["o"]
    return c, gates["o"] + params.peephole[-1] * c
