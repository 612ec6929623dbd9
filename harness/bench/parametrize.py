"""Benchmarks as tests of pytest-benchmark: `parametrize_with_benchmarks`.

Promises: what `cllm bench` measures, measured by the fixture `benchmark`: the same tasks, first
held against the reference in float64, and rounds that are its visits. `extra_info` says all that a
figure needs to be kept in the history.
Leaves out: peers and interleaving, for which competitors have processes of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from cllm.errors import CllmError
from cllm.harness import probe
from cllm.harness.bench.configurations import CONFIGURATIONS, Configuration
from cllm.harness.bench.contest import Contest, difference
from cllm.harness.bench.models import source_of
from cllm.harness.bench.options import thread_counts
from cllm.harness.bench.run import BLOCKS, REFERENCE
from cllm.harness.bench.task import Kind, Task
from cllm.harness.bench.visit import first_results, has_beginning, warm_up
from cllm.harness.bench.workload import draw_workload
from cllm.harness.commit import commit_of, to_dict
from cllm.harness.machine import fingerprint
from cllm.harness.peers.models import build

SECONDS = 0.2
"""Length of a round, as of a visit of `cllm bench`."""


def parametrize_with_benchmarks(
    models: Sequence[str],
    *,
    configurations: Sequence[str | Configuration] = tuple(CONFIGURATIONS),
    threads: Sequence[int] | None = None,
    seconds: float = SECONDS,
    seed: int = 0,
) -> pytest.MarkDecorator:
    """Make a test for each model, configuration, kind of work and number of threads.

        @parametrize_with_benchmarks(["mypackage:MyModel"], configurations=["small"])
        def test_speed(benchmark, work):
            work(benchmark)

    Models are named as for `cllm bench`; configurations by name, or given as they are, such as
    those of `read_configurations`. Threads are 1 and every usable core unless they are given, and
    a round lasts about `seconds`.

    Raises `CllmError` for a configuration that there is not.
    """
    works = [
        Work(model, configuration, kind, count, seconds, seed)
        for configuration in map(_configuration, configurations)
        for kind in configuration.kinds
        for model in models
        for count in thread_counts(threads)
    ]
    return pytest.mark.parametrize(
        "work",
        [
            pytest.param(
                work,
                id=f"{work.name}-{work.model}-{work.threads}",
                marks=pytest.mark.benchmark(group=work.name, timer=work.clock.now),
            )
            for work in works
        ],
    )


class Clock:
    """`time.perf_counter`, which stands still while something is done that is not to be timed."""

    def __init__(self) -> None:
        self._lost = 0.0

    def now(self) -> float:
        """Seconds."""
        return time.perf_counter() - self._lost

    def stopped(self, function: Callable[[], None]) -> None:
        """Call a function while it stands still."""
        start = time.perf_counter()
        function()
        self._lost += time.perf_counter() - start


@dataclass(frozen=True)
class Work:
    """What one test measures."""

    model: str
    configuration: Configuration
    kind: Kind
    threads: int
    seconds: float
    seed: int
    clock: Clock = field(default_factory=Clock, compare=False)

    @property
    def name(self) -> str:
        """Such as `small step`."""
        return f"{self.configuration.name} {self.kind}"

    def __call__(self, benchmark: Any) -> None:
        """Check the model's first results, then measure; fail where they are others.

        `benchmark` is the fixture of pytest-benchmark. A round is as many calls as fill a visit.
        """
        task = _build(self.configuration, self.kind, self.seed, self.model, self.threads)
        found = first_results(task, self.kind)
        contest = Contest(self.configuration, self.kind, [])
        expected = _expected(self.configuration, self.kind, self.seed)
        if reason := difference(contest, found, expected):
            benchmark.disabled = True  # used, or it would warn, but nothing is kept
            said = f"{self.model} computes something else: {reason}"
            benchmark.pedantic(pytest.fail, (said,), {"pytrace": False})
        benchmark.extra_info.update(self._described(task))
        calls, _ = warm_up(task, self.seconds)
        benchmark.pedantic(self._timed(task), rounds=BLOCKS, iterations=calls)

    def _timed(self, task: Task) -> Callable[[], Any]:
        """One call, of which the clock sees no beginning."""
        if not has_beginning(task):
            return task.call

        def call() -> Any:
            self.clock.stopped(task.begin)
            return task.values(task.call())

        return call

    def _described(self, task: Task) -> dict[str, Any]:
        """What the history needs beside the seconds of a call."""
        return {
            "benchmark": self.name,
            "candidate": self.model,
            "metric": self.kind.unit,
            "per_call": task.per_call,
            "threads": self.threads,
            "level": probe.level(),
            "configuration": self.configuration.sizes(self.kind),
            "commit": to_dict(commit_of(source_of(self.model))),
            "machine": fingerprint(),
        }


def _configuration(given: str | Configuration) -> Configuration:
    if isinstance(given, Configuration):
        return given
    if given not in CONFIGURATIONS:
        raise CllmError(f"configuration must be one of {', '.join(CONFIGURATIONS)}: got {given!r}")
    return CONFIGURATIONS[given]


def _build(
    configuration: Configuration,
    kind: Kind,
    seed: int,
    model: str,
    threads: int,
    dtype: str = "float32",
) -> Task:
    workload = draw_workload(configuration.setting, seed, configuration.calls_at_once)
    return build(kind, workload, model, threads, dtype)


@cache
def _expected(configuration: Configuration, kind: Kind, seed: int) -> list[float] | None:
    """The first results of the reference in float64; None where chance decides them."""
    checked = kind.checked_as
    if checked is None:
        return None
    exact = _build(configuration, checked, seed, REFERENCE, 1, "float64")
    return first_results(exact, checked)
