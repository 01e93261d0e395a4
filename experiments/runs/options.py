"""All flags of `experiments.train` as one frozen record, and as text."""

import dataclasses
from typing import Any

from experiments.common.flag_groups import OptimiserFlags, TaskFlags, refuse
from experiments.common.launch import FlagSpec, format_value, groups
from experiments.common.model_flags import ModelFlags
from experiments.common.names import LANGUAGE, MUSIC, TASKS, TRANSLATION, VARIANTS
from experiments.runs.remedy_flags import RemedyFlags
from experiments.runs.run_flags import DisplayFlags, LoopFlags, RunFlags


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(
    RunFlags,
    TaskFlags,
    ModelFlags,
    OptimiserFlags,
    RemedyFlags,
    LoopFlags,
    DisplayFlags,
):
    """All flags of `experiments.train`."""

    def check(self) -> None:
        """Raises ValueError for flags that contradict each other."""
        refuse(
            not self.run_dir and not self.dry_run,
            "--run_dir: required; name the directory of the run",
        )
        refuse(
            self.variant not in (None, *VARIANTS.get(self.task, ())),
            f"--variant={self.variant}: expected one of "
            f"{', '.join(VARIANTS.get(self.task, ()))} for --task={self.task}",
        )
        refuse(
            self.eval_size == 0 and self.task in TASKS,
            f"--eval_size=0: --task={self.task} has no end; expected at least 1",
        )
        refuse(
            self.warmup_steps > self.num_steps,
            f"--warmup_steps={self.warmup_steps}: expected at most "
            f"--num_steps={self.num_steps}",
        )
        refuse(
            self.batch_size % self.host_devices > 0,
            f"--host_devices={self.host_devices}: expected a divisor of "
            f"--batch_size={self.batch_size}",
        )
        refuse(
            self.steps_per_call > 1 and self.task not in TASKS,
            f"--steps_per_call={self.steps_per_call}: expected 1 for "
            f"--task={self.task}, whose batches are read on the host, one a step",
        )
        refuse(
            self.bidirectional and self.task in (*LANGUAGE, *MUSIC),
            f"--bidirectional: expected false for --task={self.task}, where the "
            "answer to a step is the input of the next one",
        )
        refuse(
            self.model == "bag_of_words" and self.gradient_every > 0,
            f"--gradient_every={self.gradient_every}: expected 0 for "
            "--model=bag_of_words, through which no gradient travels in time",
        )
        refuse(
            self.product_dtype != "float32" and self.h_detach > 0,
            f"--product_dtype={self.product_dtype}: expected float32 with --h_detach "
            "above 0, whose noise is not part of the products' rule",
        )
        for name in ("omega", "flossing"):
            refuse(
                self.task in TRANSLATION and getattr(self, name) > 0,
                f"--{name}={getattr(self, name):g}: expected 0 for --task={self.task}, "
                "of whose model it would see the decoder alone",
            )
        self.check_model()
        self.check_remedies()

    def identity(self) -> dict[str, Any]:
        """Returns the flags that a resumed run must share with its first attempt."""
        kept = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if not field.metadata["flag"].operational
        }
        # The cosine is stretched over the steps of the run.
        return kept | (
            {"num_steps": self.num_steps} if self.schedule == "cosine" else {}
        )


def format_flags(options: Options) -> str:
    """Returns a flagfile that gives `options` again, in groups, with the defaults."""
    lines = []
    for title, fields in groups(type(options)):
        lines += ["", f"# {title}"]
        for field in fields:
            value, spec = getattr(options, field.name), field.metadata["flag"]
            lines += _comment(value, field.default, spec)
            lines.append(f"--{field.name}={format_value(value)}")
    return "\n".join(lines[1:]) + "\n"


def _comment(value: Any, default: Any, spec: FlagSpec) -> list[str]:
    if value == default:
        return []
    unit = f" {spec.unit}" if spec.unit and default is not None else ""
    return [f"# default: {format_value(default) or 'not set'}{unit}"]
