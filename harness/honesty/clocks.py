"""Python's clocks held against the kernel's.

Promises: each reading of a clock must lie between two of the kernel's own clock, asked for past
the C library; what was slowed, stopped or shifted is named.
Leaves out: systems other than Linux on x86-64 and aarch64, where nothing is said.
"""

from __future__ import annotations

import ctypes
import platform
import sys
import time
from collections.abc import Callable

_NUMBERS = {"x86_64": 228, "aarch64": 113}
"""Of the system call clock_gettime."""

_REALTIME, _MONOTONIC, _PROCESS, _THREAD = 0, 1, 2, 3

_CLOCKS = {
    "time": _REALTIME,
    "monotonic": _MONOTONIC,
    "perf_counter": _MONOTONIC,
    "process_time": _PROCESS,
    "thread_time": _THREAD,
}

_ROUNDING = 1e-6
"""Seconds; a double holds the time of day to a quarter of it."""

_TRIES = 3
"""The time of day may be set between two readings."""


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def wrong_clocks() -> list[str]:
    """Names of clocks of the module `time` that do not tell the kernel's time."""
    number = _NUMBERS.get(platform.machine()) if sys.platform == "linux" else None
    if number is None:
        return []
    call = ctypes.CDLL(None, use_errno=True).syscall

    def kernel(clock: int) -> float:
        found = _Time()
        if call(ctypes.c_long(number), ctypes.c_int(clock), ctypes.byref(found)):
            raise OSError(ctypes.get_errno(), "clock_gettime")
        return float(found.seconds + found.nanoseconds * 1e-9)

    wrong = []
    for name, clock in _CLOCKS.items():
        in_ns: Callable[[], int] = getattr(time, f"{name}_ns")
        readings: dict[str, Callable[[], float]] = {
            name: getattr(time, name),
            f"{name}_ns": lambda in_ns=in_ns: in_ns() * 1e-9,  # type: ignore[misc]
        }
        for what, read in readings.items():
            if not any(_between(kernel, clock, read) for _ in range(_TRIES)):
                wrong.append(f"time.{what}")
    return wrong


def _between(kernel: Callable[[int], float], clock: int, read: Callable[[], float]) -> bool:
    before, seen, after = kernel(clock), read(), kernel(clock)
    return before - _ROUNDING <= seen <= after + _ROUNDING
