"""What a comparison found: the document behind the report, and its verdict.

Promises: `Comparison.to_dict` and `from_dict` are inverse; numbers, strings and lists alone.
All ratios are head over base of a speed: below 1, head is slower.
Leaves out: how it was found (`cllm.harness.compare.session`), how it is shown.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cllm.errors import CllmError

VERSION = 1

ELSEWHERE = "counted of training steps, on one thread"
"""Why the others have no instructions."""

EXIT_GOOD, EXIT_WORSE, EXIT_INCONCLUSIVE = 0, 1, 3


class Outcome(enum.StrEnum):
    """What can be said of one benchmark."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"
    """A difference of the minimum effect or more is excluded."""
    INCONCLUSIVE = "inconclusive"
    """The time was up, or base could not be measured; the reason says which."""
    FAILED = "failed"
    """Head cannot be measured, or computes something else than base."""


@dataclass(frozen=True)
class Interval:
    """A ratio, and the ends of its interval."""

    ratio: float
    low: float
    high: float
    confidence: float = 0.95


@dataclass(frozen=True)
class Instructions:
    """What callgrind counted in the step, on one thread; ratio head over base: above 1 is more."""

    base: int
    head: int
    ratio: float
    verdict: str
    """same, more or fewer, at the gate of 0.1%."""


@dataclass(frozen=True)
class Entry:
    """One benchmark on both sides."""

    name: str
    """`small step`"""
    configuration: str
    kind: str
    threads: int
    unit: str
    """steps/s or tokens/s"""
    outcome: Outcome
    reason: str
    """One line."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """V, D, L, H, F, B, T by their names."""
    ratio: Interval | None = None
    """The bootstrap interval of 95%."""
    decision: Interval | None = None
    """The interval that decided; its confidence pays for every look."""
    noise: Interval | None = None
    """Each side against itself, in the same session: what this machine makes of no difference."""
    detectable: float | None = None
    """The smallest effect (0.02 is 2%) that would have been seen in 95 of 100 sessions."""
    base: Sequence[float] = ()
    """Rates, one a process; the n-th of each of the four are of one round."""
    base_again: Sequence[float] = ()
    head: Sequence[float] = ()
    head_again: Sequence[float] = ()
    peaks: Sequence[float] = ()
    """FLOP/s of the machine with these threads, undisturbed, measured in between."""
    flops: int = 0
    """Of one step, or of one generated token."""
    seconds: float = 0.0
    instructions: Instructions | None = None
    instructions_reason: str = ""
    """Why they were not counted."""


@dataclass(frozen=True)
class Side:
    """What was compared."""

    name: str
    """As it was given: a revision, a wheel, a candidate."""
    kind: str
    """revision, wheel or candidate"""
    version: str = ""
    commit: Mapping[str, Any] | None = None
    """sha, time, subject, branch, dirty"""


@dataclass(frozen=True)
class Comparison:
    """Everything that was found in one session."""

    created: str
    """UTC, ISO 8601."""
    base: Side
    head: Side
    entries: Sequence[Entry]
    machine: Mapping[str, Any]
    level: str
    settings: Mapping[str, Any]
    seconds: float
    probe: Mapping[str, Any]
    """What the machine could do: `level`, by threads `fma` in FLOP/s and `read` in bytes/s."""

    @property
    def outcome(self) -> Outcome:
        """The worst that was found: failed before slower before inconclusive before the others."""
        found = {entry.outcome for entry in self.entries}
        for outcome in (Outcome.FAILED, Outcome.SLOWER, Outcome.INCONCLUSIVE, Outcome.FASTER):
            if outcome in found:
                return outcome
        return Outcome.SAME if found else Outcome.INCONCLUSIVE

    @property
    def exit_status(self) -> int:
        """0, 1 where something is slower or failed, 3 where something could not be decided."""
        match self.outcome:
            case Outcome.SLOWER | Outcome.FAILED:
                return EXIT_WORSE
            case Outcome.INCONCLUSIVE:
                return EXIT_INCONCLUSIVE
        return EXIT_GOOD

    def to_dict(self) -> dict[str, Any]:
        """What `comparison.json` holds."""
        return {"version": VERSION, "kind": "comparison", "outcome": str(self.outcome)} | asdict(
            self
        )

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Comparison:
        """The comparison of a document. Raises `CllmError` where it is none of this version."""
        if document.get("kind") != "comparison" or document.get("version") != VERSION:
            raise CllmError(
                f"not a comparison of version {VERSION}: "
                f"kind {document.get('kind')!r}, version {document.get('version')!r}"
            )
        values = {key: document[key] for key in cls.__dataclass_fields__}
        values["base"], values["head"] = Side(**document["base"]), Side(**document["head"])
        values["entries"] = tuple(_entry(entry) for entry in document["entries"])
        return cls(**values)


def _entry(values: Mapping[str, Any]) -> Entry:
    entry = dict(values)
    entry["outcome"] = Outcome(entry["outcome"])
    for name in ("ratio", "decision", "noise"):
        entry[name] = entry[name] and Interval(**entry[name])
    entry["instructions"] = entry["instructions"] and Instructions(**entry["instructions"])
    return Entry(**entry)
