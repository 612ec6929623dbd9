"""What a model costs beside time: memory, planned and as measured, and its import.

Promises: each is measured in a fresh process; one that cannot be had raises `WorkerFailed`, which
says why.
"""

from __future__ import annotations

import gc
import resource
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from cllm.config import Config
from cllm.harness.bench.configurations import Configuration
from cllm.harness.bench.models import Found
from cllm.harness.bench.process import Worker, thread_variables
from cllm.harness.memory.leaks import give_back_free_memory
from cllm.model import Update
from cllm.registry import find_model

STEPS = 3
"""After which every buffer of a step has been touched."""

LIMIT = 120.0
"""Seconds for these steps, and for an import."""

IMPORTS = 10
"""Fresh processes for each of the two modules."""

IMPORT = str(Path(__file__).with_name("import_time.py"))


def memory(name: str, threads: int, configuration: Configuration) -> dict[str, Any]:
    """Bytes that a step's plan asks for, by role, and by how much a process grows by stepping."""
    setting = configuration.setting
    with Worker.start(thread_variables(threads)) as worker:
        measured = worker.ask(
            "memory",
            LIMIT,
            name=name,
            threads=threads,
            sizes=list(setting.config.sizes.values()),
            batch=[setting.batch_size, setting.seq_len],
        )
    return {
        "model": name,
        "configuration": configuration.name,
        "threads": threads,
        **measured,
    }


def measure(name: str, threads: int, sizes: list[int], batch: list[int]) -> dict[str, Any]:
    """Bytes of the plan, and by how many this process grows by making a model and taking steps.

    In a worker.
    """
    kind, config = find_model(name), Config(*sizes)
    parameters = np.full(config.num_parameters, 0.01, np.float32)
    tokens = np.zeros(batch, np.int32)
    gc.collect()
    give_back_free_memory()  # else it would be used first
    before = resident_bytes()
    rows, time = batch
    model = kind.create(config, rows, time, parameters, threads=threads)
    for step in range(STEPS):
        model.step(tokens, tokens, Update(step + 1, 1e-4))
    grown = resident_bytes() - before
    plan = kind.plan(config, rows, time, threads=threads)
    roles: dict[str, int] = {}
    for buffer in plan.buffers.values():
        roles[str(buffer.role)] = roles.get(str(buffer.role), 0) + buffer.nbytes
    return {
        "parameter_bytes": config.num_parameters * plan.dtype.itemsize,
        "planned_bytes": plan.nbytes,
        "roles": roles,
        "grown_bytes": grown,
    }


def resident_bytes() -> int:
    """The resident set of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def imports(model: Found) -> dict[str, Any]:
    """Seconds to import a model's module and NumPy alone, medians of fresh processes in turn."""
    seconds: dict[str, list[float]] = {model.module: [], "numpy": []}
    for _ in range(IMPORTS):
        for module, found in seconds.items():
            with Worker.start({}, ("-P", IMPORT, module)) as worker:
                found.append(worker.ask("import", LIMIT)["seconds"])
    return {
        "model": model.name,
        "module": model.module,
        "seconds": median(seconds[model.module]),
        "numpy_seconds": median(seconds["numpy"]),
    }
