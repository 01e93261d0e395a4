"""The tutorials' programs beside the framework that they were written for."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from experiments.common.launch import parse
from experiments.runs import loop
from experiments.runs.options import Options
from tests.converters import from_torch, nest

FLAGFILES = Path(__file__).parents[2] / "experiments" / "flagfiles"
EPOCHS = 15


def test_the_stock_example_trains_like_torch() -> None:
    """Two tanh layers, window 30, Adam, full batch: the same losses, epoch by epoch."""
    torch.manual_seed(0)
    net = torch.nn.RNN(1, 32, num_layers=2, batch_first=True)
    readout = torch.nn.Linear(32, 1)
    # torch trains two biases where there is one here: the second one stays.
    trained = [
        p.requires_grad_("bias_hh" not in name) for name, p in net.named_parameters()
    ]
    trained = [p for p in (*trained, *readout.parameters()) if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-3)

    flags = [f"--flagfile={FLAGFILES / 'tutorial_stock.flags'}", "--run_dir=unused"]
    programs = loop.build(parse(flags, Options))
    # A copy: torch changes the memory of its tensors in place.
    tensors = {name: p.detach().clone() for name, p in net.named_parameters()}
    params: Any = {
        "cell": nest(lambda layer, _: from_torch(tensors, f"l{layer}"), 2, False),
        "readout": {
            "kernel": jnp.array(readout.weight.detach().numpy().T),
            "bias": jnp.array(readout.bias.detach().numpy()),
        },
    }
    state = programs.initial_state()
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), state.params,
                 params)  # fmt: skip
    state = state.replace(params=jax.tree.map(np.asarray, params))

    raw = programs.source.train_batch(0)
    xs, ys = torch.from_numpy(raw.inputs), torch.from_numpy(raw.targets)
    ours, theirs = [], []
    for epoch in range(EPOCHS):
        optimizer.zero_grad()
        outputs, _ = net(xs)
        loss = torch.nn.functional.mse_loss(readout(outputs[:, -1]), ys)
        loss.backward()
        optimizer.step()
        theirs.append(loss.item())
        # The order within a full batch changes nothing but the order of sums.
        state, metrics = programs.update(state, programs.source.train_batch(epoch))
        ours.append(float(metrics["loss"]))
    # Adam divides by the size of the gradient, which lets rounding grow a little.
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert theirs[-1] < 0.8 * theirs[0]
