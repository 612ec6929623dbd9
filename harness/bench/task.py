"""What a competitor gives: a task that can be called again and again.

Promises: one interface for a training step, for many steps in one call, and for generation.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Kind(enum.StrEnum):
    """What is measured."""

    STEP = "step"
    """One training step a call."""
    STEPS = "steps"
    """k training steps in one call."""
    GREEDY = "greedy"
    """n tokens in one call, each the most probable one."""
    SAMPLED = "sampled"
    """n tokens in one call, each drawn at temperature 1."""

    @property
    def is_training(self) -> bool:
        """Whether it is steps that are counted, not tokens."""
        return self in (Kind.STEP, Kind.STEPS)

    @property
    def unit(self) -> str:
        """Of a rate."""
        return "steps/s" if self.is_training else "tokens/s"

    @property
    def checked_as(self) -> Kind | None:
        """The kind with the same first results; None where chance decides them."""
        return {Kind.STEPS: Kind.STEP, Kind.SAMPLED: None}.get(self, self)


class Task(ABC):
    """Built once, then called many times."""

    per_call: int = 1
    """Steps or tokens that one call makes."""

    def begin(self) -> None:  # noqa: B027  (nothing to do for training)
        """What comes before each call and is not timed: feeding the prompt."""

    @abstractmethod
    def call(self) -> Any:
        """Take the next step or steps, or generate; may return before the work is done."""

    @abstractmethod
    def values(self, output: Any) -> NDArray[np.float64]:
        """The losses or tokens (per_call,) of a call, when its work is done."""

    def evidence(self, output: Any) -> NDArray[np.float64]:
        """What is held against the reference: the losses; tokens and the logits (V,) after them."""
        return self.values(output)
