"""A competitor in a process of its own: `python -m cllm.harness.bench.worker`.

Promises: one request a line on the pipe, one reply a line; what libraries print cannot get in
between. It computes only while it is asked to.
Leaves out: time limits, and what is done about a crash (`cllm.harness.bench.process`).
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from cllm.config import Config
from cllm.harness.bench.footprint import grown
from cllm.harness.bench.task import Kind, Task
from cllm.harness.bench.workload import draw_workload
from cllm.harness.cases import Setting

CHECKED_STEPS = 3
"""Losses of the first steps are compared."""

WARM_UP_SHARE = 0.2
"""Part of a visit that is not timed: caches are cold, and another's threads may still spin."""


class Bench:
    """One task, and how it is visited."""

    def __init__(self) -> None:
        self._task: Task | None = None

    def build(
        self,
        module: str,
        kind: str,
        sizes: list[int],
        batch: list[int],
        seed: int,
        calls_at_once: int,
        options: dict[str, Any],
    ) -> dict[str, Any]:
        """Import, build and call until the first results are there; the results and seconds."""
        start = time.perf_counter()
        workload = draw_workload(Setting(Config(*sizes), *batch), seed, calls_at_once)
        task: Task = importlib.import_module(module).build(Kind(kind), workload, **options)
        results: list[float] = []
        wanted = CHECKED_STEPS if Kind(kind).is_training else task.per_call
        seconds = 0.0
        while len(results) < wanted:
            task.begin()
            output = task.call()
            task.values(output)
            seconds = seconds or time.perf_counter() - start
            results += task.evidence(output).tolist()
        self._task = task
        if Kind(kind).is_training:
            results = results[:CHECKED_STEPS]
        return {"results": results, "build_seconds": seconds}

    def visit(self, seconds: float) -> dict[str, Any]:
        """Rate (steps or tokens per second) over about so many seconds of calls."""
        if self._task is None:
            raise RuntimeError("build comes first")
        made, once = self._time(1)
        if once >= seconds:
            return {"rate": made / once}
        warm = max(1, round(WARM_UP_SHARE * seconds / once))
        once = self._time(warm)[1] / warm
        made, spent = self._time(max(1, round(seconds / once)))
        return {"rate": made / spent}

    def _time(self, calls: int) -> tuple[int, float]:
        """What so many calls made, and the seconds that it took."""
        task = self._task
        assert task is not None
        if type(task).begin is Task.begin:
            start = time.perf_counter()
            for _ in range(calls):
                output = task.call()
            task.values(output)
            return calls * task.per_call, time.perf_counter() - start
        spent = 0.0
        for _ in range(calls):
            task.begin()
            start = time.perf_counter()
            task.values(task.call())
            spent += time.perf_counter() - start
        return calls * task.per_call, spent


def serve() -> None:
    """Answer requests from standard input until it ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what is printed goes to standard error
    bench = Bench()
    calls: dict[str, Callable[..., dict[str, Any]]] = {
        "build": bench.build,
        "visit": bench.visit,
        "memory": grown,
    }
    for line in sys.stdin:
        request = json.loads(line)
        name = request.pop("call")
        try:
            reply = calls[name](**request)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    serve()
