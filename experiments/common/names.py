"""Legal names of cells, tasks and the rest, as flags and `--list` show them.

They stand here because asking the library for them would import jax, which takes more
than a second; a test compares them with the library.
"""

CELLS = ("elman", "exprnn", "gru", "irnn", "jordan", "lru", "lstm")
VARIANTS = {
    "adding": ("halves", "anywhere", "hochreiter"),
    "copy_memory": ("urnn", "exprnn", "tcn"),
    "delayed_xor": ("xor", "copy"),
    "long_sentence": ("random_fillers", "one_filler"),
    "multiplication": ("halves", "anywhere"),
    "parity": ("final", "running"),
    "temporal_order": ("6a", "6b"),
}
TASKS = tuple(VARIANTS)
PIXELS = ("mnist_permuted", "mnist_pixels", "mnist_rows")
TEXTS = (
    "newsgroups",
    "newsgroups_4",
    "reuters_r52",
    "reuters_r8",
    "reviews_zh",
    "snippets_en",
    "word_order",
)
LANGUAGE = ("melodies", "quatrains", "shakespeare")
MUSIC = ("chorales",)
TRANSLATION = ("help_zh_en",)
SERIES = ("random_walk", "stocks", "weather")
SPEECH = ("japanese_vowels", "spoken_digits")
TRANSCRIPTION = ("digit_strings",)
DATASETS = (
    *PIXELS,
    *TEXTS,
    *LANGUAGE,
    *TRANSLATION,
    *MUSIC,
    *SERIES,
    *SPEECH,
    *TRANSCRIPTION,
)
MODELS = ("bag_of_words", "rnn")
OPTIMIZERS = ("adam", "adamw", "momentum", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine", "step")
INITS = ("equinox", "flax", "haiku", "keras", "seqjax", "torch")
ACTIVATIONS = ("identity", "relu", "sigmoid", "tanh")
ATTENTIONS = ("none", "additive", "dot")
METHODS = ("auto", "scan", "checkpoint", "two_level")
PRODUCT_DTYPES = ("float32", "bfloat16")
# In the order in which the page of `experiments.reproduce` tells them.
STUDIES = (
    "conformance",
    "float32_floor",
    "framework_defaults",
    "init_decay",
    "forget_bias_and_chrono",
    "random_net_chaos",
    "exploding_product",
    "curse_of_memory",
    "chaotic_lstm",
    "newton_iterations",
    "tbptt_bias",
    "adding_cells_T100",
    "slope_leads_loss",
    "copy_T100_lstm_vs_orthogonal",
    "copy_T1000_baseline",
    "temporal_order_6a",
    "hochreiter_adding",
    "hdetach_copy",
    "flossing_delayed_xor",
    "long_sentence",
)
# Training flagfiles, in the same order.
SYSTEMS = (
    "adding_lstm",
    "parity",
    "temporal_order",
    "copy_memory",
    "mnist_rows",
    "mnist_pixels",
    "mnist_pixels_lstm",
    "mnist_pixels_lru",
    "mnist_permuted",
    "mnist_permuted_lru",
    "word_order_lstm",
    "word_order_bag",
    "tutorial_stock",
    "tutorial_classifier",
    "tutorial_lstm",
    "tutorial_bilstm",
    "reuters_r8",
    "reuters_r52",
    "reviews_zh",
    "snippets_en",
    "snippets_bag",
    "spoken_digits",
    "digit_strings",
    "japanese_vowels",
    "translation",
    "translation_plain",
    "shakespeare",
    "quatrains",
    "melodies",
    "chorales",
    "weather",
    "stocks",
)
# Studies of all kinds of data, told after the systems.
DATA_STUDIES = (
    "text_baselines",
    "variable_lengths",
    "input_pipeline",
    "decay_on_real_data",
)
LISTINGS = {
    "cells": CELLS,
    "tasks": TASKS,
    "optimizers": OPTIMIZERS,
    "schedules": SCHEDULES,
    "inits": INITS,
    "datasets": DATASETS,
}
