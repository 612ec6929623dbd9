"""A comparison from start to end: every benchmark, each only as long as its answer is open.

Promises: both sides are first held against each other: a side that computes something else is not
called faster. What cannot be measured is an entry with its reason.
Leaves out: how a side is built (`cllm.harness.compare.builds`).
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cllm.harness import probe
from cllm.harness.bench.configurations import CONFIGURATIONS, Configuration
from cllm.harness.bench.contest import TOLERANCE
from cllm.harness.bench.flops import call_flops
from cllm.harness.bench.process import thread_variables
from cllm.harness.bench.task import Kind
from cllm.harness.bench.visit import CHECKED_STEPS
from cllm.harness.bench.workload import draw_workload
from cllm.harness.benchmark import Progress, median_ratio
from cllm.harness.commit import to_dict
from cllm.harness.compare.builds import Build
from cllm.harness.compare.comparison import Comparison, Entry, Interval, Outcome, Side
from cllm.harness.compare.instructions import add_instructions
from cllm.harness.compare.process import ForkServer, Launch, sharing
from cllm.harness.compare.sequential import FEWEST, Decision, decide
from cllm.harness.compare.session import (
    LaunchFailed,
    Visited,
    Work,
    launching,
    log_speeds,
    visit_round,
)
from cllm.harness.machine import fingerprint
from cllm.harness.words import threads_of

RENEWED = 10
"""Rounds after which their processes are forked from another interpreter."""


@dataclass(frozen=True)
class Benchmark:
    """What is measured on both sides."""

    configuration: Configuration
    kind: Kind
    threads: int

    @property
    def name(self) -> str:
        """`small step, 2 threads`."""
        return f"{self.configuration.name} {self.kind}, {threads_of(self.threads)}"


@dataclass(frozen=True)
class Round:
    """Four processes: base, head, base, head."""

    processes: Sequence[Visited]
    peak: float
    """FLOP/s of the machine at that moment, undisturbed as the fastest windows are."""

    @functools.cached_property
    def speeds(self) -> NDArray[np.float64]:
        """(4,) The logarithms of the speeds of the processes: every later look needs them."""
        return log_speeds([process.trips for process in self.processes])


def compare(
    base: Build,
    head: Build,
    benchmarks: Sequence[Benchmark],
    *,
    budget: float,
    minimum_effect: float,
    instructions: bool,
    seed: int,
    progress: Progress,
    file: Path | None = None,
) -> Comparison:
    """Hold head against base; `budget` are the seconds that one benchmark may take.

    With `instructions` callgrind counts those of a step, on one thread, as a second witness. `file`
    is where configurations of one's own come from.
    """
    start, machine, entries = time.monotonic(), fingerprint(), []
    names = dict.fromkeys(benchmark.configuration.name for benchmark in benchmarks)
    threads = sorted({benchmark.threads for benchmark in benchmarks})
    progress("probing the machine", 0, 1)
    probed = probe.survey(threads)
    launches = sharing(base.launch, head.launch)
    with tempfile.TemporaryDirectory() as scratch:
        for place, benchmark in enumerate(benchmarks):
            work = prepare_work(benchmark, seed, Path(scratch) / f"{place}.npz")
            with rounds(*launches, work, np.random.default_rng((seed, place))) as visit:
                entry = measure(
                    benchmark,
                    visit,
                    budget=budget,
                    minimum_effect=minimum_effect,
                    seed=seed,
                    progress=progress,
                )
            if instructions:
                progress(f"{benchmark.name}: counting instructions", 0, 1)
                entry = add_instructions(
                    entry, benchmark.configuration, base.launch, head.launch, seed
                )
            entries.append(entry)
    return Comparison(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        base=Side(base.name, base.kind, base.version, to_dict(base.commit)),
        head=Side(head.name, head.kind, head.version, to_dict(head.commit)),
        entries=tuple(entries),
        machine=machine,
        level=probed["level"],
        probe=probed,
        settings={
            "configurations": [name for name in names if name in CONFIGURATIONS],
            "file": None if file is None else str(file),
            "kinds": list(dict.fromkeys(str(b.kind) for b in benchmarks)),
            "threads": threads,
            "candidate": head.launch.candidate,
            "budget": budget,
            "minimum_effect": minimum_effect,
            "instructions": instructions,
            "seed": seed,
        },
        seconds=time.monotonic() - start,
    )


def limited(launch: Launch, threads: int) -> Launch:
    """With so many threads for NumPy's BLAS and for OpenMP too, where the user does not say."""
    return replace(launch, environment={**thread_variables(threads), **launch.environment})


@contextlib.contextmanager
def rounds(
    base: Launch, head: Launch, work: Work, generator: np.random.Generator
) -> Iterator[Callable[[], Round]]:
    """What gives the next round of a live comparison.

    What its processes are forked from is another one after `RENEWED` rounds, or a comparison would
    rest on where that one lies and how strings hash in it.
    """
    base, head = (limited(side, work.threads) for side in (base, head))
    server, visited = None, 0
    with contextlib.ExitStack() as stack:

        def visit() -> Round:
            nonlocal server, visited
            if base.interpreter and visited % RENEWED == 0:
                stack.close()
                with launching(0):
                    server = stack.enter_context(ForkServer(base, {}))
            visited += 1
            seen = visit_round([base, head, base, head], work, generator, server)
            return Round(seen, probe.undisturbed_peak(work.threads))

        yield visit


