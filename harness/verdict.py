"""What a check says.

Promises: four statuses, one line of evidence, details that JSON can hold; the exit status of a
set of verdicts. Nothing inconclusive or missing ever counts as held.
"""

from __future__ import annotations

import enum
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cllm.harness.lines import strangeness


class Status(enum.StrEnum):
    """The four things that a check can say."""

    PASS = "pass"
    FAIL = "fail"
    NOT_APPLICABLE = "not applicable"
    """The candidate declares that it does not have the part that is checked."""
    INCONCLUSIVE = "inconclusive"
    """Nothing can be said: the check could not show its power, or could not be run."""


@dataclass(frozen=True)
class Verdict:
    """Status and evidence of one check."""

    status: Status
    evidence: str
    """One line for people: what was seen and against what it was held."""
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """For the report; lists, dictionaries, strings and numbers alone."""
    check: str = ""
    """Dotted name; filled in by the table of checks."""

    @property
    def row(self) -> tuple[str, str, str]:
        """Check, verdict and evidence, each on one line."""
        return self.check, str(self.status), " ".join(self.evidence.split())


def first_failure(verdicts: Iterable[Verdict]) -> str | None:
    """Where to look first: the first failure of verdicts in the order of causes."""
    for verdict in verdicts:
        if verdict.status is Status.FAIL:
            start = verdict.details.get("start")
            return f"{verdict.check}: {start['where'] if start else verdict.evidence}"
    return None


def from_exception(error: Exception, check: str = "") -> Verdict:
    """The failure of a candidate that raised, with the line it comes from."""
    evidence = " ".join(f"{type(error).__name__}: {error}".split())
    details = {"traceback": "".join(traceback.format_exception(error))}
    return Verdict(Status.FAIL, f"{evidence}, raised at {_origin(error)}", details, check)


def _origin(error: Exception) -> str:
    """File, line and function of the candidate's innermost frame, if there is one."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    frame = min(frames, key=lambda frame: strangeness(frame.filename))
    path = Path(frame.filename)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return f"{path}:{frame.lineno} in {frame.name}"


class Inconclusive(Exception):
    """Raised inside a check that finds it cannot judge; the message is the evidence."""


EXIT_HELD, EXIT_FAILED, EXIT_INCONCLUSIVE = 0, 1, 3


def exit_status(verdicts: Iterable[Verdict]) -> int:
    """0 all held, 1 one failed, 3 none failed but one is inconclusive, or nothing was checked."""
    counts = Counter(verdict.status for verdict in verdicts)
    if counts[Status.FAIL]:
        return EXIT_FAILED
    if counts[Status.INCONCLUSIVE] or not counts[Status.PASS]:
        return EXIT_INCONCLUSIVE
    return EXIT_HELD
