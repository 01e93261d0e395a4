"""The equations of the cells for one step of one sequence, in NumPy float64.

They are written gate by gate from the papers and docstrings, and share nothing with
`seqjax.cells` but the names and the layout of params and carry.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

PyTree = Any
Step = Callable[..., tuple[PyTree, np.ndarray]]


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-a))


ACTIVATIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "relu": lambda a: np.maximum(a, 0.0),
    "sigmoid": sigmoid,
    "identity": lambda a: a,
}


def in_float64(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def unroll_numpy(
    step: Step, params: PyTree, xs: np.ndarray, carry: PyTree
) -> tuple[PyTree, np.ndarray]:
    """A Python loop over the steps of one sequence, `[time, input]`."""
    ys = []
    for x in xs:
        carry, y = step(params, carry, x)
        ys.append(y)
    return carry, np.stack(ys)


def elman(
    params: PyTree, carry: PyTree, x: np.ndarray, *, activation: str = "tanh"
) -> tuple[PyTree, np.ndarray]:
    """h′ = φ(x W + h R + b)."""
    phi = ACTIVATIONS[activation]
    h = phi(x @ params.kernel + carry.hidden @ params.recurrent_kernel + params.bias)
    return carry._replace(hidden=h), h


def exprnn(
    params: PyTree, carry: PyTree, x: np.ndarray, *, activation: str = "modrelu"
) -> tuple[PyTree, np.ndarray]:
    """h′ = sign(z) max(0, |z| + b) with z = x W + h R, or φ(z + b)."""
    z = x @ params.kernel + carry.hidden @ rotation(params.skew, len(carry.hidden))
    if activation == "modrelu":
        h = np.sign(z) * np.maximum(np.abs(z) + params.bias, 0.0)
    else:
        h = ACTIVATIONS[activation](z + params.bias)
    return carry._replace(hidden=h), h


def rotation(skew: np.ndarray, size: int) -> np.ndarray:
    """exp(A) by the eigenvectors of the Hermitian i A: A = V diag(−i w) Vᴴ."""
    upper = np.zeros((size, size))
    upper[np.triu_indices(size, 1)] = skew
    w, v = np.linalg.eigh(1j * (upper - upper.T))
    return np.real((v * np.exp(-1j * w)) @ v.conj().T)


def lru(
    params: PyTree,
    carry: PyTree,
    x: np.ndarray,
    *,
    output_activation: str = "identity",
) -> tuple[PyTree, np.ndarray]:
    """s′ = λ ∘ s + γ ∘ (x B),  y = φ(Re(s′ C) + x D), in complex numbers."""

    def paired(a: np.ndarray) -> np.ndarray:
        real, imaginary = np.split(a, 2, axis=-1)
        return real + 1j * imaginary

    eigenvalues = np.exp(-np.exp(params.nu_log) + 1j * np.exp(params.theta_log))
    entering = np.exp(params.gamma_log) * (x @ paired(params.kernel))
    s = eigenvalues * paired(carry.state) + entering
    # Re C stands above −Im C.
    c = np.conj(paired(params.output_kernel.T)).T
    y = np.real(s @ c) + x @ params.skip_kernel
    state = np.concatenate([s.real, s.imag])
    return carry._replace(state=state), ACTIVATIONS[output_activation](y)


def irnn(params: PyTree, carry: PyTree, x: np.ndarray) -> tuple[PyTree, np.ndarray]:
    """h′ = max(0, x W + h R + b)."""
    return elman(params, carry, x, activation="relu")


def jordan(
    params: PyTree,
    carry: PyTree,
    x: np.ndarray,
    *,
    leak: float = 0.0,
    activation: str = "tanh",
    output_activation: str = "identity",
) -> tuple[PyTree, np.ndarray]:
    """h = φ(x W + s U + b),  y = ψ(h V + d),  s′ = α s + y."""
    phi, psi = ACTIVATIONS[activation], ACTIVATIONS[output_activation]
    h = phi(x @ params.kernel + carry.output @ params.recurrent_kernel + params.bias)
    y = psi(h @ params.output_kernel + params.output_bias)
    return carry._replace(output=leak * carry.output + y), y


def layer_norm(z: np.ndarray) -> np.ndarray:
    """(z − mean z) / √(var z + 1e-5)."""
    return (z - z.mean()) / np.sqrt(z.var() + 1e-5)


def lstm(
    params: PyTree,
    carry: PyTree,
    x: np.ndarray,
    *,
    peephole: bool = False,
    coupled: bool = False,
    forget_gate: bool = True,
    projection: bool = False,
    layer_normed: bool = False,
) -> tuple[PyTree, np.ndarray]:
    """c′ = σ(f) ∘ c + σ(i) ∘ tanh(g),  h′ = σ(o) ∘ tanh(c′), and the variants."""
    h, c = carry.hidden, carry.cell
    size = len(c)
    names = "fgo" if coupled else "ifgo" if forget_gate else "igo"
    from_x, from_h = x @ params.kernel, h @ params.recurrent_kernel
    if layer_normed:
        from_x = layer_norm(from_x) * params.norm.input_scale
        from_h = layer_norm(from_h) * params.norm.recurrent_scale
    total = from_x + from_h + params.bias
    z = {name: total[k * size : (k + 1) * size] for k, name in enumerate(names)}
    p = dict.fromkeys("ifo", np.zeros(size))
    if peephole:
        p |= dict(zip(names.replace("g", ""), params.peephole, strict=True))
    f = sigmoid(z["f"] + p["f"] * c) if forget_gate else np.ones(size)
    i = 1.0 - f if coupled else sigmoid(z["i"] + p["i"] * c)
    c = f * c + i * np.tanh(z["g"])
    o = sigmoid(z["o"] + p["o"] * c)
    read = c
    if layer_normed:
        read = layer_norm(c) * params.norm.cell_scale + params.norm.cell_bias
    h = o * np.tanh(read)
    if projection:
        h = h @ params.projection
    return carry._replace(hidden=h, cell=c), h


def gru(
    params: PyTree, carry: PyTree, x: np.ndarray, *, reset_after: bool = True
) -> tuple[PyTree, np.ndarray]:
    """h′ = (1 − z) ∘ n + z ∘ h."""
    h = carry.hidden
    w_r, w_z, w_n = np.split(params.kernel, 3, axis=1)
    u_r, u_z, u_n = np.split(params.recurrent_kernel, 3, axis=1)
    b_r, b_z, b_n = np.split(params.bias, 3)
    r = sigmoid(x @ w_r + h @ u_r + b_r)
    z = sigmoid(x @ w_z + h @ u_z + b_z)
    if reset_after:
        n = np.tanh(x @ w_n + b_n + r * (h @ u_n + params.recurrent_bias))
    else:
        n = np.tanh(x @ w_n + b_n + (r * h) @ u_n)
    h = (1.0 - z) * n + z * h
    return carry._replace(hidden=h), h
