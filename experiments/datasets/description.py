"""What a task asks, without its data: enough to build a model and to use it."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskDescription:
    """A task, synthetic or stored.

    Attributes:
      name: name of the task.
      kind: forecast, classify or label, as in `seqjax.tasks.Task`; multilabel: of
        `output_size` features any number at every step; or transcribe: labels in their
        order, fewer than steps.
      metric: name of a function of `seqjax.losses`.
      input_size: features of a step; 0 for tokens.
      output_size: classes, or values of a forecast.
      baseline_loss: loss on test of an answer that does not look at the inputs.
      baseline_metric: what such an answer scores on test.
      horizon: steps of a forecast.
      classes: names of the classes by number; () where they have none. Of transcribe
        the first one is the blank.
      tokens: what a step of a text reads, `characters` or `words`; "" for features.
      vocabulary: the tokens by number; () where a step has features. Of a translation
        those that are written.
      source_tokens: of a translation, what a step of the source reads, as `tokens`.
      source_vocabulary: of a translation, the tokens of the source by number.
      channels: names of the features of a step; () where they have none.
      units: unit of each channel.
      means: a model reads (value − mean) / scale of each channel; () where it reads
        features as they are given.
      scales: likewise.
      answers: of a forecast of channels, their numbers.
      from_last: whether the model forecasts the change since the last step it saw.
      quantiles: what a model forecasts of each value, rising; () for the mean.
      dropped: training sequences that are left out for their length; so are as long
        ones of valid and test.
    """

    name: str
    kind: str
    metric: str
    input_size: int
    output_size: int
    baseline_loss: float
    baseline_metric: float
    horizon: int = 1
    classes: tuple[str, ...] = ()
    tokens: str = ""
    vocabulary: tuple[str, ...] = ()
    source_tokens: str = ""
    source_vocabulary: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    means: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    answers: tuple[int, ...] = ()
    from_last: bool = False
    quantiles: tuple[float, ...] = ()
    dropped: int = 0

    def description(self) -> dict[str, Any]:
        """Returns the fields of this class by name, those of no subclass."""
        names = [field.name for field in dataclasses.fields(TaskDescription)]
        return {name: getattr(self, name) for name in names}
