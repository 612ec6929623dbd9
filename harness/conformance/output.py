"""Outcomes for people and machines: columns, JSON, JUnit XML.

The JSON object holds `version`, 1, raised whenever a key changes its meaning; `status`: `pass`,
`fail` or `inconclusive`; and `outcomes`, one a check: `candidate`, `check`, `summary`, `status`,
`evidence`, `details`, `expected` (why it was expected to fail, else null), `seconds`, `seed`,
`reference` (null: the usual one) and `command`, which repeats it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import junitparser

from cllm.files import atomic_file
from cllm.harness.checks import CHECKS
from cllm.harness.conformance.outcome import Outcome, status_of
from cllm.harness.display import table
from cllm.harness.report import finite
from cllm.harness.verdict import EXIT_FAILED, EXIT_HELD, Status

VERSION = 1

_STATUS = {EXIT_HELD: "pass", EXIT_FAILED: "fail"}


MANY = 3
"""Candidates of which each gets a table of its own; of more, only what did not hold is told."""


def columns(outcomes: Sequence[Outcome]) -> str:
    """What every check said, and the commands that repeat what went wrong."""
    by_candidate: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_candidate.setdefault(outcome.candidate, []).append(outcome)
    if len(by_candidate) == 1:
        parts = [_table(outcomes)]
    elif len(by_candidate) <= MANY:
        parts = [f"{name}\n{_table(own)}" for name, own in by_candidate.items()]
    else:
        parts = ["\n".join(_summary(own) for own in by_candidate.values())]
        bad = [o for o in outcomes if o.bad or o.verdict.status is Status.INCONCLUSIVE]
        parts += [f"{o.title}\n{_table([o])}" for o in bad]
    again = [o.command for o in outcomes if o.bad or o.verdict.status is Status.INCONCLUSIVE]
    if again:
        parts.append("To repeat:\n" + "\n".join(f"  {command}" for command in again))
    return "\n\n".join(parts)


def _table(outcomes: Iterable[Outcome]) -> str:
    return table((o.verdict.check, o.status, o.evidence) for o in outcomes)


def _summary(outcomes: Sequence[Outcome]) -> str:
    """How many checks of a candidate said what."""
    counts = Counter(outcome.status for outcome in outcomes)
    said = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    return f"{outcomes[0].title}: {said}"


def to_json(outcomes: Sequence[Outcome]) -> str:
    """One JSON object; see above."""
    document: dict[str, Any] = {
        "version": VERSION,
        "status": _STATUS.get(status_of(outcomes), "inconclusive"),
        "outcomes": [
            {
                "candidate": outcome.candidate,
                "check": outcome.verdict.check,
                "summary": CHECKS[outcome.verdict.check].summary,
                "status": outcome.status,
                "evidence": outcome.evidence,
                "details": dict(outcome.verdict.details),
                "expected": outcome.expected,
                "seconds": round(outcome.seconds, 3),
                "seed": outcome.seed,
                "reference": outcome.reference,
                "command": outcome.command,
            }
            for outcome in outcomes
        ],
    }
    return json.dumps(finite(document), indent=1, allow_nan=False)


def write_junit(outcomes: Iterable[Outcome], path: Path) -> None:
    """JUnit XML: a suite for each candidate, a case for each check.

    What does not apply and what was expected to fail is skipped, what is inconclusive an error.
    """
    suites: dict[str, junitparser.TestSuite] = {}
    for outcome in outcomes:
        suite = suites.setdefault(outcome.candidate, junitparser.TestSuite(outcome.candidate))
        case = junitparser.TestCase(outcome.verdict.check, outcome.candidate, outcome.seconds)
        message = _printable(outcome.evidence)
        if outcome.bad:
            case.result = [junitparser.Failure(message, outcome.status)]
        elif outcome.verdict.status is Status.INCONCLUSIVE:
            case.result = [junitparser.Error(message, outcome.status)]
        elif outcome.verdict.status is not Status.PASS:
            case.result = [junitparser.Skipped(message)]
        case.system_out = f"{message}\n{outcome.command}"
        suite.add_testcase(case)
    document = junitparser.JUnitXml("cllm check")
    for suite in suites.values():
        document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    with atomic_file(path) as file:
        document.write(file)


def _printable(text: str) -> str:
    """Without the characters that XML does not allow."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
