"""From the flags of remedies to terms beside the loss, and limits on kernels."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.runs.flow import cell_inputs, loss_of_outputs
from experiments.runs.options import Options
from seqjax.array_types import Array, PyTree
from seqjax.gradients.remedies import (
    flossing_penalty,
    limit_spectral_norm,
    omega_penalty,
    orthogonal_penalty,
)
from seqjax.tasks import Example
from seqjax.training import Objective

_Term = Callable[[PyTree, Example], Array]
_KERNEL = "recurrent_kernel"


def add_remedies(objective: Objective, options: Options, model: nn.Module) -> Objective:
    """Returns an objective with the penalties and the constraint of the flags.

    Args:
      objective: loss and metric.
      options: the flags of the run.
      model: a model around a cell.

    Raises:
      ValueError: more Lyapunov exponents are wanted than the carry has entries.
    """
    terms = _penalties(objective, options, model)
    if options.flossing:
        _check_exponents(options, model)
        objective = objective._replace(penalty=_flossing_first(terms, options, model))
    elif terms:
        objective = objective._replace(
            penalty=lambda params, batch, _: (
                _total(terms, params, batch),
                jnp.ones(()),
            )
        )
    limit, size = options.spectral_limit, options.hidden_size
    if limit is None:
        return objective

    def constraint(params: PyTree) -> PyTree:
        def one(path: tuple, leaf: Array) -> Array:
            if _name(path) != _KERNEL:
                return leaf
            return limit_spectral_norm(leaf, limit, num_blocks=leaf.shape[1] // size)

        return jax.tree.map_with_path(one, params)

    return objective._replace(constraint=constraint)


def _penalties(objective: Objective, options: Options, model: nn.Module) -> list[_Term]:
    """Terms of parameters and batch that stand beside the loss, weighted."""
    terms: list[_Term] = []
    if options.omega:

        def omega(params: PyTree, batch: Example) -> Array:
            def one(example: Example) -> Array:
                # The errors are constants in it, and so are the readout's parameters.
                loss_fn = loss_of_outputs(model, params, objective.loss, example)
                xs = cell_inputs(model, params, example.inputs)
                return omega_penalty(model.cell, params["cell"], xs, loss_fn)

            return options.omega * jnp.mean(jax.vmap(one)(batch))

        terms.append(omega)
    if options.orthogonal_penalty:

        def orthogonal(params: PyTree, batch: Example) -> Array:
            del batch
            penalties = [
                orthogonal_penalty(
                    leaf, num_blocks=leaf.shape[1] // options.hidden_size
                )
                for path, leaf in jax.tree.leaves_with_path(params)
                if _name(path) == _KERNEL
            ]
            return options.orthogonal_penalty * sum(penalties, jnp.zeros(()))

        terms.append(orthogonal)
    return terms


def _check_exponents(options: Options, model: nn.Module) -> None:
    carry = jax.eval_shape(
        lambda key: model.cell.initial_carry(model.cell.init(key)), jax.random.key(0)
    )
    size = sum(leaf.size for leaf in jax.tree.leaves(carry))
    if options.flossing_exponents > size:
        raise ValueError(
            f"--flossing_exponents={options.flossing_exponents}: expected at most "
            f"{size}, the entries of the carry of {model.cell}"
        )


def _total(terms: list[_Term], params: PyTree, batch: Example) -> Array:
    return sum((term(params, batch) for term in terms), jnp.zeros(()))


def _flossing_first(
    terms: list[_Term], options: Options, model: nn.Module
) -> Callable[[PyTree, Example, Array], tuple[Array, Array]]:
    """A penalty that is flossing alone at first, and the other terms afterwards."""

    def floss(params: PyTree, batch: Example) -> Array:
        def one(xs: Array) -> Array:
            return flossing_penalty(
                model.cell, params["cell"], xs, options.flossing_exponents
            )

        xs = cell_inputs(model, params, batch.inputs)
        return options.flossing * jnp.mean(jax.vmap(one)(xs))

    def penalty(params: PyTree, batch: Example, step: Array) -> tuple[Array, Array]:
        first = step < options.flossing_steps
        value = jax.lax.cond(
            first,
            floss,
            lambda params, batch: _total(terms, params, batch),
            params,
            batch,
        )
        return value, jnp.where(first, 0.0, 1.0)

    return penalty


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path[-1:], simple=True)
