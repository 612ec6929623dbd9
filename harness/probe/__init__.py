"""What the machine can do at this moment: arithmetic, memory, and the way between two cores.

Promises: measured, never assumed: multiply-adds on registers in the widest vectors that the
process uses, reads from arrays that fit into a cache or into none, a cache line handed from one
core to another. The same machine shared with others gives other figures a minute later, so it is
asked again and again.
Leaves out: what a model makes of it (`cllm.harness.bench.flops`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from cllm.harness.probe.loops import fma_rate, hand_over_seconds, read_rate, widest_level

FMA_SECONDS = 0.01
MOMENT_SECONDS, MOMENTS = 0.001, 5
READ_SECONDS = 0.02
HAND_OVERS = 5
ROUNDS = 500

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
LARGEST_ARRAY = 1 << 28
"""Bytes; what is read to measure the memory."""


def survey(threads: Sequence[int]) -> dict[str, Any]:
    """All of it, by number of threads: what a report keeps."""
    waiting = hand_over()
    return {
        "level": level(),
        "fma": {str(count): fma_peak(count) for count in threads},
        "read": {str(count): read_bandwidths(count) for count in threads},
        "hand_over_seconds": waiting,
    }


def level() -> str:
    """The instruction-set level: CLLM_ISA, or the widest that the processor runs."""
    wanted = os.environ.get("CLLM_ISA") or None
    found: str = widest_level(wanted)
    return found


def fma_peak(threads: int) -> float:
    """FLOP/s of multiply-adds in float32 with so many threads."""
    rate: float = fma_rate(level(), threads, FMA_SECONDS)
    return rate


def undisturbed_peak(threads: int) -> float:
    """FLOP/s of the fastest of a few short moments: what else runs takes little from it."""
    rate: float = max(fma_rate(level(), threads, MOMENT_SECONDS) for _ in range(MOMENTS))
    return rate


def hand_over() -> float | None:
    """Seconds that a cache line takes from the first usable core to the second; median of a few.

    None where the process may use one core only.
    """
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        return None
    seconds: float = median(hand_over_seconds(*cores, ROUNDS) for _ in range(HAND_OVERS))
    return seconds


def read_bandwidths(threads: int) -> dict[str, float]:
    """Bytes/s read by so many threads from arrays for `L2`, `L3` and `memory`.

    Half of each cache, the L2 of each thread; four times the L3 for the memory.
    """
    sizes = cache_bytes()
    arrays = {f"L{depth}": sizes[depth] // 2 for depth in (2, 3) if depth in sizes}
    if "L2" in arrays:
        arrays["L2"] *= threads
    arrays["memory"] = min(LARGEST_ARRAY, 4 * max(sizes.values(), default=LARGEST_ARRAY))
    floats = np.ones(max(arrays.values()) // 4, np.float32)
    return {
        name: read_rate(level(), threads, READ_SECONDS, floats[: nbytes // 4])
        for name, nbytes in arrays.items()
    }


def cache_bytes() -> dict[int, int]:
    """Size of the data cache of each level, as the system tells it; those that it tells."""
    found = {}
    for folder in sorted(CACHES.glob("index*")):
        kind, number, size = (
            (folder / name).read_text().strip() for name in ("type", "level", "size")
        )
        if kind != "Instruction":
            found[int(number)] = int(size.removesuffix("K")) * 1024
    return found
