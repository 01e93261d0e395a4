"""The tutorials' programs beside the framework that they were written for."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import torch
from flax.training.train_state import TrainState

from experiments.common.launch import parse
from experiments.runs import loop
from experiments.runs.options import Options
from seqjax import cells
from seqjax.combinators import bidirectional, stack
from seqjax.models import Forecaster, SequenceClassifier, SequenceLabeller
from seqjax.tasks import Example
from seqjax.training import (
    make_objective,
    make_optimizer,
    make_schedule,
    train_step,
)
from tests.converters import elman_from_keras, from_torch, nest
from tests.helpers import implicit_promotion

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


VOCAB, BATCH, CLASSES, UPDATES = 300, 8, 4, 6
CLASSIFIERS = {
    "the mean of an RNN": (torch.nn.RNN, 64, 128, 1, False, "mean"),
    "the last state of an LSTM": (torch.nn.LSTM, 128, 256, 1, False, "last"),
    "both directions": (torch.nn.LSTM, 128, 128, 1, True, "last"),
    "three layers, both directions": (torch.nn.LSTM, 128, 128, 3, True, "last"),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_of_packed_texts_train_like_torch(name: str) -> None:
    """Packed sequences, Adam, step decay, clipping: the same losses, update by update.

    Of the sizes of the tutorials but for the vocabulary; without dropout, whose noise
    no two frameworks share.
    """
    make, embedding_size, hidden_size, num_layers, both, pooling = CLASSIFIERS[name]
    torch.manual_seed(0)
    embedding = torch.nn.Embedding(VOCAB, embedding_size)
    net = make(
        embedding_size,
        hidden_size,
        num_layers,
        bidirectional=both,
        batch_first=True,
    )
    readout = torch.nn.Linear(hidden_size * (2 if both else 1), CLASSES)
    trained = [p for name, p in net.named_parameters() if "bias_hh" not in name]
    trained += [*embedding.parameters(), *readout.parameters()]
    optimizer = torch.optim.Adam(trained, lr=1e-2)
    decay = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)

    state = same_state(name, embedding, net, readout)
    objective = make_objective("classify", "accuracy")
    update = jax.jit(lambda state, batch, key: train_step(state, batch, key, objective))

    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for _ in range(UPDATES):
        lengths = np.sort(rng.integers(1, 13, BATCH))[::-1].copy()
        tokens = rng.integers(0, VOCAB, (BATCH, 12))
        labels = rng.integers(0, CLASSES, BATCH)
        optimizer.zero_grad()
        loss = torch_loss(embedding, net, readout, pooling, tokens, lengths, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        decay.step()
        theirs.append(loss.item())
        ones = jnp.ones(BATCH)
        example = Example(
            jnp.asarray(tokens, jnp.int32),
            jnp.asarray(labels, jnp.int32),
            ones,
            ones,
            jnp.asarray(lengths, jnp.int32),
        )
        state, metrics = update(state, example, jax.random.key(0))
        ours.append(float(metrics["loss"]))
    # Adam divides by the size of the gradient, which lets rounding grow a little.
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert np.ptp(theirs) > 0.05


def same_state(
    name: str,
    embedding: torch.nn.Embedding,
    net: torch.nn.RNNBase,
    readout: torch.nn.Linear,
) -> TrainState:
    """The classifier `name` here, with the weights of the one in torch."""
    make, embedding_size, hidden_size, num_layers, both, pooling = CLASSIFIERS[name]
    tensors = {name: p.detach().clone() for name, p in net.named_parameters()}
    suffixes = ("", "_reverse")
    params: Any = {
        "embedding": {"embedding": array(embedding.weight)},
        "cell": nest(
            lambda layer, way: from_torch(tensors, f"l{layer}{suffixes[way]}"),
            num_layers,
            both,
        ),
        "readout": {"kernel": array(readout.weight).T, "bias": array(readout.bias)},
    }
    factory = cells.elman if make is torch.nn.RNN else cells.lstm
    sizes = [embedding_size, *[hidden_size * (2 if both else 1)] * (num_layers - 1)]
    layers = [factory(size, hidden_size) for size in sizes]
    layers = [bidirectional(layer) for layer in layers] if both else layers
    model = SequenceClassifier(
        stack(*layers) if num_layers > 1 else layers[0],
        CLASSES,
        pooling=pooling,
        vocab_size=VOCAB,
        embedding_size=embedding_size,
    )
    schedule = make_schedule(
        "step", 1e-2, num_steps=UPDATES, decay_every=3, decay_factor=0.5
    )
    return TrainState.create(
        apply_fn=model.apply,
        params=params,
        tx=make_optimizer("adam", schedule, clip_norm=1.0),
    )


def array(parameter: torch.Tensor) -> jax.Array:
    # A copy: torch changes the memory of its tensors in place.
    return jnp.asarray(parameter.detach().numpy().copy())


def torch_loss(
    embedding: torch.nn.Embedding,
    net: torch.nn.RNNBase,
    readout: torch.nn.Linear,
    pooling: str,
    tokens: np.ndarray,
    lengths: np.ndarray,
    labels: np.ndarray,
) -> torch.Tensor:
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        embedding(torch.from_numpy(tokens)), torch.from_numpy(lengths), batch_first=True
    )
    outputs, state = net(packed)
    if pooling == "mean":
        padded, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
        pooled = padded.sum(1) / torch.from_numpy(lengths)[:, None]
    else:
        last = state[0]
        pooled = torch.cat([*last[-2:]], 1) if net.bidirectional else last[-1]
    return torch.nn.functional.cross_entropy(readout(pooled), torch.from_numpy(labels))


def test_u_w_and_v_have_the_shapes_of_the_first_tutorial() -> None:
    """hₜ = tanh(U xₜ + W hₜ₋₁ + b), oₜ = V hₜ + c with 2 inputs, 5 units, 3 outputs."""
    model = SequenceLabeller(cells.elman(2, 5), num_classes=3)
    xs = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    params: Any = model.init(jax.random.key(0), xs)["params"]
    (u, w, b), v = params["cell"], params["readout"]["kernel"]
    c = params["readout"]["bias"]
    shapes = [np.shape(a) for a in (u, w, b, v, c)]
    assert shapes == [(2, 5), (5, 5), (5,), (5, 3), (3,)]
    outputs: Any = model.apply({"params": params}, xs)
    h, expected = np.zeros(5), []
    for x in xs:
        h = np.tanh(x @ u + h @ w + b)
        expected.append(h @ v + c)
    np.testing.assert_allclose(outputs[1], expected, atol=1e-6)


def test_the_keras_example_gives_the_same_forecasts() -> None:
    """SimpleRNN and Dense on 100 sequences of 10 steps of 1 feature."""
    net = keras.Sequential([keras.layers.SimpleRNN(50), keras.layers.Dense(1)])
    xs = np.random.default_rng(0).normal(size=(100, 10, 1)).astype(np.float32)
    with implicit_promotion():
        expected = net(xs)
    *weights, kernel, bias = (variable.value for variable in net.trainable_variables)
    params = {
        "cell": elman_from_keras(weights),
        "readout": {"kernel": kernel, "bias": bias},
    }
    model = Forecaster(cells.elman(1, 50), output_size=1)
    outputs: Any = model.apply({"params": params}, xs)
    # Sums of 51 terms of size 1 in another order.
    np.testing.assert_allclose(outputs[1], expected, atol=1e-5)
    assert jnp.ptp(expected) > 0.1
