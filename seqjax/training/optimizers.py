"""Optimisers: clip a gradient, find a direction, scale it by the learning rate."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import optax

from seqjax.array_types import PyTree
from seqjax.checks import check_choice, check_positive
from seqjax.tree import norm

# PyTorch's values, which the published settings of this field refer to. Optax's own
# are a decay of 0.9 and an epsilon inside the root.
_RMSPROP_DECAY = 0.99
_RMSPROP_EPSILON = 1e-8
_MOMENTUM = 0.9


def _trace(momentum: float) -> optax.GradientTransformation:
    return optax.trace(momentum) if momentum else optax.identity()


def _sgd(momentum: float, weight_decay: float) -> optax.GradientTransformation:
    _refuse("weight_decay", weight_decay, "sgd", "adamw")
    return _trace(momentum)


def _momentum(momentum: float, weight_decay: float) -> optax.GradientTransformation:
    return _sgd(momentum or _MOMENTUM, weight_decay)


def _rmsprop(momentum: float, weight_decay: float) -> optax.GradientTransformation:
    _refuse("weight_decay", weight_decay, "rmsprop", "adamw")
    scale = optax.scale_by_rms(_RMSPROP_DECAY, _RMSPROP_EPSILON, eps_in_sqrt=False)
    return optax.chain(scale, _trace(momentum))


def _adam(momentum: float, weight_decay: float) -> optax.GradientTransformation:
    _refuse("momentum", momentum, "adam", "sgd or rmsprop")
    _refuse("weight_decay", weight_decay, "adam", "adamw")
    return optax.scale_by_adam()


def _adamw(momentum: float, weight_decay: float) -> optax.GradientTransformation:
    _refuse("momentum", momentum, "adamw", "sgd or rmsprop")
    return optax.chain(
        optax.scale_by_adam(), optax.add_decayed_weights(weight_decay, _is_kernel)
    )


def _is_kernel(params: PyTree) -> PyTree:
    return jax.tree.map(lambda param: param.ndim >= 2, params)


def _refuse(option: str, value: float, name: str, instead: str) -> None:
    if value:
        raise ValueError(f"{option}: {name} has none, got {value}; use {instead}")


OPTIMIZERS: Mapping[str, Callable[[float, float], optax.GradientTransformation]] = (
    MappingProxyType(
        {
            "sgd": _sgd,
            "momentum": _momentum,
            "rmsprop": _rmsprop,
            "adam": _adam,
            "adamw": _adamw,
        }
    )
)
"""Name -> direction of an update, `(momentum, weight_decay)`, before the rate."""


def make_optimizer(
    name: str,
    schedule: optax.ScalarOrSchedule,
    *,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    accumulate_steps: int = 1,
    rates: Mapping[str, float] | None = None,
    label_fn: Callable[[str], str] | None = None,
) -> optax.GradientTransformation:
    """Makes an optimiser: accumulate, clip, find a direction, scale it by the rate.

    "sgd" m ← μ m + g, direction m; "momentum" the same, with μ = 0.9 if none is given.
    "rmsprop" v ← 0.99 v + 0.01 g², direction the
    momentum of g/(√v + 1e-8). "adam" with 0.9, 0.999 and 1e-8; "adamw" adds
    `weight_decay` times the parameter to Adam's direction, for arrays of rank two and
    more: kernels, not biases.

    Args:
        name: "sgd", "momentum", "rmsprop", "adam" or "adamw".
        schedule: Learning rate, or `(update) -> rate`.
        momentum: μ of sgd, momentum and rmsprop.
        weight_decay: Of adamw, per unit of learning rate.
        clip_norm: Scales a longer gradient down to this Euclidean norm over all
            parameters; right also where the squares of its entries overflow.
        clip_value: Limits the size of every entry, before `clip_norm`.
        accumulate_steps: Number of gradients whose mean makes one update.
        rates: Factor on the learning rate, by label; 1 for other labels, 0 freezes.
        label_fn: Label of a parameter path such as "cell/0/recurrent_kernel"; the part
            after the last slash if None.

    Returns:
        An optax transformation.

    Raises:
        ValueError: If `name` is unknown, or an option does not belong to it; from
            `init`, if a label of `rates` is that of no parameter.

    References:
        Pascanu, Mikolov, Bengio (2013), On the difficulty of training recurrent neural
        networks (clipping). Kingma, Ba (2015), Adam: a method for stochastic
        optimization. Loshchilov, Hutter (2019), Decoupled weight decay regularization.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"bias": jnp.zeros(2), "kernel": jnp.zeros(2)}
        >>> optimizer = make_optimizer("sgd", 1.0, clip_norm=5.0, rates={"bias": 0.1})
        >>> gradients = {"bias": jnp.full(2, 30.0), "kernel": jnp.full(2, 40.0)}
        >>> updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        >>> print(updates["bias"], updates["kernel"])
        [-0.21213205 -0.21213205] [-2.8284273 -2.8284273]
    """
    check_choice("optimizer", name, OPTIMIZERS)
    check_positive(accumulate_steps=accumulate_steps)
    parts = [
        *_clips(clip_norm, clip_value),
        OPTIMIZERS[name](momentum, weight_decay),
        _scale_groups(rates or {}, label_fn or _parameter_name),
        optax.scale_by_learning_rate(schedule),
    ]
    optimizer = optax.chain(*parts)
    if accumulate_steps > 1:
        steps = optax.MultiSteps(optimizer, accumulate_steps)
        optimizer = steps.gradient_transformation()
    return _allow_promotion(optimizer)


def _allow_promotion(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformation:
    # Optax's Adam raises a Python float to an int32 power, which JAX refuses under
    # strict dtype promotion; the rest of a program may well be strict.
    def update(
        updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, PyTree]:
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


def make_clip(
    clip_norm: float | None = None, clip_value: float | None = None
) -> optax.GradientTransformation:
    """Makes the clipping that `make_optimizer` begins with.

    Args:
        clip_norm: As in `make_optimizer`.
        clip_value: As in `make_optimizer`.

    Returns:
        An optax transformation without state.

    Example:
        >>> import jax.numpy as jnp
        >>> clip, gradient = make_clip(clip_norm=1.0), jnp.asarray([3.0, -4.0])
        >>> print(clip.update(gradient, clip.init(gradient))[0])
        [ 0.6 -0.8]
    """
    return optax.chain(*_clips(clip_norm, clip_value))


def _clips(
    clip_norm: float | None, clip_value: float | None
) -> tuple[optax.GradientTransformation, ...]:
    return (
        optax.identity() if clip_value is None else optax.clip(clip_value),
        optax.identity() if clip_norm is None else _clip_by_norm(clip_norm),
    )


def _clip_by_norm(max_norm: float) -> optax.GradientTransformation:
    # Not optax.clip_by_global_norm: its plain norm of an exploding gradient is inf, and
    # the clipped gradient then 0 instead of a step of the largest length.
    def clip(gradients: PyTree, params: PyTree) -> PyTree:
        del params
        scale = max_norm / jnp.maximum(norm(gradients), max_norm)
        return jax.tree.map(lambda g: g * scale.astype(g.dtype), gradients)

    return optax.stateless(clip)


def _scale_groups(
    rates: Mapping[str, float], label_fn: Callable[[str], str]
) -> optax.GradientTransformation:
    def label(path: tuple) -> str:
        return label_fn(jax.tree_util.keystr(path, simple=True, separator="/"))

    def init(params: PyTree) -> optax.EmptyState:
        labels = {label(path) for path, _ in jax.tree.leaves_with_path(params)}
        if unknown := sorted(set(rates) - labels):
            raise ValueError(
                f"rates: expected labels among {', '.join(sorted(labels))}, got "
                f"{', '.join(unknown)}"
            )
        return optax.EmptyState()

    def scale(updates: PyTree, params: PyTree) -> PyTree:
        del params
        return jax.tree.map_with_path(
            lambda path, u: u * rates.get(label(path), 1), updates
        )

    return optax.stateless(scale)._replace(init=init)


def _parameter_name(path: str) -> str:
    return path.rpartition("/")[2]
