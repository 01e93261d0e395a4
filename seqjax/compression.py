"""Smaller parameters: fewer bits for a weight, and weights that are zero.

What is compressed are the kernels of a tree of parameters: its floating-point leaves of
two axes or more, embeddings among them. Biases and other vectors are a small share of
all bytes, are added and not multiplied, and stay as they are.

The steps follow each other: `prune`, `quantise`, `pack`; and back `unpack`,
`dequantise`. All but `pack` can be traced.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.array_types import Array, ArrayLike, PyTree
from seqjax.checks import check_choice, check_rate
from seqjax.tree import norm_dtype

SCOPES = ("tensor", "all")
"""Among which weights the smallest are looked for; see `magnitude_masks`."""


class Quantised(NamedTuple):
    """A kernel of whole numbers, w ≈ scale · values.

    Attributes:
        values: q, the shape of the kernel, int8.
        scale: s, same number of axes, of size 1 but for the axis of the channels; dtype
            of the kernel.
    """

    values: PyTree
    scale: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sparse:
    """A kernel as the weights that are not zero, and where they stand.

    Attributes:
        mask: One bit for each weight in row-major order, the first in the highest bit
            of a byte: `[⌈size/8⌉]`, uint8.
        nonzero: The weights that are not zero, in the same order, `[count]`.
        shape: Shape of the kernel.
    """

    # PyTree: what transformations put in the place of arrays must fit as well.
    mask: PyTree
    nonzero: PyTree
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})


def quantise(params: PyTree, *, num_bits: int = 8, axis: int = -1) -> PyTree:
    """Rounds every kernel to whole numbers, symmetrically and per channel.

    s = max |w| / (2ᵇ⁻¹ − 1) over a channel,  q = round(w / s),  so |w − s q| ≤ s/2 up
    to the rounding of w / s.

    Args:
        params: Parameters with finite entries.
        num_bits: b, 2 to 8; values are stored as int8 anyway.
        axis: Axis of the channels. The last one, as here all kernels are
            `[input, output]` and an embedding is `[token, output]`.

    Returns:
        The same tree with a `Quantised` in the place of every kernel.

    Raises:
        ValueError: If `num_bits` is out of range.

    References:
        Jacob et al. (2018), Quantization and training of neural networks for efficient
        integer-arithmetic-only inference.

    Example:
        >>> import jax.numpy as jnp
        >>> small = quantise({"kernel": jnp.array([[127.0, 0.2], [-3.4, -12.7]])})
        >>> print(small["kernel"].values)
        [[ 127    2]
         [  -3 -127]]
        >>> print(dequantise(small)["kernel"])
        [[127.    0.2]
         [ -3.  -12.7]]
    """
    if not 2 <= num_bits <= 8:
        raise ValueError(f"num_bits: expected 2 to 8, got {num_bits}")
    largest = 2 ** (num_bits - 1) - 1

    def one(leaf: ArrayLike) -> Quantised:
        kernel = jnp.asarray(leaf)
        others = tuple(i for i in range(kernel.ndim) if i != axis % kernel.ndim)
        scale = jnp.max(jnp.abs(kernel), axis=others, keepdims=True) / largest
        # A channel of zeros, or of entries next to zero, becomes zeros.
        scale = jnp.where(scale < jnp.finfo(kernel.dtype).tiny, 1, scale)
        wide = norm_dtype(kernel)
        ratio = kernel.astype(wide) / scale.astype(wide)
        return Quantised(jnp.round(ratio).astype(jnp.int8), scale)

    return _map_kernels(one, params)


def dequantise(params: PyTree) -> PyTree:
    """Returns parameters with floating-point kernels again: w = s q.

    Args:
        params: From `quantise`.

    Example:
        >>> import jax.numpy as jnp
        >>> kernel = Quantised(jnp.array([[1, -2]], jnp.int8), jnp.array([[0.5, 4.0]]))
        >>> print(dequantise([kernel, jnp.ones(1)]))
        [Array([[ 0.5, -8. ]], dtype=float32), Array([1.], dtype=float32)]
    """

    def one(leaf: PyTree) -> PyTree:
        if not isinstance(leaf, Quantised):
            return leaf
        return leaf.values.astype(leaf.scale.dtype) * leaf.scale

    return jax.tree.map(one, params, is_leaf=lambda a: isinstance(a, Quantised))


def magnitude_masks(
    params: PyTree, sparsity: float, *, scope: str = "tensor"
) -> PyTree:
    """Marks the weights that stay when the smallest are taken away.

    To train on without the others, make them zero again after every update.

    Args:
        params: Parameters.
        sparsity: Share of weights to take away, in [0, 1); of n weights exactly the
            round(sparsity · n) smallest |w|, of equal ones the first.
        scope: `tensor` looks for the smallest in each kernel by itself, `all` in all
            kernels together.

    Returns:
        True for what stays, in the structure and shapes of `params`; all of what is no
        kernel.

    Raises:
        ValueError: If `sparsity` is out of range, or `scope` unknown.

    References:
        Han, Pool, Tran, Dally (2015), Learning both weights and connections for
        efficient neural networks. Narang, Diamos, Sengupta, Elsen (2017), Exploring
        sparsity in recurrent neural networks.

    Example:
        >>> import jax.numpy as jnp
        >>> params = [jnp.array([[1.0, -2.0]]), jnp.array([[3.0, 4.0]])]
        >>> print(magnitude_masks(params, 0.5))
        [Array([[False,  True]], dtype=bool), Array([[False,  True]], dtype=bool)]
        >>> print(magnitude_masks(params, 0.5, scope="all"))
        [Array([[False, False]], dtype=bool), Array([[ True,  True]], dtype=bool)]
    """
    check_rate(sparsity=sparsity)
    check_choice("scope", scope, SCOPES)
    leaves, tree = jax.tree.flatten(params)
    masks = [jnp.ones(jnp.shape(leaf), jnp.bool_) for leaf in leaves]
    kernels = [i for i, leaf in enumerate(leaves) if _is_kernel(leaf)]
    groups = [kernels] if scope == "all" else [[i] for i in kernels]
    for group in filter(None, groups):
        found = _largest([jnp.asarray(leaves[i]) for i in group], sparsity)
        for i, mask in zip(group, found, strict=True):
            masks[i] = mask
    return jax.tree.unflatten(tree, masks)


def prune(params: PyTree, sparsity: float, *, scope: str = "tensor") -> PyTree:
    """Makes the smallest weights of the kernels zero, once and without training on.

    Args:
        params: Parameters.
        sparsity: As in `magnitude_masks`.
        scope: As in `magnitude_masks`.

    Returns:
        Parameters of the same structure, shapes and dtypes.

    Raises:
        ValueError: As `magnitude_masks`.

    References:
        As `magnitude_masks`.

    Example:
        >>> import jax.numpy as jnp
        >>> print(prune(jnp.array([[1.0, -2.0], [3.0, -4.0]]), 0.5))
        [[ 0.  0.]
         [ 3. -4.]]
    """
    masks = magnitude_masks(params, sparsity, scope=scope)
    return jax.tree.map(lambda a, mask: jnp.where(mask, a, 0), params, masks)


def sparsity_of(params: PyTree) -> Array:
    """Measures the share of zeros among the weights of all kernels.

    Args:
        params: Parameters.

    Returns:
        Scalar, float32; 0 where there is no kernel.

    Example:
        >>> import jax.numpy as jnp
        >>> print(sparsity_of({"kernel": jnp.eye(4), "bias": jnp.zeros(4)}))
        0.75
    """
    kernels = [leaf for leaf in jax.tree.leaves(params) if _is_kernel(leaf)]
    zeros = sum(jnp.sum(jnp.asarray(leaf) == 0) for leaf in kernels)
    size = sum(leaf.size for leaf in kernels)
    return jnp.asarray(zeros, jnp.float32) / max(size, 1)


def pack(params: PyTree) -> PyTree:
    """Leaves out the zeros of every kernel that is smaller without them.

    Needs to know the weights, so it cannot be traced. Nothing is lost but the sign of a
    zero.

    Args:
        params: Parameters, or what `quantise` makes of them.

    Returns:
        The same tree with a `Sparse` in the place of kernels with many zeros.

    Example:
        >>> import jax.numpy as jnp
        >>> packed = pack(jnp.eye(8))
        >>> print(packed.mask, num_bytes(jnp.eye(8)), num_bytes(packed))
        [128  64  32  16   8   4   2   1] 256 40
    """

    def one(leaf: ArrayLike) -> PyTree:
        if jnp.ndim(leaf) < 2:
            return leaf
        kernel = jnp.asarray(leaf)
        kept = kernel != 0
        sparse = Sparse(jnp.packbits(kept), kernel[kept], kernel.shape)
        return sparse if num_bytes(sparse) < num_bytes(kernel) else leaf

    return jax.tree.map(one, params)


def unpack(params: PyTree) -> PyTree:
    """Returns parameters with their zeros again.

    Args:
        params: From `pack`.

    Example:
        >>> import jax.numpy as jnp
        >>> print(unpack(Sparse(jnp.array([96], jnp.uint8), jnp.array([5, 7]), (2, 2))))
        [[0 5]
         [7 0]]
    """

    def one(leaf: PyTree) -> PyTree:
        if not isinstance(leaf, Sparse):
            return leaf
        kept = jnp.unpackbits(leaf.mask, count=math.prod(leaf.shape))
        # The first of all is zero; the n-th weight that is kept is the n-th after it.
        weights = jnp.concatenate([jnp.zeros_like(leaf.nonzero, shape=1), leaf.nonzero])
        places = jnp.where(kept > 0, jnp.cumsum(kept, dtype=jnp.int32), 0)
        return weights[places].reshape(leaf.shape)

    return jax.tree.map(one, params, is_leaf=lambda a: isinstance(a, Sparse))


def num_bytes(tree: PyTree) -> int:
    """Counts the bytes of all leaves.

    Args:
        tree: Pytree of arrays.

    Example:
        >>> import jax.numpy as jnp
        >>> num_bytes(quantise({"kernel": jnp.ones((8, 4)), "bias": jnp.ones(4)}))
        64
    """
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _is_kernel(leaf: ArrayLike) -> bool:
    floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    return jnp.ndim(leaf) >= 2 and floating


def _map_kernels(fn: Callable[[ArrayLike], PyTree], params: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: fn(leaf) if _is_kernel(leaf) else leaf, params)


def _largest(kernels: list[Array], sparsity: float) -> list[Array]:
    """Masks of the kernels without the smallest weights of all together."""
    dtype = norm_dtype(kernels)
    sizes = [jnp.abs(kernel).ravel().astype(dtype) for kernel in kernels]
    sizes = jnp.concatenate(sizes)
    smallest = jnp.argsort(sizes)[: round(sparsity * sizes.size)]
    kept = jnp.ones(sizes.shape, jnp.bool_).at[smallest].set(False)
    masks, start = [], 0
    for kernel in kernels:
        masks.append(kept[start : start + kernel.size].reshape(kernel.shape))
        start += kernel.size
    return masks
