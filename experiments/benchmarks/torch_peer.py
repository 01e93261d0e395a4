"""torch, eager as people use it, and its loop for gradient norms at every step."""

from typing import Any

import numpy as np
import torch

from experiments.benchmarks.options import Shape
from experiments.benchmarks.work import Work, inputs
from seqjax import cells

_MODULES: dict[str, Any] = {
    "lstm": torch.nn.LSTM,
    "gru": torch.nn.GRU,
    "elman": torch.nn.RNN,
}


def torch_layer(kind: str, shape: Shape) -> Any:
    """Returns torch.nn.LSTM, GRU or RNN, with the same weights every time."""
    torch.manual_seed(0)
    return _MODULES[kind](shape.input, shape.hidden, batch_first=True)


def torch_work(kind: str, shape: Shape, pass_name: str) -> Work:
    """Returns a pass of a torch layer; it gives the loss."""
    module = torch_layer(kind, shape)
    xs = torch.from_numpy(inputs(shape))

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return module(xs)[0].square().mean()

    def backward() -> torch.Tensor:
        module.zero_grad(set_to_none=True)
        loss = module(xs)[0].square().mean()
        loss.backward()
        return loss

    with torch.no_grad():
        output_shape = tuple(module(xs)[0].shape)
    return Work(
        run=forward if pass_name == "forward" else backward,
        num_params=sum(p.numel() for p in module.parameters()),
        output_shape=output_shape,
        compiled=None,
    )


class NormLoop:
    """A loop over torch.nn.LSTMCell that keeps the gradient of every carry.

    torch.nn.LSTM has no place between its steps to ask for a gradient.
    """

    def __init__(self, shape: Shape, params: cells.LSTMParams) -> None:
        """Builds the cell.

        Args:
          shape: size of the work.
          params: weights of the seqjax cell, which this one gets as well.
        """
        self._cell = torch.nn.LSTMCell(shape.input, shape.hidden)
        self._xs = torch.from_numpy(inputs(shape))
        self._state_size = (shape.batch, shape.hidden)
        copies = {
            "weight_ih": np.array(params.kernel).T,
            "weight_hh": np.array(params.recurrent_kernel).T,
            "bias_ih": np.array(params.bias),
            "bias_hh": np.zeros_like(params.bias),
        }
        self._cell.load_state_dict({k: torch.tensor(v) for k, v in copies.items()})

    def run(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns ln ‖∂L/∂hₜ‖ and ln ‖∂L/∂cₜ‖ of what enters step t, `[batch, time]`.

        The gradients of the parameters are made on the way, as in `torch_work`.
        """
        self._cell.zero_grad(set_to_none=True)
        h, c = (torch.zeros(self._state_size, requires_grad=True) for _ in "hc")
        entering, ys = [], []
        for x in self._xs.unbind(1):
            # A view enters the step: hₜ itself is an output too, whose part of the
            # gradient did not travel through time. Views cost about 7 % of the loop.
            h, c = h.view_as(h), c.view_as(c)
            h.retain_grad()
            c.retain_grad()
            entering.append((h, c))
            h, c = self._cell(x, (h, c))
            ys.append(h)
        torch.stack(ys, 1).square().mean().backward()
        parts = zip(*entering, strict=True)
        hidden, cell = (_log_norms([state.grad for state in part]) for part in parts)
        return hidden, cell


def _log_norms(gradients: list[Any]) -> torch.Tensor:
    return torch.linalg.vector_norm(torch.stack(gradients, 1), dim=-1).log()
