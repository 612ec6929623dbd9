"""The machine that a figure was measured on.

Leaves out: how fast it could be (its measured peak).
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import cllm
from cllm.harness.probe import loops

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "OMP_PROC_BIND",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""What decides the threads of OpenMP and of NumPy's BLAS, which is left as it is found."""

COMPILER = re.compile(rb"GCC: \([^)\0]*\) [\d.]+|clang version [\d.]+")
"""What compilers leave in the section `.comment` of the code that they make."""


def fingerprint() -> dict[str, Any]:
    """CPU, cores, memory, load, system and versions; strings and numbers alone."""
    return {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "cores": os.cpu_count() or 1,
        "usable_cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),  # of the last minute
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": np.__version__,
        "blas": _blas(),
        "cllm": cllm.__version__,
        "compiler": compiler_of(Path(loops.__file__)),
        "thread_variables": {
            name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ
        },
    }


def is_busy(machine: Mapping[str, Any]) -> bool:
    """Whether so much else ran that a measured speed says little."""
    return bool(machine["load_average"] >= machine["usable_cores"] / 2)


def compiler_of(module: Path) -> str:
    """The compiler that made a compiled module, as it says there; empty where it does not.

    Ours are all built at once, by one: the probe's stands for the kernels'.
    """
    found = COMPILER.search(module.read_bytes())
    return found[0].decode(errors="replace").replace("GCC:", "GCC") if found else ""


def _cpu_model() -> str:
    """The name that the kernel gives the CPU; on some systems it has none but the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _blas() -> str:
    """What NumPy multiplies matrices with."""
    build: Any = np.show_config(mode="dicts")
    blas = build["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']}"
