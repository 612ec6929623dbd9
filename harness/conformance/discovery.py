"""Candidates found in a process of their own: what importing them does is not done here.

Promises: an import that crashes, hangs or ends the interpreter is an error that says so; this
process imports nothing of a candidate, so that nothing of it can stand between a verdict and the
one who reads it.
"""

from __future__ import annotations

import time

from cllm.errors import CllmError
from cllm.harness import isolation
from cllm.harness.checks.check import Kind
from cllm.harness.conformance.candidate import Candidate, find, find_reference
from cllm.harness.verdict import Status, Verdict

IMPORT_SECONDS = 120.0
"""How long an import may take."""


def discover(name: str) -> list[Candidate]:
    """The candidates of this name, without their values; raises `CllmError` as `find` does."""
    verdict = isolation.isolate(_describe, name, limit=IMPORT_SECONDS)
    _raise_unless_passed(verdict, f"candidate {name!r}")
    seconds = verdict.details["seconds"]
    return [
        Candidate(found, Kind(kind), None, label, seconds)
        for found, kind, label in verdict.details["candidates"]
    ]


def require_reference(name: str, kind: Kind) -> None:
    """Raise `CllmError` unless this name is a reference for candidates of this kind."""
    verdict = isolation.isolate(_require, name, str(kind), limit=IMPORT_SECONDS)
    _raise_unless_passed(verdict, f"reference {name!r}")


def _describe(name: str) -> Verdict:
    start = time.monotonic()
    try:
        found = find(name)
    except CllmError as error:
        return Verdict(Status.FAIL, "", {"refused": str(error)})
    rows = [(one.name, str(one.kind), one.label) for one in found]
    return Verdict(Status.PASS, "", {"candidates": rows, "seconds": time.monotonic() - start})


def _require(name: str, kind: str) -> Verdict:
    try:
        find_reference(name, Kind(kind))
    except CllmError as error:
        return Verdict(Status.FAIL, "", {"refused": str(error)})
    return Verdict(Status.PASS, "")


def _raise_unless_passed(verdict: Verdict, what: str) -> None:
    if verdict.status is not Status.PASS:
        said = verdict.details.get("refused")
        raise CllmError(said or f"{what} cannot be imported: {verdict.evidence}")
