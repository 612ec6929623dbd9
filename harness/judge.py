"""From comparisons to a verdict.

Promises: one comparison out of tolerance fails; the evidence names tensor, index, got, expected
and tolerance, of the result in which a mistake shows first (`backward_order`), and the smallest
configuration that fails. A pass says that every tensor was at least once compared so tightly that
each alteration of it would have failed; where the drawn cases never allowed that, the verdict is
inconclusive.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from cllm.harness.cases import Case, Setting, draw_case, draw_cases
from cllm.harness.configurations import draw_settings, smallest_failing
from cllm.harness.tolerance import Comparison
from cllm.harness.verdict import Inconclusive, Status, Verdict, from_exception

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
    compare: Compare,
    settings: Iterable[Setting],
    seed: int,
    explain: Explain | None = None,
    *,
    drawn: int = 0,
    rounds: int = ROUNDS,
) -> Verdict:
    """The verdict over cases drawn from the settings, and one of each of `drawn` settings more.

    Where settings are drawn, the smallest that fails is searched. `explain` and `rounds` as in
    `judge`.
    """
    case: Case | None = None

    def run(of: Case) -> CaseResult:
        nonlocal case
        case = of
        return CaseResult(case, compare(case))

    results = ([run(case) for case in cases] for cases in draw_cases(settings, seed))
    more = (
        run(draw_case(setting, seed, draw % ROUNDS))
        for draw, setting in enumerate(draw_settings(seed, drawn) if drawn else ())
    )
    try:
        verdict, failed = _judge(results, more, explain, rounds)
    except Inconclusive:
        raise
    except Exception as error:
        verdict, failed = from_exception(error), [case] if case else []
    if not (failed and drawn):
        return verdict
    small = min((case.setting for case in failed), key=lambda setting: setting.work)
    draw = next(case.draw for case in failed if case.setting == small)

    def fails(setting: Setting) -> bool:
        try:
            return not all(found.passed for found in compare(draw_case(setting, seed, draw)))
        except Inconclusive:
            return False
        except Exception:  # what a candidate raises is a failure too
            return True

    return name_smallest(verdict, smallest_failing(small, fails))


def name_smallest(verdict: Verdict, setting: Setting | None) -> Verdict:
    """The verdict with the smallest setting that fails in its evidence and details, if any."""
    if setting is None:
        return verdict
    evidence = f"{verdict.evidence}; smallest failing configuration: {setting}"
    return replace(
        verdict, evidence=evidence, details={**verdict.details, "smallest": str(setting)}
    )


def judge(
    results: Iterable[list[CaseResult]], explain: Explain | None = None, rounds: int = ROUNDS
) -> Verdict:
    """Take at least so many rounds of results, and more until each tensor was compared with power.

    `explain` adds to the evidence of a failure what can be said about its case.
    """
    return _judge(results, (), explain, rounds)[0]


def _judge(
    results: Iterable[list[CaseResult]],
    more: Iterable[CaseResult],
    explain: Explain | None,
    rounds: int,
) -> tuple[Verdict, list[Case]]:
    """The verdict, and the cases that failed. The results in `more` can fail; they need no power.

    They are of configurations in which some tensors can have none, the queries of one token say.
    """
    worst: dict[str, CaseResult] = {}  # by tensor, with that one comparison
    blind: dict[str, tuple[str, ...]] = {}
    failed: list[Case] = []
    cases = 0

    def take(result: CaseResult) -> None:
        nonlocal cases
        cases += 1
        for comparison in result.comparisons:
            name = comparison.tensor
            if name not in worst or comparison.share > worst[name].comparisons[0].share:
                worst[name] = CaseResult(result.case, [comparison])
        if not all(comparison.passed for comparison in result.comparisons):
            failed.append(result.case)

    for taken, of_round in enumerate(results, 1):
        for result in of_round:
            take(result)
            for comparison in result.comparisons:
                if blind.get(comparison.tensor) != ():
                    blind[comparison.tensor] = comparison.blind_to
        if failed or (taken >= rounds and not any(blind.values())):
            break
    for result in () if failed else more:
        take(result)
    unseen = {name: alterations for name, alterations in blind.items() if alterations}
    return _verdict(list(worst.values()), unseen, cases, explain), failed


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
