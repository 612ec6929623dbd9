"""What a check says.

Promises: four statuses, one line of evidence, details that JSON can hold; the exit status of a
set of verdicts. Nothing inconclusive or missing ever counts as held.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


class Status(enum.StrEnum):
    """The four things that a check can say."""

    PASS = "pass"
    FAIL = "fail"
    NOT_APPLICABLE = "not applicable"
    """The candidate declares that it does not have the part that is checked."""
    INCONCLUSIVE = "inconclusive"
    """The check could not show its power, so that holding would mean nothing."""


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
