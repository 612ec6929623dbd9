"""From comparisons to a verdict.

Promises: one comparison out of tolerance fails; the evidence names tensor, index, got, expected
and tolerance. A pass says that every tensor was at least once compared so tightly that each
alteration of it would have failed; where the drawn cases never allowed that, the verdict is
inconclusive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from cllm.harness.cases import Case, Setting, draw_cases
from cllm.harness.tolerance import Comparison
from cllm.harness.verdict import Status, Verdict

ROUNDS = 3
"""Rounds that are always taken: full and smaller batches, with a divisor of their own or not."""


@dataclass(frozen=True)
class Trial:
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
        [Trial(case, compare(case)) for case in cases] for cases in draw_cases(settings, seed)
    )
    return judge(rounds, explain)


def judge(rounds: Iterable[list[Trial]], explain: Explain | None = None) -> Verdict:
    """Take at least `ROUNDS` of trials, and more until each tensor has been compared with power.

    `explain` adds to the evidence of a failure what can be said about its case.
    """
    worst: dict[str, Trial] = {}  # by tensor, with that one comparison
    blind: dict[str, tuple[str, ...]] = {}
    cases = 0
    for taken, trials in enumerate(rounds, 1):
        for trial in trials:
            cases += 1
            for comparison in trial.comparisons:
                name = comparison.tensor
                if name not in worst or comparison.share > worst[name].comparisons[0].share:
                    worst[name] = Trial(trial.case, [comparison])
                if blind.get(name) != ():
                    blind[name] = comparison.blind_to
        if any(not trial.comparisons[0].passed for trial in worst.values()):
            break
        if taken >= ROUNDS and not any(blind.values()):
            break
    return _verdict(list(worst.values()), {k: v for k, v in blind.items() if v}, cases, explain)


def _verdict(
    worst: list[Trial],
    blind: dict[str, tuple[str, ...]],
    cases: int,
    explain: Explain | None,
) -> Verdict:
    if not worst:
        return Verdict(Status.INCONCLUSIVE, "nothing was compared")
    details = {"cases": cases, "tensors": [_row(trial) for trial in worst]}
    # The first of equals: a missing value is infinitely wrong in every tensor after it as well.
    top = max(worst, key=lambda trial: trial.comparisons[0].share)
    comparison = top.comparisons[0]
    failed = sum(not trial.comparisons[0].passed for trial in worst)
    if failed:
        evidence = f"{comparison} ({failed} of {len(worst)} differ; {top.case})"
        if explain:
            evidence += f"; {explain(top.case)}"
        return Verdict(Status.FAIL, evidence, details)
    if blind:
        name, alterations = next(iter(blind.items()))
        evidence = f"{name} could not be told from {', '.join(alterations)} in {cases} cases"
        return Verdict(Status.INCONCLUSIVE, evidence, details)
    what = f"{len(worst)} tensors" if len(worst) > 1 else comparison.tensor
    worst_of = f"worst {comparison.tensor}, {comparison.share:.0%} of the tolerance"
    evidence = f"{what} in {cases} cases; {worst_of}"
    return Verdict(Status.PASS, evidence, details)


def _row(trial: Trial) -> dict[str, Any]:
    """A comparison for the report."""
    comparison = trial.comparisons[0]
    return {
        "tensor": comparison.tensor,
        "share": comparison.share,
        "error": comparison.error,
        "tolerance": comparison.tolerance,
        "index": list(comparison.index),
        "got": comparison.got,
        "expected": comparison.expected,
        "case": str(trial.case),
    }
