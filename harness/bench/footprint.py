"""What a model costs beside time: memory, planned and as measured, and its import.

Promises: each is measured in a fresh process.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from cllm.config import Config
from cllm.harness.bench.configurations import Configuration
from cllm.harness.bench.process import Worker
from cllm.model import Update
from cllm.registry import find_model

STEPS = 3
"""After which every buffer of a step has been touched."""

LIMIT = 120.0
"""Seconds for these steps."""

IMPORTS = 10
"""Fresh processes for each of the two modules."""

IMPORT_CODE = (
    "import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
)


def memory(name: str, threads: int, configuration: Configuration) -> dict[str, Any]:
    """Bytes that a step's plan asks for, by role, and by how much a process grows by stepping."""
    setting = configuration.setting
    plan = find_model(name).plan(
        setting.config, setting.batch_size, setting.seq_len, threads=threads
    )
    roles: dict[str, int] = {}
    for buffer in plan.buffers.values():
        roles[str(buffer.role)] = roles.get(str(buffer.role), 0) + buffer.nbytes
    with Worker({}) as worker:
        measured = worker.ask(
            "memory",
            LIMIT,
            name=name,
            threads=threads,
            sizes=list(setting.config.to_dict().values()),
            batch=[setting.batch_size, setting.seq_len],
        )
    return {
        "model": name,
        "configuration": configuration.name,
        "threads": threads,
        "parameter_bytes": setting.config.num_parameters * plan.dtype.itemsize,
        "planned_bytes": plan.nbytes,
        "roles": roles,
        **measured,
    }


def grown(name: str, threads: int, sizes: list[int], batch: list[int]) -> dict[str, Any]:
    """By how many bytes this process grows when it makes a model and takes steps (in a worker)."""
    kind, config = find_model(name), Config(*sizes)
    parameters = np.full(config.num_parameters, 0.01, np.float32)
    tokens = np.zeros(batch, np.int32)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else free memory of before would be used first
    before = resident_bytes()
    rows, time = batch
    model = kind.create(config, rows, time, parameters, threads=threads)
    for step in range(STEPS):
        model.step(tokens, tokens, Update(step + 1, 1e-4))
    return {"grown_bytes": resident_bytes() - before}


def resident_bytes() -> int:
    """The resident set of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def imports(name: str) -> dict[str, Any]:
    """Seconds to import a model's module and NumPy alone, medians of fresh processes in turn."""
    module = find_model(name).__module__
    seconds: dict[str, list[float]] = {module: [], "numpy": []}
    for _ in range(IMPORTS):
        for each, found in seconds.items():
            run = [sys.executable, "-P", "-c", IMPORT_CODE.format(module=each)]
            found.append(float(subprocess.run(run, capture_output=True, check=True).stdout))
    return {
        "model": name,
        "module": module,
        "seconds": median(seconds[module]),
        "numpy_seconds": median(seconds["numpy"]),
    }
