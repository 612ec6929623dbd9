"""A made-up history with two losses, one of them mended."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from cllm.harness.history.record import Better, Commit, Result, Run

HOSTILE = '</script><img src=x onerror="window.harmed = 1">\'"&amp; '
"""A benchmark of this name is shown as it is, and does nothing."""

RUNS = 80
MANY = 70
"""Benchmarks that were measured once: more than the page shows at first."""

MACHINES = (
    {"cpu": "Fast 9000", "architecture": "x86_64", "cores": 16, "usable_cores": 16},
    {"cpu": "Notebook 5", "architecture": "x86_64", "cores": 8, "usable_cores": 4},
)


def sha(number: int) -> str:
    """Of the commit that a run measured."""
    return hashlib.sha256(str(number).encode()).hexdigest()[:40]


def runs() -> Iterator[Run]:
    """On two machines; steps and import get worse in run 40, and import is mended in run 60."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    for number in range(RUNS):
        time = start + timedelta(days=5 * number)
        wobble = 1 + 0.001 * (number * 7 % 11)
        step = (1000 if number < 40 else 900) * wobble
        seconds = (0.3 if 40 <= number < 60 else 0.2) * wobble
        results = [
            Result("small step", "optimized", "steps/s", step, threads=1),
            Result("small step", "optimized", "steps/s", 1.8 * step, threads=2),
            Result("small step", "reference", "steps/s", 50 * wobble),
            Result("import", "optimized", "s", seconds, better=Better.LOWER),
            Result(HOSTILE, HOSTILE, HOSTILE, step),
        ]
        if number == 0:
            results += [Result(f"many {i:02}", "optimized", "s", 1.0 + i) for i in range(MANY)]
        yield Run(
            id=f"run {number}",
            created=time,
            source="bench",
            machine=MACHINES[number % 2],
            level="avx2",
            results=tuple(results),
            commit=Commit(sha(number), time, f"Change {number} {HOSTILE}"),
        )
