"""The detection matrix: every fault and control under the checks that it can show in.

Promises: a fault counts as caught only by a failure of the check that is named for it; what is
inconclusive there is a miss. A control on which any check fails is a false alarm.
"""

from __future__ import annotations

import fnmatch
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cllm.errors import CllmError
from cllm.harness import isolation
from cllm.harness.checks import CHECKS
from cllm.harness.checks.check import Kind
from cllm.harness.faults import CONTROLS, FAULTS, Fault
from cllm.harness.faults.catalogue import check_fault, note_calibrations
from cllm.harness.verdict import Status, Verdict

Progress = Callable[[str, int, int], None]

COMPUTED = frozenset(("loss", "gradients"))
"""Families that every fault of a model can show in."""


@dataclass(frozen=True)
class Row:
    """A fault or control, and what each check said of it."""

    fault: Fault
    verdicts: Mapping[str, Verdict]
    """By check, in the order of causes."""

    @property
    def caught(self) -> list[str]:
        """The checks that failed."""
        return [name for name, v in self.verdicts.items() if v.status is Status.FAIL]

    @property
    def good(self) -> bool:
        """A fault that all checks named for it caught; a control on which none failed."""
        if self.is_control:
            return not self.caught
        return set(self.fault.caught_by) <= {*self.caught}

    @property
    def is_control(self) -> bool:
        """Whether it is odd but correct."""
        return not self.fault.caught_by

    @property
    def word(self) -> str:
        """The verdict on the harness."""
        if self.is_control:
            return "no alarm" if self.good else "FALSE ALARM"
        return "caught" if self.good else "MISSED"

    @property
    def evidence(self) -> str:
        """What the check named for it said, or what raised a false alarm; one line."""
        names = self.caught[:1] if self.is_control else self.fault.caught_by[:1]
        return " ".join(" ".join(self.verdicts[name].evidence.split()) for name in names)


@dataclass(frozen=True)
class Matrix:
    """All rows, and how they came about."""

    rows: list[Row]
    seed: int
    seconds: float
    machine: Mapping[str, object] = field(default_factory=dict)

    @property
    def faults(self) -> list[Row]:
        """Those that must be caught."""
        return [row for row in self.rows if not row.is_control]

    @property
    def controls(self) -> list[Row]:
        """Those that must pass."""
        return [row for row in self.rows if row.is_control]

    @property
    def checks(self) -> list[str]:
        """Every check that was run, in the order of causes."""
        seen = {name for row in self.rows for name in row.verdicts}
        return [name for name in CHECKS if name in seen]

    @property
    def unproven(self) -> list[str]:
        """Checks that judged, and by none of the faults shown to catch one named for them."""
        proven = {name for row in self.faults if row.good for name in row.fault.caught_by}
        return [name for name in self.checks if name not in proven and name not in self.idle]

    @property
    def idle(self) -> list[str]:
        """Checks that applied to nothing."""
        judged = {
            name
            for row in self.rows
            for name, verdict in row.verdicts.items()
            if verdict.status is not Status.NOT_APPLICABLE
        }
        return [name for name in self.checks if name not in judged]


def select(only: Iterable[str], skip: Iterable[str]) -> list[Fault]:
    """Faults and controls by name, pattern, or the check that is named for them.

    Raises `CllmError` for a name that fits none.
    """
    wanted, unwanted = list(only), list(skip)
    everything = [*FAULTS.values(), *CONTROLS.values()]

    def fits(fault: Fault, name: str) -> bool:
        named = fault.caught_by[0] if fault.caught_by else "controls"
        return fnmatch.fnmatchcase(fault.name, name) or name in (named, named.partition(".")[0])

    for name in (*wanted, *unwanted):
        if not any(fits(fault, name) for fault in everything):
            raise CllmError(f"no fault or control is called {name!r}, and no check for one")
    return [
        fault
        for fault in everything
        if (not wanted or any(fits(fault, name) for name in wanted))
        and not any(fits(fault, name) for name in unwanted)
    ]


def run(
    faults: Iterable[Fault],
    *,
    seed: int = 0,
    processes: int = 1,
    progress: Progress = lambda task, done, total: None,
    report: Callable[[Row], None] = lambda row: None,
) -> Matrix:
    """Run every check of its kind on each; `report` is called with each row as it is complete."""
    chosen = list(faults)
    jobs = [(fault, check) for fault in chosen for check in checks_of(fault)]
    verdicts: dict[str, dict[str, Verdict]] = {fault.name: {} for fault in chosen}
    isolation.preload("cllm.harness.faults")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        known = _calibrations(jobs, seed, processes, Path(folder))
        tasks = [
            isolation.Task(
                check_fault, (fault.name, check, seed, known.get(check)), CHECKS[check].limit
            )
            for fault, check in jobs
        ]
        for done, (number, verdict, _) in enumerate(isolation.run(tasks, processes), 1):
            fault, check = jobs[number]
            verdicts[fault.name][check] = verdict
            progress(f"planting: {fault.name}", done, len(jobs))
            if len(verdicts[fault.name]) == len(checks_of(fault)):
                report(_row(fault, verdicts[fault.name]))
    rows = [_row(fault, verdicts[fault.name]) for fault in chosen]
    return Matrix(rows, seed, time.monotonic() - start)


def _calibrations(
    jobs: Iterable[tuple[Fault, str]], seed: int, processes: int, folder: Path
) -> dict[str, Path]:
    """By check of models, a file of what all faults are held against, computed once."""
    checks = {check for fault, check in jobs if fault.kind is Kind.MODEL}
    known = {check: folder / check for check in sorted(checks)}
    tasks = [
        isolation.Task(note_calibrations, (check, seed, path), CHECKS[check].limit)
        for check, path in known.items()
    ]
    list(isolation.run(tasks, processes))
    return {check: path for check, path in known.items() if path.exists()}


def checks_of(fault: Fault) -> list[str]:
    """The checks that are run on it, of those of its kind.

    On a control all. On a model with a fault those of what it computes (`COMPUTED`), and the
    families of those named for it; on a trainer's parts those that use a part that is not ours.
    Where others would only hang, those named for it alone.
    """
    if fault.hangs:
        return list(fault.caught_by)
    checks = [check for check in CHECKS.values() if check.kind is fault.kind]
    if fault.kind is Kind.TRAINER:
        checks = [check for check in checks if check.needs & fault.candidate.replaced]
    elif fault.kind is Kind.MODEL and fault.caught_by:
        families = COMPUTED | {family(name) for name in fault.caught_by}
        checks = [check for check in checks if family(check.name) in families]
    return [check.name for check in checks]


def family(check: str) -> str:
    """What stands before the dot."""
    return check.partition(".")[0]


def _row(fault: Fault, verdicts: Mapping[str, Verdict]) -> Row:
    return Row(fault, {name: verdicts[name] for name in CHECKS if name in verdicts})
