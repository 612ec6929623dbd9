"""What a check is.

Promises: every check has a dotted name and one signature, and always gives a verdict: a candidate
that raises fails, one that lacks the part is "not applicable", a check that cannot judge is
inconclusive.
Leaves out: which checks there are (`cllm.harness.checks`), and the process of its own and the time
limit that each runs with (`cllm.harness.isolation`).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cllm.errors import CllmError
from cllm.harness.verdict import Inconclusive, Status, Verdict, from_exception
from cllm.model import Model

Function = Callable[[Any, Any, int], Verdict]
"""Of a candidate, a reference and a seed; the same seed draws the same cases."""

TIME_LIMIT = 60.0
"""Seconds that a check may take where it names no others."""


class Kind(enum.StrEnum):
    """What a candidate is."""

    MODEL = "model"
    """A subclass of `cllm.Model`."""
    PAIR = "pair"
    """A function and its reference, with cases (`cllm.harness.pairs.pair.Pair`)."""
    TRAINER = "trainer"
    """The parts of a trainer that are no model (`cllm.harness.trainer.parts.TrainerParts`)."""


@dataclass(frozen=True)
class Check:
    """One named property of a candidate."""

    name: str
    """Dotted: family and property."""
    kind: Kind
    """Of the candidates that it is for."""
    needs: frozenset[str]
    """What a candidate must have: operations of a model, parts of a trainer."""
    limit: float
    """Seconds after which a candidate is taken to hang."""
    function: Function

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (self.function.__doc__ or "").partition("\n")[0]

    def __call__(self, candidate: Any, reference: Any, seed: int) -> Verdict:
        """The verdict; raises `CllmError` for a reference that tolerances cannot come from."""
        if self.kind is Kind.MODEL:
            require_reference(reference)
        if lacking := self._lacking(candidate):
            return Verdict(Status.NOT_APPLICABLE, lacking, check=self.name)
        verdict = attempt(lambda: self.function(candidate, reference, seed))
        return replace(verdict, check=self.name)

    def _lacking(self, candidate: Any) -> str:
        """Why this check does not apply to a candidate of its kind; empty where it does."""
        if self.kind is Kind.TRAINER:
            lacking: str = candidate.lacking(*sorted(self.needs))
            return lacking
        if self.kind is Kind.PAIR:
            return ""
        if missing := sorted(self.needs - candidate.parts):
            return f"{candidate.__name__} does not offer {', '.join(missing)}"
        if "float32" not in candidate.dtypes:
            return f"{candidate.__name__} computes in {', '.join(candidate.dtypes)} only"
        return ""


def check(
    name: str, *needs: str, kind: Kind = Kind.MODEL, limit: float = TIME_LIMIT
) -> Callable[[Function], Check]:
    """Make a function a check; `needs` are what a candidate must have."""
    return lambda function: Check(name, kind, frozenset(needs), limit, function)


def attempt(function: Callable[[], Verdict]) -> Verdict:
    """The function's verdict; what it raises is a verdict too."""
    try:
        with np.errstate(all="ignore"):  # what overflows shows in the results
            return function()
    except Inconclusive as error:
        return Verdict(Status.INCONCLUSIVE, str(error))
    except Exception as error:
        return from_exception(error)


def require_reference(reference: type[Model]) -> None:
    """Raise `CllmError` unless tolerances can be calibrated on this reference."""
    if not {"float32", "float64"} <= set(reference.dtypes):
        raise CllmError(
            "a reference computes in float32 and float64: "
            f"{reference.__name__} in {', '.join(reference.dtypes)}"
        )
