"""How a model is trained: the options of `cllm train`, with their defaults, ranges and help.

Promises: settings that exist are valid. What decides the result (`Settings`) is kept apart from
how a run is carried out (`RunSettings`): a resumed run may change the latter and the epochs.
Leaves out: the sizes of the model (`cllm.Config`) and the tokenizer (`cllm.text.tokenizer`).
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field, fields
from typing import Any

from cllm.check import MAX_SIZE
from cllm.errors import CllmError
from cllm.plan import MAX_THREADS
from cllm.training.schedule import SCHEDULES

OPTIMIZERS = ("adam", "adamw")


@dataclass(frozen=True)
class Range:
    """What a setting may be, and how its help describes it."""

    help: str
    low: float = 0
    high: float = MAX_SIZE
    open_low: bool = False
    """The value must be greater than `low`."""
    open_high: bool = False
    choices: tuple[str, ...] = ()

    def holds(self, value: float) -> bool:
        """Whether a number lies in the range; NaN and integers beyond float64 do not."""
        if abs(value) > sys.float_info.max:
            return False
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"{left}{self.low:.10g}, {self.high:.10g}{right}"


def _setting(default: Any, help: str, **limits: Any) -> Any:
    return field(default=default, metadata={"range": Range(help, **limits)})


class _Checked:
    """Settings whose fields are checked against their `Range` and their default's type."""

    def __post_init__(self) -> None:
        for setting in fields(self):  # type: ignore[arg-type]
            value, wanted = getattr(self, setting.name), type(setting.default)
            limits: Range = setting.metadata["range"]
            if wanted is str:
                if not isinstance(value, str) or (limits.choices and value not in limits.choices):
                    allowed = f"one of {', '.join(limits.choices)}" if limits.choices else "a text"
                    raise CllmError(f"{setting.name} must be {allowed}: got {value!r:.80}")
                continue
            number = isinstance(value, int if wanted is int else int | float)
            if not number or isinstance(value, bool) or not limits.holds(value):
                kind = "an integer" if wanted is int else "a number"
                raise CllmError(f"{setting.name} must be {kind} in {limits}: got {value!r:.80}")


@dataclass(frozen=True)
class Settings(_Checked):
    """What decides the result of training, beside the model's sizes and the text.

    Raises `CllmError` for a value out of range, and for a weight decay without adamw.
    """

    batch_size: int = _setting(8, "B, windows of text in one batch.", low=1)
    seq_len: int = _setting(64, "T, tokens in one window: what the model can look back on.", low=1)
    epochs: int = _setting(1, "How often the whole text is trained on.", low=1)
    learning_rate: float = _setting(
        1e-3, "The highest learning rate.", high=math.inf, open_low=True, open_high=True
    )
    optimizer: str = _setting(
        "adamw", "adamw is adam with decoupled weight decay.", choices=OPTIMIZERS
    )
    weight_decay: float = _setting(
        0.01,
        "Share of each parameter lost a step, times the rate; with adam 0.",
        high=math.inf,
        open_high=True,
    )
    clip: float = _setting(
        1.0, "Largest norm of the gradient; 0 clips nothing.", high=math.inf, open_high=True
    )
    schedule: str = _setting(
        "cosine", "How the learning rate falls after the warm-up.", choices=SCHEDULES
    )
    warmup: int = _setting(100, "Steps in which the learning rate rises to its highest.")
    accumulate: int = _setting(1, "Batches whose gradients are added up for one step.", low=1)
    validation_fraction: float = _setting(
        0.1, "Share of the tokens, at the end, held out for validation.", high=1, open_high=True
    )
    validation_batches: int = _setting(
        100, "Batches, spread evenly over the held-out tokens, of one validation; 0: all of them."
    )
    seed: int = _setting(0, "Decides the first parameters and the order of the windows.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimizer == "adam" and self.weight_decay:
            raise CllmError(
                f"weight_decay {self.weight_decay:g} needs the optimizer adamw: adam has none"
            )


@dataclass(frozen=True)
class RunSettings(_Checked):
    """How a run is carried out; a resumed run may change all of it."""

    model: str = _setting("optimized", "reference, optimized or module:Class.")
    threads: int = _setting(0, "Threads; 0 uses every core.", high=MAX_THREADS)
    checkpoint_every: int = _setting(
        500, "Steps between checkpoints; 0: only at the end of an epoch."
    )
    keep: int = _setting(3, "Newest checkpoints to keep, besides the best.", low=1)
    log_every: int = _setting(10, "Steps between two lines of metrics.jsonl.", low=1)
