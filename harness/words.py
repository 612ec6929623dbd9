"""Numbers of things in words."""

from __future__ import annotations


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
