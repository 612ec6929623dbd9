"""Running checks on candidates, each in a process of its own.

Promises: every check that was asked for has an outcome, in the order asked for, whatever the
candidate does to the process that it is in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cllm.harness import isolation
from cllm.harness.checks import CHECKS, Check
from cllm.harness.conformance.candidate import Candidate, find_one, find_reference
from cllm.harness.conformance.discovery import require_reference
from cllm.harness.conformance.outcome import Outcome
from cllm.harness.selection import select
from cllm.harness.verdict import Verdict

SLOWER = 3.0
"""How many times as long as at first an import may take, beside others at once."""

Progress = Callable[[str, int, int], None]
"""Called with a task, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Job:
    """One check of one candidate."""

    candidate: Candidate
    check: Check


def plan(
    candidates: Iterable[Candidate], only: Iterable[str] = (), skip: Iterable[str] = ()
) -> list[Job]:
    """Every check of every candidate that is of its kind, by name or family.

    Raises `CllmError` for a name that no check and no family has.
    """
    checks = [CHECKS[name] for name in select(CHECKS, only, skip)]
    return [
        Job(candidate, check)
        for candidate in candidates
        for check in checks
        if check.kind is candidate.kind
    ]


def run(
    jobs: Sequence[Job],
    *,
    reference: str | None = None,
    seed: int = 0,
    expected: Mapping[str, str] | None = None,
    processes: int = 1,
    progress: Progress = lambda task, done, total: None,
    report: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """The outcomes in the order of the jobs; `report` is called with each as it ends.

    `expected` are reasons by check why it may fail. Raises `CllmError` for a reference that does
    not fit.
    """
    if reference is not None:
        for kind in {job.candidate.kind for job in jobs}:
            require_reference(reference, kind)
    outcomes: dict[int, Outcome] = {}
    tasks = [
        isolation.Task(
            run_check,
            (job.candidate.name, job.check.name, reference, seed),
            job.check.limit + SLOWER * job.candidate.seconds,
        )
        for job in jobs
    ]
    progress("checking", 0, len(jobs))
    for number, verdict, seconds in isolation.run(tasks, processes):
        job = jobs[number]
        outcomes[number] = outcome = Outcome(
            job.candidate.name,
            job.candidate.label,
            replace(verdict, check=job.check.name),
            seed,
            reference,
            (expected or {}).get(job.check.name),
            seconds,
        )
        report(outcome)
        progress(f"checking: {job.check.name}", len(outcomes), len(jobs))
    return [outcomes[number] for number in sorted(outcomes)]


def run_check(candidate: str, check: str, reference: str | None, seed: int) -> Verdict:
    """The verdict of one check, in this process; candidate and reference by their names."""
    found = find_one(candidate)
    return CHECKS[check](found.value, find_reference(reference, found.kind), seed)
