"""From names and numbers in the flags to cells, models, data and optimisers."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import optax
from flax import linen as nn

from experiments.common.flag_groups import OptimiserFlags, TaskFlags
from experiments.common.model_flags import ModelFlags
from experiments.common.names import (
    DATASETS,
    LANGUAGE,
    MUSIC,
    SERIES,
    SPEECH,
    TEXTS,
    TRANSCRIPTION,
    TRANSLATION,
)
from experiments.datasets.dataset import PairSplit, default_data_dir
from experiments.datasets.description import TaskDescription
from experiments.datasets.language_tasks import load_language_task
from experiments.datasets.mnist import load_mnist_task
from experiments.datasets.music_tasks import load_chorale_task
from experiments.datasets.sequences import SequenceData
from experiments.datasets.series_tasks import (
    HeldOut,
    load_held_out,
    load_series_task,
)
from experiments.datasets.speech_tasks import load_digit_strings, load_speech_task
from experiments.datasets.text_tasks import load_text_task
from experiments.datasets.translation_tasks import PAIR_LOADERS, load_translation_task
from experiments.runs.options import Options
from experiments.runs.sources import Source, stored_source, synthetic_source
from seqjax import combinators
from seqjax.cell import Cell
from seqjax.cells import CELLS
from seqjax.models import (
    BagOfWords,
    Forecaster,
    SequenceClassifier,
    SequenceLabeller,
    Translator,
)
from seqjax.tasks import TASKS
from seqjax.training import make_optimizer, make_schedule

# The parameters that make the recurrence of `exprnn` and `lru`.
_RECURRENT = ("skew", "nu_log", "theta_log", "gamma_log")


def build_source(options: TaskFlags, seed: int) -> Source:
    """Returns the task or data set of the flags, and its batches.

    Args:
      options: the flags of the task.
      seed: seed of the run.

    Raises:
      ValueError: the task cannot be made so, or its data are missing.
    """
    if options.task in DATASETS:
        return stored_source(
            load_data(options),
            batch_size=options.batch_size,
            seed=seed,
            max_length=options.max_length,
            num_buckets=options.num_buckets,
        )
    arguments: dict[str, Any] = {}
    if options.variant is not None:
        arguments["variant"] = options.variant
    if options.task == "copy_memory":
        arguments["encoding"] = options.encoding
    if options.task == "delayed_xor":
        arguments["delay"] = options.delay
    task = TASKS[options.task](options.length, **arguments)
    return synthetic_source(task, batch_size=options.batch_size, seed=seed)


def load_data(options: TaskFlags) -> SequenceData:
    """Returns the data set of the flags.

    Args:
      options: the flags of the task.

    Raises:
      DataError: the files are missing or not what they should be.
    """
    name, folder = options.task, _data_folder(options)
    size, longest = options.vocab_size, options.max_length
    if name in TEXTS:
        return load_text_task(name, folder, tokens=options.tokens, vocab_size=size)
    if name in LANGUAGE:
        return load_language_task(name, folder, vocab_size=size, max_length=longest)
    if name in TRANSLATION:
        return load_translation_task(name, folder, vocab_size=size, max_length=longest)
    if name in MUSIC:
        return load_chorale_task(folder, transpose=options.transpose)
    if name in SPEECH:
        return load_speech_task(name, folder)
    if name in TRANSCRIPTION:
        return load_digit_strings(folder)
    if name in SERIES:
        return load_series_task(
            name,
            folder,
            context=options.context,
            horizon=options.horizon,
            interval=options.interval,
        )
    return load_mnist_task(
        name, folder, cast(Literal["mnist", "mnist_5k"], options.digits)
    )


def load_pairs(options: TaskFlags) -> Mapping[str, PairSplit]:
    """Returns the sentences of a translation task, as they were written.

    Args:
      options: the flags of the task.

    Raises:
      DataError: the files are missing or not what they should be.
    """
    return PAIR_LOADERS[options.task](_data_folder(options))


def load_forecast_test(options: TaskFlags) -> HeldOut:
    """Returns the test part of a series, as it was measured, and naive forecasts.

    Args:
      options: the flags of the task.

    Raises:
      DataError: the files are missing or not what they should be.
    """
    return load_held_out(
        options.task,
        _data_folder(options),
        context=options.context,
        horizon=options.horizon,
    )


def _data_folder(options: TaskFlags) -> Path:
    folder = Path(options.data_dir).expanduser() if options.data_dir else None
    return folder or default_data_dir()


def build_cell(options: Options, input_size: int) -> Cell:
    """Returns the recurrent cell of the flags, layers and directions included.

    Args:
      options: the flags of the run.
      input_size: features of a step.

    Raises:
      ValueError: the flags do not make a cell.
    """
    layers = []
    width = input_size
    for index in range(options.num_layers):
        cell = CELLS[options.cell](width, options.hidden_size, **_cell_options(options))
        if options.h_detach:
            cell = combinators.h_detach(cell, options.h_detach)
        if options.zoneout:
            cell = combinators.zoneout(cell, options.zoneout)
        if options.bidirectional:
            cell = combinators.bidirectional(cell, merge=options.merge)
        if options.residual and index:
            cell = combinators.residual(cell)
        layers.append(cell)
        width = options.projection_size or options.hidden_size
        width *= 2 if options.bidirectional and options.merge == "concat" else 1
    if len(layers) == 1:
        return layers[0]
    return combinators.stack(*layers, dropout=options.dropout)


def _cell_options(options: ModelFlags) -> dict[str, Any]:
    """Returns the flags that are stated to have a meaning for the cell."""
    return {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(ModelFlags)
        if options.cell in field.metadata["flag"].only.get("cell", ())
    }


def build_model(options: Options, task: TaskDescription) -> nn.Module:
    """Returns the model that reads the cell's outputs as the task asks.

    Args:
      options: the flags of the run.
      task: what the model reads and answers.

    Raises:
      ValueError: the flags do not make a cell.
    """
    embedding: dict[str, Any] = {}
    if task.vocabulary:
        embedding["vocab_size"] = len(task.vocabulary)
        embedding["embedding_size"] = options.embedding_size
    if options.model == "bag_of_words":
        return BagOfWords(task.output_size, dropout_rate=options.dropout, **embedding)
    width = task.input_size or options.embedding_size
    cell = build_cell(options, width)
    shared: dict[str, Any] = embedding | {
        "dropout_rate": options.dropout,
        "window": options.window,
        "method": options.method,
        "product_dtype": _product_dtype(options),
    }
    if task.source_vocabulary:
        return Translator(
            build_cell(dataclasses.replace(options, bidirectional=False), width),
            encoder=cell,
            source_vocab_size=len(task.source_vocabulary),
            attention=options.attention,
            **shared,
        )
    if task.kind == "forecast":
        return Forecaster(
            cell,
            task.output_size,
            horizon=task.horizon,
            num_quantiles=len(task.quantiles) or None,
            **shared,
        )
    if task.kind in ("label", "multilabel", "transcribe"):
        return SequenceLabeller(cell, task.output_size, **shared)
    return SequenceClassifier(cell, task.output_size, pooling=options.pooling, **shared)


def _product_dtype(options: ModelFlags) -> str | None:
    """Returns what `unroll` rounds operands to; None leaves them as they are."""
    return None if options.product_dtype == "float32" else options.product_dtype


def build_schedule(options: Options) -> optax.Schedule:
    """Returns the learning rate as a function of the number of updates.

    Args:
      options: the flags of the run.

    Raises:
      ValueError: the flags contradict each other.
    """
    return make_schedule(
        options.schedule,
        options.learning_rate,
        num_steps=max(1, options.num_steps // options.accumulate_steps),
        warmup_steps=options.warmup_steps,
        decay_every=options.decay_every,
        decay_factor=options.decay_factor,
    )


def build_optimizer(
    options: OptimiserFlags, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Returns the optimiser of the flags.

    Args:
      options: the flags of the optimiser.
      schedule: learning rate by number of updates.

    Raises:
      ValueError: the flags contradict each other.
    """
    rates = {}
    if options.recurrent_learning_rate is not None:
        ratio = options.recurrent_learning_rate / options.learning_rate
        rates["recurrent_kernel"] = ratio
    return make_optimizer(
        options.optimizer,
        schedule,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        clip_norm=options.clip_norm or None,
        clip_value=options.clip_value or None,
        accumulate_steps=options.accumulate_steps,
        rates=rates,
        label_fn=_rate_group,
    )


def _rate_group(path: str) -> str:
    """Returns the name of a parameter; `recurrent_kernel` for what stands for one."""
    name = path.rpartition("/")[2]
    return "recurrent_kernel" if name in _RECURRENT else name
