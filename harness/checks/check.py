"""What a check is.

Promises: every check has a dotted name and one signature, and always gives a verdict: a candidate
that raises fails, one that lacks the part is "not applicable", a check that cannot judge is
inconclusive.
Leaves out: which checks there are (`cllm.harness.checks`), processes of their own, time limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cllm.errors import CllmError
from cllm.harness.verdict import Inconclusive, Status, Verdict, from_exception
from cllm.model import Model
from cllm.plan import Operation

Function = Callable[[type[Model], type[Model], int], Verdict]
"""Of a candidate, a reference and a seed; the same seed draws the same cases."""


@dataclass(frozen=True)
class Check:
    """One named property of a candidate."""

    name: str
    """Dotted: family and property."""
    needs: frozenset[Operation]
    """What a candidate must have."""
    function: Function

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (self.function.__doc__ or "").partition("\n")[0]

    def __call__(self, candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
        """The verdict; raises `CllmError` for a reference that tolerances cannot come from."""
        require_reference(reference)
        return replace(self._verdict(candidate, reference, seed), check=self.name)

    def _verdict(self, candidate: type[Model], reference: type[Model], seed: int) -> Verdict:
        if missing := sorted(self.needs - candidate.parts):
            evidence = f"{candidate.__name__} does not offer {', '.join(missing)}"
            return Verdict(Status.NOT_APPLICABLE, evidence)
        if "float32" not in candidate.dtypes:
            evidence = f"{candidate.__name__} computes in {', '.join(candidate.dtypes)} only"
            return Verdict(Status.NOT_APPLICABLE, evidence)
        return attempt(lambda: self.function(candidate, reference, seed))


def check(name: str, *needs: Operation) -> Callable[[Function], Check]:
    """Make a function a check; `needs` are the parts that a candidate must have."""
    return lambda function: Check(name, frozenset(needs), function)


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
