"""From comparisons to a verdict.

Promises: one comparison out of tolerance fails; the evidence names tensor, index, got, expected
and tolerance, of the result in which a mistake shows first (`backward_order`). A pass says that
every tensor was at least once compared so tightly that each
alteration of it would have failed; where the drawn cases never allowed that, the verdict is
inconclusive.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from cllm.harness.cases import Case, Setting, draw_cases
from cllm.harness.tolerance import Comparison
from cllm.harness.verdict import Status, Verdict

ROUNDS = 3
"""Rounds that are always taken: full and smaller batches, with a divisor of their own or not."""

REACHED = ("ff_out", "ff_in", "ln2", "qkv", "ln1")
"""The parts of a layer in the order in which backward reaches them."""


@dataclass(frozen=True)
class CaseResult:
    """A case and what was compared on it."""

    case: Case
    comparisons: list[Comparison]


Compare = Callable[[Case], list[Comparison]]
Explain = Callable[[Case], str]


def compare_cases(
    compare: Compare, settings: Iterable[Setting], seed: int, explain: Explain | None = None
) -> Verdict:
    """The verdict over cases drawn from the settings; `explain` as in `judge`."""
    rounds = (
        [CaseResult(case, compare(case)) for case in cases] for cases in draw_cases(settings, seed)
    )
    return judge(rounds, explain)


def judge(rounds: Iterable[list[CaseResult]], explain: Explain | None = None) -> Verdict:
    """Take at least `ROUNDS` of results, and more until each tensor has been compared with power.

    `explain` adds to the evidence of a failure what can be said about its case.
    """
    worst: dict[str, CaseResult] = {}  # by tensor, with that one comparison
    blind: dict[str, tuple[str, ...]] = {}
    cases = 0
    for taken, results in enumerate(rounds, 1):
        for result in results:
            cases += 1
            for comparison in result.comparisons:
                name = comparison.tensor
                if name not in worst or comparison.share > worst[name].comparisons[0].share:
                    worst[name] = CaseResult(result.case, [comparison])
                if blind.get(name) != ():
                    blind[name] = comparison.blind_to
        if any(not result.comparisons[0].passed for result in worst.values()):
            break
        if taken >= ROUNDS and not any(blind.values()):
            break
    return _verdict(list(worst.values()), {k: v for k, v in blind.items() if v}, cases, explain)


def _verdict(
    worst: list[CaseResult],
    blind: dict[str, tuple[str, ...]],
    cases: int,
    explain: Explain | None,
) -> Verdict:
    if not worst:
        return Verdict(Status.INCONCLUSIVE, "nothing was compared")
    details = {"cases": cases, "tensors": [_row(result) for result in worst]}
    failed = [result for result in worst if not result.comparisons[0].passed]
    if failed:
        start = min(failed, key=_start)
        comparison = start.comparisons[0]
        beyond = f"{len(failed)} of {_count(len(worst), 'result')} beyond the tolerance"
        evidence = f"{comparison} ({beyond}; {start.case})"
        why = explain(start.case) if explain else ""
        where = why.partition(": ")[0] or f"starts at {comparison.tensor}"
        details["start"] = {"tensor": comparison.tensor, "where": where}
        return Verdict(Status.FAIL, f"{evidence}; {why}" if why else evidence, details)
    if blind:
        name, alterations = next(iter(blind.items()))
        evidence = f"{name} could not be told from {', '.join(alterations)} in {cases} cases"
        return Verdict(Status.INCONCLUSIVE, evidence, details)
    comparison = max((result.comparisons[0] for result in worst), key=lambda c: c.share)
    names = [result.comparisons[0].tensor for result in worst]
    what = " and ".join(names) if len(names) <= 2 else f"all {len(names)} results"
    evidence = (
        f"{what} within the tolerance in {_count(cases, 'random case')}; "
        f"the closest to it is {comparison.tensor}, {comparison.share:.2g}× the tolerance"
    )
    return Verdict(Status.PASS, evidence, details)


def backward_order(tensor: str) -> tuple[int, int, int]:
    """Where in backward the gradient of a tensor comes up, the earliest first.

    The last layer's feed-forward is reached first and the embedding last: a mistake spreads from
    there to all that follow. What is no tensor of parameters, a loss say, comes before them.
    """
    if layered := re.search(r"layer(\d+)\.(ff_out|ff_in|ln2|qkv|ln1)", tensor):
        return 1, -int(layered[1]), REACHED.index(layered[2])
    return (2, 0, 0) if "embedding" in tensor else (0, 0, 0)


def _start(result: CaseResult) -> tuple[int, int, int, float]:
    """The first in the order of backward; of equals the one that is furthest off."""
    comparison = result.comparisons[0]
    return (*backward_order(comparison.tensor), -comparison.share)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _row(result: CaseResult) -> dict[str, Any]:
    """A comparison for the report."""
    comparison = result.comparisons[0]
    return {
        "tensor": comparison.tensor,
        "share": comparison.share,
        "error": comparison.error,
        "tolerance": comparison.tolerance,
        "index": list(comparison.index),
        "got": comparison.got,
        "expected": comparison.expected,
        "case": str(result.case),
    }
