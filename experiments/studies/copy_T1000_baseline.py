"""A published loss at T = 1000 that is the loss of a guess."""

from pathlib import Path

from experiments.pictures import style
from experiments.pictures.learning import Curve, Panel, draw_learning
from experiments.studies.kit.learning import summarise
from experiments.studies.kit.study import Picture, Result
from experiments.studies.kit.training_runs import train

_PUBLISHED = 0.0204
_FLAGS = {
    "task": "copy_memory",
    "variant": "tcn",
    "length": 1000,
    "cell": "lstm",
    "hidden_size": 50,
    "batch_size": 20,
    "optimizer": "adam",
    "learning_rate": 5e-3,
    "clip_norm": 1.0,
    "eval_every": 25,
    "eval_size": 40,
    "gradient_every": 0,
    "steps_per_call": 25,
}


def measure(folder: Path, full: bool) -> Result:
    """Trains an LSTM until it knows when to answer."""
    steps = 1500 if full else 500
    run = train(folder, {"lstm": _FLAGS | {"num_steps": steps}}, full=full)["lstm"]
    baseline, end = run.task["baseline_loss"], summarise(run)
    values = {
        "baseline": baseline,
        "lstm_loss": end.loss,
        "recall_accuracy": end.metric,
    }
    lines = {
        f"guess without memory, {baseline:.4f}": baseline,
        f"published for an LSTM, {_PUBLISHED}": _PUBLISHED,
    }
    curves = {"LSTM, 50 units": [Curve(*run.series("valid", "loss"))]}
    figure = draw_learning([Panel("cross-entropy (nats)", curves, lines, log=True)])
    picture = Picture(
        style.save(figure, folder / "copy_T1000.png"),
        "Copying over a wait of 1000 steps",
        "The loss falls to that of a guess, where the published number lies as well: "
        "it says that an LSTM has learnt when to answer, and nothing else. The right "
        "symbols are one in eight.",
    )
    return Result(values, [picture])
