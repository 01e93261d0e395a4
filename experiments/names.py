"""Legal names of cells, tasks and the rest, as flags and `--list` show them.

They stand here because asking the library for them would import jax, which takes more
than a second; a test compares them with the library.
"""

CELLS = ("elman", "gru", "irnn", "jordan", "lstm")
VARIANTS = {
    "adding": ("halves", "anywhere", "hochreiter"),
    "copy_memory": ("urnn", "exprnn", "tcn"),
    "multiplication": ("halves", "anywhere"),
    "parity": ("final", "running"),
    "temporal_order": ("6a", "6b"),
}
TASKS = tuple(VARIANTS)
DATASETS = ("mnist_permuted", "mnist_pixels", "mnist_rows")
OPTIMIZERS = ("adam", "adamw", "momentum", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine", "step")
INITS = ("equinox", "flax", "haiku", "keras", "seqjax", "torch")
ACTIVATIONS = ("identity", "relu", "sigmoid", "tanh")
METHODS = ("auto", "scan", "checkpoint", "two_level")
PRODUCT_DTYPES = ("float32", "bfloat16")
LISTINGS = {
    "cells": CELLS,
    "tasks": TASKS,
    "optimizers": OPTIMIZERS,
    "schedules": SCHEDULES,
    "inits": INITS,
    "datasets": DATASETS,
}