def measure(
    benchmark: Benchmark,
    visit: Callable[[], Round],
    *,
    budget: float,
    minimum_effect: float,
    seed: int,
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
) -> Entry:
    """Rounds until a look decides or the budget is spent, by a clock of seconds."""
    entry = Entry(
        name=benchmark.name,
        configuration=benchmark.configuration.name,
        kind=str(benchmark.kind),
        threads=benchmark.threads,
        unit=benchmark.kind.unit,
        outcome=Outcome.INCONCLUSIVE,
        reason="",
        sizes=benchmark.configuration.sizes(benchmark.kind),
        flops=_flops(benchmark),
    )
    seen: list[Round] = []
    start, decision = clock(), None
    spent, longest = 0.0, 0.0
    while decision is None or decision.outcome is Outcome.INCONCLUSIVE:
        if spent + max(1, FEWEST - len(seen)) * longest > budget:
            break
        seen_so_far = "open" if decision is None else _interval(decision.interval)
        progress(f"{benchmark.name}: {seen_so_far}", round(spent), round(budget))
        try:
            seen.append(visit())
        except LaunchFailed as error:
            side, outcome = (
                ("head", Outcome.FAILED) if error.place % 2 else ("base", Outcome.INCONCLUSIVE)
            )
            reason = f"{side} cannot be measured: {error}"
            return replace(entry, outcome=outcome, reason=reason, seconds=clock() - start)
        if reason := _difference(benchmark, seen[-1].processes):
            return replace(entry, outcome=Outcome.FAILED, reason=reason, seconds=clock() - start)
        if len(seen) >= FEWEST:
            speeds = _speeds(seen)
            decision = decide(speeds[:, ::2], speeds[:, 1::2], minimum_effect)
        longest = max(longest, clock() - start - spent)
        spent = clock() - start
    progress(f"{benchmark.name}: done", round(budget), round(budget))
    base, head, base_again, head_again = (
        tuple(each.processes[place].rate for each in seen) for place in range(4)
    )
    entry = replace(
        entry,
        base=base,
        head=head,
        base_again=base_again,
        head_again=head_again,
        peaks=tuple(each.peak for each in seen),
        seconds=spent,
    )
    if decision is None:
        reason = (
            f"too few rounds of processes: {len(seen)} in {spent:.3g} s, "
            f"{FEWEST} are needed: give it {FEWEST * longest:.3g} s or more"
        )
        return replace(entry, reason=reason)
    speeds = _speeds(seen)
    rates = np.exp(speeds)
    ratio = median_ratio(rates[:, 1::2].ravel(), rates[:, ::2].ravel(), seed)
    return replace(
        entry,
        outcome=decision.outcome,
        reason=_reason(decision, minimum_effect, spent),
        ratio=Interval(*ratio),
        decision=decision.interval,
        noise=_noise(speeds, minimum_effect),
        detectable=decision.detectable,
    )


def prepare_work(benchmark: Benchmark, seed: int, path: Path) -> Work:
    """The workload in a file that any version can read."""
    workload = draw_workload(benchmark.configuration.setting, seed)
    parameters = workload.parameters.astype(np.float32)
    np.savez(path, parameters=parameters, tokens=workload.tokens, targets=workload.targets)
    checked = CHECKED_STEPS if benchmark.kind.is_training else workload.new_tokens
    sizes = list(workload.setting.config.sizes.values())
    return Work(str(benchmark.kind), sizes, benchmark.threads, path, checked)


def _flops(benchmark: Benchmark) -> int:
    """Of one step or one token."""
    setting = benchmark.configuration.setting
    made = 1 if benchmark.kind.is_training else setting.seq_len - 1
    return call_flops(setting, benchmark.kind) // made


def _difference(benchmark: Benchmark, visited: Sequence[Visited]) -> str:
    """Where head computes something else than base; empty where it does not."""
    base, head = (process.results for process in visited[:2])
    tolerance = TOLERANCE if benchmark.kind.is_training else 0.0
    what = "loss of step" if benchmark.kind.is_training else "token"
    for place, (mine, other) in enumerate(zip(head, base, strict=True), 1):
        if not abs(mine - other) <= tolerance * abs(other):  # NaN is different
            return f"computes something else: {what} {place} is {mine:.9g}, base has {other:.9g}"
    return ""


def _speeds(seen: Sequence[Round]) -> NDArray[np.float64]:
    """(n,4) of n rounds the logarithms of the speeds of base, head, base again, head again."""
    return np.array([each.speeds for each in seen])


def _noise(speeds: NDArray[np.float64], minimum_effect: float) -> Interval:
    """What (n,4) say of no difference: two processes, one of each side, against the others.

    By the same rule, and without the difference of the sides.
    """
    alike = speeds.copy()
    alike[:, 1::2] -= np.median(speeds[:, 1::2]) - np.median(speeds[:, ::2])
    return decide(alike[:, :2], alike[:, 2:], minimum_effect).interval


def _reason(decision: Decision, minimum_effect: float, spent: float) -> str:
    """One line."""
    found = f"{_interval(decision.interval)} at {decision.interval.confidence:.4g} confidence"
    match decision.outcome:
        case Outcome.SAME:
            return f"a difference of {minimum_effect:.3g} or more is excluded: {found}"
        case Outcome.INCONCLUSIVE:
            return f"still open after {spent:.0f} s: {found}"
    return f"equality is excluded: {found}"


def _interval(interval: Interval) -> str:
    return f"{interval.low:.4f} to {interval.high:.4f}"
