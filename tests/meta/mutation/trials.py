"""Mutants held against the checks, each in a process of its own.

Promises: the process that this module runs in imports all once, without a mutant, and starts no
thread; each mutant is chosen in a fork of it, meets the checks in turn, and is killed by the first
that fails, that it crashes in, or that it does not come back from.

    PYTHONPATH=<a build's folder>:tests/meta python -m mutation.trials < numbers > outcomes
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import cllm.optimized
from cllm.harness.checks import CHECKS
from cllm.harness.checks.check import Kind
from cllm.harness.pairs.table import PAIRS
from cllm.harness.verdict import Status, Verdict
from cllm.reference import Model as Reference

SLOW = 12.0
"""How many times as long as without a mutant a check may take, before it is taken to hang."""
GRACE = 15.0
"""Seconds that it may take more."""

Run = Callable[[], Verdict]


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant."""

    number: int
    killer: str
    """The check that failed; empty for one that survives."""
    how: str
    """fail, crash or hang, and what was said."""
    seconds: float


@dataclass
class _Record:
    """What is known of a check: seconds without a mutant, and how often it killed."""

    run: Run
    seconds: float = 0.0
    tried: int = 0
    kills: int = 0

    @property
    def worth(self) -> float:
        """Kills to be expected in a second."""
        return (self.kills + 1.0) / (self.tried + 2.0) / (self.seconds + 0.02)


class Trials:
    """The checks, in the order that kills soonest."""

    def __init__(self, skip: tuple[str, ...] = ()) -> None:
        self.records = {name: _Record(run) for name, run in _runs() if name not in skip}
        self.unfit: dict[str, str] = {}
        """Checks that do not pass without a mutant, and what they say."""

    def measure(self) -> None:
        """Run every check without a mutant; those that do not pass are left out."""
        for name, record in list(self.records.items()):
            start = time.monotonic()
            found = _in_fork(0, [(name, record.run, 300.0)])
            record.seconds = time.monotonic() - start
            if found or not self.passed:
                self.unfit[name] = found[1] if found else "does not pass"
                del self.records[name]

    passed = True

    def try_mutant(self, number: int) -> Outcome:
        """The mutant's outcome."""
        order = sorted(self.records, key=lambda name: -self.records[name].worth)
        start = time.monotonic()
        found = _in_fork(
            number,
            [
                (name, self.records[name].run, GRACE + SLOW * self.records[name].seconds)
                for name in order
            ],
        )
        for name in order:
            self.records[name].tried += 1
            if found and name == found[0]:
                self.records[name].kills += 1
                break
        killer, how = found or ("", "survived")
        return Outcome(number, killer, how, time.monotonic() - start)


def _runs() -> Iterator[tuple[str, Run]]:
    """Every check that applies to the optimized model, and to its operations, by name."""
    for name, check in CHECKS.items():
        if check.kind is Kind.MODEL:
            yield name, partial(check, cllm.optimized.Model, Reference, 0)
        for number, pair in enumerate(PAIRS if check.kind is Kind.PAIR else ()):
            yield f"{name} {pair.name} {number}", partial(check, pair, None, 0)


def _in_fork(number: int, runs: list[tuple[str, Run, float]]) -> tuple[str, str] | None:
    """The check that fails in a process with this mutant and how; None where all pass."""
    receiver, sender = Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        receiver.close()
        _work(number, runs, sender)
    sender.close()
    try:
        for name, _, limit in runs:
            if not receiver.poll(limit):
                return name, f"hang: no verdict within {limit:.0f} s"
            try:
                status, said = receiver.recv()
            except (EOFError, ConnectionResetError):
                _, code = os.waitpid(child, 0)
                how = signal.Signals(code & 127).name if code & 127 else f"exit {code >> 8}"
                child = 0
                return name, f"crash: {how}"
            if status == Status.FAIL or (number == 0 and status == Status.INCONCLUSIVE):
                return name, f"{status}: {said}"
        return None
    finally:
        receiver.close()
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _work(number: int, runs: list[tuple[str, Run, float]], sender: Connection) -> None:
    """What the fork does; it never returns."""
    with contextlib.suppress(BaseException):
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        os.environ["CLLM_MUTANT"] = str(number)  # for processes that a check starts
        ctypes.c_int.in_dll(ctypes.CDLL(None), "cllm_mutant").value = number
        for _, run, _ in runs:
            verdict = run()
            sender.send((verdict.status, verdict.evidence[:300]))
        os._exit(0)
    os._exit(70)


def main() -> None:
    """Read numbers, one a line, until the end; write what the checks cost, then the outcomes."""
    trials = Trials(tuple(sys.argv[1:]))
    trials.measure()
    seconds = {name: record.seconds for name, record in trials.records.items()}
    print(json.dumps({"seconds": seconds, "unfit": trials.unfit}), flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(trials.try_mutant(int(line)))), flush=True)


if __name__ == "__main__":
    main()
