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
from cllm.harness.bench import footprint
from cllm.harness.bench.models import describe
from cllm.harness.bench.task import Kind, Task
from cllm.harness.bench.visit import first_results, visit
from cllm.harness.bench.workload import draw_workload
from cllm.harness.cases import Setting


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
        """Import, build and call until the first results are there; the results and seconds.

        The seconds are those of importing and building, and of the first call, in which the
        compilers of the peers work; the workload is drawn before.
        """
        workload = draw_workload(Setting(Config(*sizes), *batch), seed, calls_at_once)
        start = time.perf_counter()
        task: Task = importlib.import_module(module).build(Kind(kind), workload, **options)
        built = time.perf_counter()
        calls: list[float] = []
        results = first_results(task, Kind(kind), lambda: calls.append(time.perf_counter()))
        self._task = task
        startup = {"start": built - start, "first_call": calls[0] - built}
        return {"results": results, "startup": startup}

    def visit(self, seconds: float) -> dict[str, Any]:
        """Rate (steps or tokens per second) over about so many seconds of calls."""
        if self._task is None:
            raise RuntimeError("build comes first")
        return {"rate": visit(self._task, seconds)}


def operations(sizes: list[int], batch: list[int], seed: int) -> dict[str, Any]:
    """The `rows` of single operations."""
    from cllm.harness.bench.operations import measure_operations  # not needed by the others

    return {"rows": measure_operations(Setting(Config(*sizes), *batch), seed)}


def serve() -> None:
    """Answer requests from standard input until it ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what is printed goes to standard error
    bench = Bench()
    calls: dict[str, Callable[..., dict[str, Any]]] = {
        "build": bench.build,
        "visit": bench.visit,
        "memory": footprint.measure,
        "models": describe,
        "operations": operations,
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
