"""Memory that is allocated and not given back, or allocated at all, while work is repeated.

Promises: a leak is what grows in proportion to the rounds of work, told apart from what is kept
once (caches, free lists, the pool of an OpenMP runtime) by rounds of n, 2n and 4n. Three witnesses
of it: memray, which knows the line of every block; the C heap's own count, which sees blocks whose
allocation memray cannot see (a function pointer taken with `dlsym`); and private resident memory,
which sees what does not come from the heap.
Leaves out: what the work is (`cllm.harness.checks.memory`). Rarer leaks than one in n rounds.

memray (https://bloomberg.github.io/memray) allows one tracker in a process; it is imported only
here, and only when it is needed.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cllm.harness.verdict import of_harness

_RELEASES = (1, 5, 15)
"""What memray calls `free` of Python's allocator, `free` and `munmap`."""

Work = Callable[[], object]

BLOCK = 32
"""Bytes of the smallest block of the C heap; half of it a round is its smallest leak."""

SEEN_RESIDENT = 1 << 20
"""Bytes by which resident memory must grow before it is taken for a leak: pages come in bunches."""

WINDOWS = 3
"""Of the allocations counted in so many windows the fewest is taken: see `count_allocations`."""


@dataclass(frozen=True)
class Leak:
    """Memory that grows with the work."""

    size: float
    """Bytes a round."""
    blocks: float
    """A round; 0 where a block grew, or where nobody counted them."""
    where: str
    """File, line and function that allocated it, or which witness alone has seen it."""

    def __str__(self) -> str:
        return f"{self.size:.4g} bytes, {self.where}"


@dataclass(frozen=True)
class Growth:
    """What n, 2n and 4n rounds left behind."""

    leaks: list[Leak]
    """The largest first."""
    heap: float | None
    """Bytes a round by which the C heap grew; None where the C library has no count of them."""
    resident: float
    """Bytes a round by which private resident memory grew."""


def find_leaks(work: Work, rounds: int) -> Growth:
    """Repeat the work, which has been warmed up, 14 * `rounds` times, half of them traced."""
    counts = [rounds, 2 * rounds, 4 * rounds]
    kept = [_kept_blocks(work, count) for count in counts]
    heaps, residents = _growths(work, counts)
    places = {where for blocks in kept for where in blocks}
    leaks = []
    for where in places:
        sizes, blocks = zip(*[found.get(where, (0, 0)) for found in kept], strict=True)
        if _in_proportion(sizes):
            size, number = _slope(sizes, counts), _slope(blocks, counts)
            leaks.append(Leak(size, number, f"allocated at {where}"))
    leaks.sort(key=lambda leak: -leak.size)
    heap = None if None in heaps else _slope(heaps, counts)
    resident = _slope(residents, counts)
    if not leaks and heap is not None and _in_proportion(heaps) and heap >= BLOCK / 2:
        # The C library's own stock of freed blocks counts as in use; it does not grow evenly.
        again, _ = _growths(work, counts)
        if _in_proportion(again) and abs(_slope(again, counts) - heap) <= heap / 8:
            leaks.append(Leak(heap, 0, "seen in the count of the C heap alone"))
    if not leaks and _in_proportion(residents) and residents[-1] >= SEEN_RESIDENT:
        leaks.append(Leak(resident, 0, "seen in the private resident memory alone"))
    return Growth(leaks, heap, resident)


def count_allocations(work: Work, rounds: int) -> tuple[int, list[str]]:
    """How often memory was asked of the system's allocators, in the best of `WINDOWS` windows.

    Returns the number, freed at once or not, and the places, the most frequent first. Objects that
    the interpreter places in memory of its own (up to 512 bytes) do not count. What comes in some
    windows alone is not the work's: an OpenMP runtime that now and then changes its team.
    """
    windows = []
    for _ in range(WINDOWS):
        with _traced(work, rounds, python=False) as reader:
            windows.append(_by_place(reader.get_allocation_records()))
    fewest = min(windows, key=lambda places: sum(number for _, number in places.values()))
    places = sorted(fewest, key=lambda where: -fewest[where][1])
    return sum(number for _, number in fewest.values()), places


def _in_proportion(kept: Any) -> bool:
    """Whether what 1, 2 and 4 parts of work have left grows with the work."""
    one, two, four = kept
    return bool(one < two < four and four - two >= 1.5 * (two - one) and two > 1.25 * one)


def _slope(kept: Any, rounds: list[int]) -> float:
    return float((kept[-1] - kept[0]) / (rounds[-1] - rounds[0]))


def _settle() -> None:
    """Give up what the interpreter keeps for reuse and a caller cannot see."""
    gc.collect()
    # Attributes that C code looks up leave their names in the cache of types, up to 4096 of them.
    clear = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache  # the former: 3.13
    clear()


def _growths(work: Work, counts: list[int]) -> tuple[Any, Any]:
    """Growth of the C heap and of private resident memory over each number of rounds."""
    heaps, residents = zip(*[_growth_untraced(work, count) for count in counts], strict=True)
    return heaps, residents


def _growth_untraced(work: Work, rounds: int) -> tuple[int | None, int]:
    """Bytes that the C heap and private resident memory grew by."""
    _settle()
    heap, resident = heap_bytes(), resident_bytes()
    for _ in range(rounds):
        work()
    _settle()
    heap_after = heap_bytes()
    grown = None if heap is None or heap_after is None else heap_after - heap
    return grown, resident_bytes() - resident


class _Mallinfo2(ctypes.Structure):
    """What glibc (2.33 and later) tells of its heap; see mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks"),
            *("uordblks", "fordblks", "keepcost"),
        )
    ]  # fmt: skip


def heap_bytes() -> int | None:
    """Bytes in use of the C heap, of all threads; None where the C library has no such count."""
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return None
    mallinfo2.restype = _Mallinfo2
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


def resident_bytes() -> int:
    """Private resident memory: what this process alone would give back."""
    rows = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines())
    return 1024 * sum(int(row[1]) for row in rows if row[0] in ("Private_Clean:", "Private_Dirty:"))


def _kept_blocks(work: Work, rounds: int) -> dict[str, tuple[int, int]]:
    """Bytes and blocks by place, of what was allocated in so many rounds and not freed."""
    with _traced(work, rounds, python=True) as reader:
        return _by_place(reader.get_leaked_allocation_records(merge_threads=True))


@contextmanager
def _traced(work: Work, rounds: int, *, python: bool) -> Iterator[Any]:
    """What memray recorded; with `python`, every object of Python's as well."""
    import memray

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "allocations"
        with memray.Tracker(file, native_traces=True, trace_python_allocators=python):
            for _ in range(rounds):
                work()
            _settle()
        with memray.FileReader(file) as reader:
            yield reader


def _by_place(records: Any) -> dict[str, tuple[int, int]]:
    """Bytes and blocks of records by the place that asked for them."""
    places: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for record in records:
        if record.allocator not in _RELEASES:
            where = _place(record)
            size, blocks = places[where]
            places[where] = size + record.size, blocks + record.n_allocations
    return dict(places)


def _place(record: Any) -> str:
    """The innermost line of the candidate: of its C source where that is known, else of Python."""
    python = {frame[:2] for frame in record.stack_trace()}
    frames = record.hybrid_stack_trace()
    for function, file, line in frames:
        path = Path(file)
        native = path.is_absolute() and path.exists()
        if ((function, file) in python or native) and not of_harness(path):
            return f"{file}:{line} in {function}"
    named = [function for function, _, _ in frames if function.isidentifier()]
    return f"{named[0]}, called from no line of Python" if named else "an unknown place"
