"""What came of a check, and whether that was expected.

Promises: an expected failure is no failure, and one that passes is: nothing that was expected and
did not happen goes unseen.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from cllm.errors import CllmError
from cllm.harness.verdict import (
    EXIT_FAILED,
    EXIT_HELD,
    EXIT_INCONCLUSIVE,
    Status,
    Verdict,
    exit_status,
)


@dataclass(frozen=True)
class Outcome:
    """A verdict, of whom, and how to get it again."""

    candidate: str
    """The name that it is found by."""
    label: str
    """What it calls itself."""
    verdict: Verdict
    seed: int
    reference: str | None = None
    """None: the usual one."""
    expected: str | None = None
    """Why it was expected to fail; None: it was not."""
    seconds: float = 0.0

    @property
    def title(self) -> str:
        """For people."""
        name = self.candidate
        return name if name.endswith(self.label) else f"{name} ({self.label})"

    @property
    def status(self) -> str:
        """The verdict in a word or two."""
        if self.expected is None:
            return str(self.verdict.status)
        if self.verdict.status is Status.FAIL:
            return "expected failure"
        if self.verdict.status is Status.PASS:
            return "unexpected pass"
        return str(self.verdict.status)

    @property
    def evidence(self) -> str:
        """One line."""
        line = " ".join(self.verdict.evidence.split())
        return line if self.expected is None else f"{line} (expected to fail: {self.expected})"

    @property
    def bad(self) -> bool:
        """Whether somebody has to look at it."""
        status = Status.FAIL if self.expected is None else Status.PASS
        return self.verdict.status is status

    @property
    def command(self) -> str:
        """What repeats it."""
        words = ["cllm", "check", self.candidate, "--only", self.verdict.check]
        if self.reference is not None:
            words += ["--reference", self.reference]
        return shlex.join([*words, "--seed", str(self.seed)])


def status_of(outcomes: Iterable[Outcome]) -> int:
    """The exit status: 0 good, 1 a failure or an unexpected pass, 3 only inconclusive."""
    seen = list(outcomes)
    if any(outcome.bad for outcome in seen):
        return EXIT_FAILED
    expected = [outcome for outcome in seen if outcome.status == "expected failure"]
    others = [outcome.verdict for outcome in seen if outcome not in expected]
    if expected and not any(v.status is Status.INCONCLUSIVE for v in others):
        return EXIT_HELD
    return exit_status(others) if others else EXIT_INCONCLUSIVE


def parse_expectations(given: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """Reasons by check from `NAME=REASON`; raises `CllmError` for other forms and names."""
    known = set(names)
    reasons = {}
    for text in given:
        name, equals, reason = text.partition("=")
        if not equals or not reason.strip():
            raise CllmError(f"an expected failure is NAME=REASON: got {text!r}")
        if name not in known:
            raise CllmError(f"no check is called {name!r}: {text!r} expects it to fail")
        reasons[name] = reason.strip()
    return reasons
