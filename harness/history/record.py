"""What the history keeps: runs, and the results of each.

Promises: plain values; two results belong to one series exactly if their `series` are equal.
Leaves out: where they are kept (`cllm.harness.history.store`).
"""

from __future__ import annotations

import enum
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from cllm.errors import CllmError

DIGITS = 12
"""Of a digest in hexadecimal: two of a million differ but for a chance of one in 500."""

MACHINE_FIELDS = ("cpu", "architecture", "cores", "usable_cores")
"""What makes a machine another one; load and versions do not."""


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str)


class Better(enum.StrEnum):
    """Which way is good."""

    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True)
class Commit:
    """The revision that was measured."""

    sha: str
    time: datetime
    """Of the commit, with its time zone."""
    subject: str = ""
    branch: str = ""
    dirty: bool = False
    """Whether the sources were changed after it."""


class Series(NamedTuple):
    """What is compared with itself over time."""

    benchmark: str
    candidate: str
    metric: str
    threads: int
    machine: str
    """The digest of the machine."""
    level: str
    configuration: str
    """The digest of the sizes."""


@dataclass(frozen=True, slots=True)
class Result:
    """One figure of a run. Raises `CllmError` where it is no number or has no name."""

    benchmark: str
    """What was measured: `small step`, `medium linear_forward`, `import`."""
    candidate: str
    """Of whom: `optimized`, `mymodel:MyModel`, `PyTorch compiled step`."""
    metric: str
    """The unit: steps/s, tokens/s, s, bytes, instructions."""
    value: float
    """The median of the samples where there are any."""
    threads: int = 1
    better: Better = Better.HIGHER
    samples: tuple[float, ...] = ()
    """Block by block."""
    share: float | None = None
    """Of the machine's own peak, measured in the same run."""
    configuration: Mapping[str, Any] = field(default_factory=dict)
    """Sizes; a change of them starts a new series."""

    def __post_init__(self) -> None:
        for name in ("benchmark", "candidate", "metric"):
            if not getattr(self, name):
                raise CllmError(
                    f"result without a {name}: {self.benchmark!r} of {self.candidate!r}"
                )
        for number in (self.value, *self.samples):
            if not math.isfinite(number):
                raise CllmError(
                    f"{self.benchmark} of {self.candidate}: {number!r} {self.metric}, "
                    "must be a finite number"
                )


@dataclass(frozen=True)
class Run:
    """Results that were measured together."""

    id: str
    """Of its own; the same run added twice is kept once."""
    created: datetime
    """With its time zone."""
    source: str
    """Who measured: `bench`, `compare`, `pytest-benchmark`."""
    machine: Mapping[str, Any]
    """`cllm.harness.machine.fingerprint`"""
    level: str
    """The instruction set that was used."""
    results: tuple[Result, ...]
    commit: Commit | None = None

    @cached_property
    def machine_digest(self) -> str:
        """What its series know the machine by."""
        return machine_digest(self.machine)

    def series(self, result: Result) -> Series:
        """The series that a result of this run belongs to."""
        return Series(
            result.benchmark,
            result.candidate,
            result.metric,
            result.threads,
            self.machine_digest,
            self.level,
            digest(result.configuration),
        )


def machine_digest(machine: Mapping[str, Any]) -> str:
    """The same for the same processor, number of cores and cores that may be used."""
    return digest({name: machine.get(name) for name in MACHINE_FIELDS})


def digest(value: Mapping[str, Any]) -> str:
    """The first hexadecimal digits of the SHA-256 of canonical JSON."""
    return hashlib.sha256(_CANONICAL.encode(value).encode()).hexdigest()[:DIGITS]
