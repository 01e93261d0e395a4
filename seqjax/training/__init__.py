"""Learning rates, optimisers, and pure training steps on Flax's `TrainState`.

The one place of the library where optax enters, but for the loss of `seqjax.ctc`.
Nothing here is jitted: that is the caller's, at the outermost line of an experiment.
"""

from seqjax.training.optimizers import OPTIMIZERS, make_clip, make_optimizer
from seqjax.training.schedules import SCHEDULES, make_schedule
from seqjax.training.steps import (
    LOSSES,
    Objective,
    eval_step,
    make_objective,
    probe_train_step,
    train_step,
)

__all__ = [
    "LOSSES",
    "OPTIMIZERS",
    "SCHEDULES",
    "Objective",
    "eval_step",
    "make_clip",
    "make_objective",
    "make_optimizer",
    "make_schedule",
    "probe_train_step",
    "train_step",
]
