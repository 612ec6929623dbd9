"""Numbers of things, and ends of processes, in words."""

from __future__ import annotations

import signal


def plural(count: int | str, noun: str) -> str:
    """1 benchmark, 2 benchmarks."""
    return f"{count} {noun}{'' if str(count) == '1' else 's'}"


def threads_of(count: int | str) -> str:
    """1 thread, 2 threads."""
    return plural(count, "thread")


def duration(seconds: float) -> str:
    """50 seconds, 3 minutes."""
    if seconds < 120:
        return plural(round(seconds), "second")
    return plural(round(seconds / 60), "minute")


def ending(status: int | None) -> str:
    """How a process of that exit status ended: `by SIGSEGV`, `with exit status 3`."""
    if status is None or status >= 0:
        return f"with exit status {status}"
    return f"by {signal.Signals(-status).name}"
