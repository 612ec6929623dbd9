"""The calls of a task: the first ones, which are checked, and those of a visit, which are timed.

Promises: what is not the task's work is not timed: cold caches, what `begin` does. `cllm bench` and
the tests of pytest-benchmark (`cllm.harness.bench.parametrize`) both visit by these rules.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cllm.harness.bench.task import Kind, Task

CHECKED_STEPS = 3
"""Losses of the first steps are compared."""

WARM_UP_SHARE = 0.2
"""Part of a visit that is not timed: caches are cold, and another's threads may still spin."""


def first_results(task: Task, kind: Kind, called: Callable[[], None] = lambda: None) -> list[float]:
    """What is held against the reference: the losses of the first steps, or one generation.

    `called` is told after each call.
    """
    results: list[float] = []
    while len(results) < (CHECKED_STEPS if kind.is_training else task.per_call):
        task.begin()
        output = task.call()
        task.values(output)
        called()
        results += task.evidence(output).tolist()
    return results[:CHECKED_STEPS] if kind.is_training else results


def visit(task: Task, seconds: float) -> float:
    """Rate (steps or tokens per second) over about so many seconds of calls."""
    calls, spent = warm_up(task, seconds)
    if spent is None:
        spent = time_calls(task, calls)
    return calls * task.per_call / spent


def warm_up(task: Task, seconds: float) -> tuple[int, float | None]:
    """How many calls fill a visit, and what they took where it was the first call that did."""
    once = time_calls(task, 1)
    if once >= seconds:
        return 1, once
    warm = max(1, round(WARM_UP_SHARE * seconds / once))
    once = time_calls(task, warm) / warm
    return max(1, round(seconds / once)), None


def has_beginning(task: Task) -> bool:
    """Whether something comes before each call, which is not to be timed."""
    return type(task).begin is not Task.begin


def time_calls(task: Task, calls: int) -> float:
    """Seconds that so many calls take, until their work is done."""
    if not has_beginning(task):
        start = time.perf_counter()
        for _ in range(calls):
            output = task.call()
        task.values(output)
        return time.perf_counter() - start
    spent = 0.0
    for _ in range(calls):
        task.begin()
        start = time.perf_counter()
        task.values(task.call())
        spent += time.perf_counter() - start
    return spent
