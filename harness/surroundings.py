"""What a process holds beside its data, and a computation has no business to change.

Promises: looking changes nothing, from the second look on.
"""

from __future__ import annotations

import gc
import hashlib
import locale
import os
import pickle
import random
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

OF_THE_LIBRARY = 0b11 << 31
"""Signals 32 and 33, which the C library takes for itself when a thread starts."""


def surroundings() -> dict[str, str]:
    """Generators, arithmetic, signals, settings of Python and of NumPy: item by item, by name."""
    status = Path("/proc/self/status").read_text().splitlines()
    found: dict[str, Any] = _arithmetic()
    found |= {f"np.geterr()[{key!r}]": value for key, value in np.geterr().items()}
    found |= {
        f"np.get_printoptions()[{key!r}]": value for key, value in np.get_printoptions().items()
    }
    found |= {f"the handler of {s.name}": signal.getsignal(s) for s in signal.Signals}
    found |= {
        f"{line[:6]} of /proc/self/status": f"{int(line[7:], 16) & ~OF_THE_LIBRARY:x}"
        for line in status
        if line.startswith(("SigBlk", "SigIgn", "SigCgt"))
    }
    found |= {f"os.environ[{key!r}]": value for key, value in os.environ.items()}
    found |= {f"warnings.filters[{i}]": value for i, value in enumerate(warnings.filters)}
    found |= {
        "the state of np.random (its digest)": _digest(np.random.get_state()),
        "the state of random (its digest)": _digest(random.getstate()),
        "the locale": locale.setlocale(locale.LC_ALL),
        "the working directory": Path.cwd(),
        "sys.gettrace()": sys.gettrace(),
        "sys.getprofile()": sys.getprofile(),
        "sys.getrecursionlimit()": sys.getrecursionlimit(),
        "sys.getswitchinterval()": sys.getswitchinterval(),
        "os.sched_getaffinity(0)": sorted(os.sched_getaffinity(0)),
        "the priority": os.getpriority(os.PRIO_PROCESS, 0),
        "gc.isenabled()": gc.isenabled(),
        "gc.get_threshold()": gc.get_threshold(),
        "sys.stdout": sys.stdout,
        "sys.stderr": sys.stderr,
    }
    return {name: str(value) for name, value in found.items()}


def _arithmetic() -> dict[str, Any]:
    """What another rounding, denormals flushed or denormals taken for zero would change."""
    small, tiny, one = np.float64(2.0**-1022), np.float64(1e-310), np.float64(1.0)
    down, single = np.float64(1e-20), np.float32(1e-39)
    with np.errstate(all="ignore"):
        results: dict[str, np.floating[Any]] = {
            "2**-1022 / 4": small / 4,
            "1e-310 · 1": tiny * one,
            "1e-39 · 1 in float32": single * np.float32(1.0),
            "1 + 1e-20": one + down,
            "1 - 1e-20": one - down,
            "-1 - 1e-20": -one - down,
        }
    return {name: result.item().hex() for name, result in results.items()}


def _digest(value: object) -> str:
    return hashlib.sha256(pickle.dumps(value)).hexdigest()[:16]
