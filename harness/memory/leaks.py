"""Memory that is allocated and not given back while work is repeated.

Promises: a leak is what grows in proportion to the rounds of work, told apart from what is kept
once (caches, free lists, the pool of an OpenMP runtime) by rounds of n, 2n and 4n. Two witnesses
can accuse: memray (`cllm.harness.memory.allocations`), which knows the line of every block, and
glibc's own count of its heap, which sees blocks whose allocation memray cannot see (a function
pointer taken with `dlsym`). Private resident memory is told beside them where it grows visibly.
Leaves out: what the work is (`cllm.harness.checks.memory`). Leaks rarer than one in n rounds.
"""

from __future__ import annotations

import ctypes
import itertools
from dataclasses import dataclass
from pathlib import Path

from cllm.harness.memory.allocations import (
    Stack,
    Work,
    kept_bytes,
    line_of,
    little_to_collect,
    native_lines,
    settle,
)

CONFIRMING = 24
"""So many times as many rounds are traced where something grows."""

INTERVALS = 5
"""In each of them the C heap has to grow for a leak: noise goes both ways."""

SMALLEST = 8
"""Bytes a round that are a leak of the C heap: its smallest block on every fourth round."""

SEEN_RESIDENT = 256 << 10
"""Bytes of growth from which private resident memory is told: pages come in bunches."""


@dataclass(frozen=True)
class Leak:
    """Memory that grows with the work."""

    size: float
    """Bytes a round."""
    where: str
    """File, line and function that allocated it, or which witness alone has seen it."""

    def __str__(self) -> str:
        return f"{self.size:.4g} bytes, {self.where}"


@dataclass(frozen=True)
class Growth:
    """What the work left behind."""

    leaks: list[Leak]
    """The largest first."""
    resident: str
    """By how much private resident memory grew, in words; empty where it did not visibly."""


@little_to_collect()
def find_leaks(work: Work, rounds: int, repeats: int) -> Growth:
    """Do the work, which has been warmed up, 7 * `rounds` times traced and then untraced.

    The count of the C heap is read after each of `INTERVALS` times `repeats`.
    """
    stacks = _growing(work, rounds)
    if stacks:  # pools that fill slowly come to an end, of NumPy's for small arrays at 7 blocks
        long = CONFIRMING * rounds
        kept = kept_bytes(work, long)
        stacks = {s: size for s, size in stacks.items() if kept[s] >= 0.75 * size * long}
    sizes: dict[str, float] = {}
    for (_, frames), size in stacks.items():
        line = line_of(frames)
        sizes[line] = sizes.get(line, 0.0) + size
    lines = native_lines(work, rounds, set(sizes)) if sizes else {}
    leaks = [Leak(size, f"allocated at {lines.get(line, line)}") for line, size in sizes.items()]
    leaks.sort(key=lambda leak: -leak.size)
    give_back_free_memory()  # else it would be used first
    resident = resident_bytes()
    heap = _heap_growth(work, repeats)
    if not leaks and heap > 0:
        heap = _heap_growth(work, 2 * repeats)  # what is no leak does not do it again
        if heap > 0:
            leaks = [Leak(heap, "seen in the count of the C heap alone")]
    more = resident_bytes() - resident
    expected = sum(leak.size for leak in leaks) * (INTERVALS + 1) * repeats
    seen = min(more, expected) >= SEEN_RESIDENT
    return Growth(leaks, f"private memory grew by {more >> 10:,} KiB meanwhile" if seen else "")


def _growing(work: Work, rounds: int) -> dict[Stack, float]:
    """Bytes a round that n, 2n and 4n rounds have left in proportion to their number."""
    kept = [kept_bytes(work, rounds * factor) for factor in (1, 2, 4)]
    grown: dict[Stack, float] = {}
    for stack in kept[-1]:
        one, two, four = (sizes[stack] for sizes in kept)
        if one > 0 and two >= 1.5 * one and four >= 1.6 * two:
            grown[stack] = (four - one) / (3 * rounds)
    return grown


def _heap_growth(work: Work, repeats: int) -> float:
    """Bytes a round by which the C heap grew, if it did in every interval; else 0."""
    sizes = []
    for _ in range(INTERVALS + 1):
        for _ in range(repeats):
            work()
        settle()
        sizes.append(heap_bytes())
    growths = [after - before for before, after in itertools.pairwise(sizes)]
    if min(growths) < SMALLEST * repeats:
        return 0.0
    return sorted(growths)[INTERVALS // 2] / repeats


class _Mallinfo2(ctypes.Structure):
    """What glibc (2.33 and later) tells of its heap; see mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks"),
            *("uordblks", "fordblks", "keepcost"),
        )
    ]  # fmt: skip


def heap_bytes() -> int:
    """Bytes in use of the C heap, of all threads; 0 where the C library has no such count."""
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return 0
    mallinfo2.restype = _Mallinfo2
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


def give_back_free_memory() -> None:
    """Let the system have the free pages of the C heap, where the C library can."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def resident_bytes() -> int:
    """Private resident memory: what this process alone would give back."""
    rows = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines())
    return 1024 * sum(int(row[1]) for row in rows if row[0] in ("Private_Clean:", "Private_Dirty:"))
