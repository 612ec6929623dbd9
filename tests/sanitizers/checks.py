"""What is run in a process under a sanitizer: `python tests/sanitizers/checks.py address|thread`.

Prints a line for each check of the optimized model and for each planted defect.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from cllm.harness import CHECKS, isolation
from cllm.harness.cases import MEDIUM, draw_case
from cllm.harness.checks.check import Kind
from cllm.harness.checks.races import work
from cllm.harness.faults import races
from cllm.harness.faults.native import memory
from cllm.harness.runner import build
from cllm.harness.sanitizers import ADDRESS, reports
from cllm.harness.verdict import Status, Verdict
from cllm.model import Model, Update
from cllm.reference import Model as Reference
from cllm.registry import find_model

FAMILIES = ("loss", "gradients", "training", "determinism", "generation", "lattice", "races")
"""Guards and memory profilers do not go with sanitizers, and figures of speed mean nothing."""

RACES = {
    races.ActivationsShared: "write of size",
    races.UpdateReadsGradientsTooEarly: "read of size",
    races.GradientsSummedWithoutALock: "write of size",
}
LIMIT = 300.0


def hold(candidate: type[Model], check: str) -> Verdict:
    """What a check says of a candidate."""
    return CHECKS[check](candidate, Reference, 0)


def train(candidate: type[Model]) -> Verdict:
    """Some steps, and what they leaked."""
    case = draw_case(MEDIUM, 0)
    model = build(candidate, case)
    for step in range(1, 4):
        model.step(case.tokens, case.targets, Update(step, 0.01))
    return _leaks()


def live(candidate: type[Model]) -> Verdict:
    """Everything a model does, and what it leaked."""
    for _ in work(candidate, 0):
        pass
    return _leaks()


OURS = re.compile(r"^ +#1 .*\b(?:optimized|harness)/", re.MULTILINE)
"""A block that compiled code of ours has allocated itself. Those of the interpreter's allocators
are objects, and no matter of this sanitizer."""


def _leaks() -> Verdict:
    """What nobody points to any more."""
    with reports() as reported:
        ctypes.CDLL(None).__lsan_do_recoverable_leak_check()
        report = reported()
    leaks = [block for block in report.split("\n\n") if OURS.search(block)]
    said = "\n\n".join(leaks)
    evidence = said.partition("\n")[0] or "no block is lost"
    return Verdict(Status.FAIL if leaks else Status.PASS, evidence, {"said": said})


def rows(sanitizer: str) -> Iterator[tuple[str, Callable[..., Verdict], tuple[Any, ...], str]]:
    """Name, function, its arguments, and what must be reported; nothing: it must pass."""
    optimized = find_model("optimized")
    for name, check in CHECKS.items():
        if name == "races.threads" and sanitizer == ADDRESS:
            continue
        if check.kind is Kind.MODEL and name.partition(".")[0] in FAMILIES:
            yield name, hold, (optimized, name), ""
    if sanitizer == ADDRESS:
        yield "leaks", live, (optimized,), ""
        for fault, report in memory.REPORTS.items():
            yield fault.__name__, train, (fault,), report
    else:
        for fault, report in RACES.items():
            yield fault.__name__, hold, (fault, "races.threads"), report


def main(sanitizer: str) -> int:
    """0 where each row is as it must be, else 1."""
    table = list(rows(sanitizer))
    tasks = [isolation.Task(function, arguments, LIMIT) for _, function, arguments, _ in table]
    good = True
    for number, verdict, seconds in isolation.run(tasks, 2):
        name, _, _, report = table[number]
        said = verdict.evidence + str(verdict.details.get("said", ""))
        if report:
            held = verdict.status is Status.FAIL and report in said
        else:
            held = verdict.status is Status.PASS
        good = good and held
        word = ("reported" if report else "held") if held else "MISSED" if report else "FAILED"
        print(f"{name:32} {word:9} {seconds:6.1f} s  {report or verdict.evidence}", flush=True)
        if not held:
            print(verdict.status, said, flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
