"""Memory that is allocated and not given back, or allocated at all, while work is repeated.

Promises: a leak is what grows in proportion to the rounds of work, told apart from what is kept
once (caches, free lists, the pool of an OpenMP runtime) by rounds of n, 2n and 4n. Two witnesses
can accuse: memray (https://bloomberg.github.io/memray), which knows the line of every block, and
glibc's own count of its heap, which sees blocks whose allocation memray cannot see (a function
pointer taken with `dlsym`). Private resident memory is told beside them where it grows visibly.
Leaves out: what the work is (`cllm.harness.checks.memory`). Leaks rarer than one in n rounds.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cllm.harness.verdict import Inconclusive, of_harness

_STANDARD = Path(sysconfig.get_path("stdlib"))
_NUMPY = Path(np.__file__).parent

Work = Callable[[], object]

RELEASES = ("FREE", "MUNMAP", "PYMALLOC_FREE")
"""What memray records of memory that is given back."""

INTERVALS = 5
"""In each of them the C heap has to grow for a leak: noise goes both ways."""

SMALLEST = 8
"""Bytes a round that are a leak of the C heap: its smallest block on every fourth round."""

SEEN_RESIDENT = 256 << 10
"""Bytes of growth from which private resident memory is told: pages come in bunches."""

WINDOWS = 3
"""Of the allocations counted in so many windows the fewest is taken: see `count_allocations`."""


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


@contextmanager
def _little_to_collect() -> Iterator[None]:
    """Collecting garbage is quick when it need not look at what was there before."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@_little_to_collect()
def find_leaks(work: Work, rounds: int, repeats: int) -> Growth:
    """Do the work, which has been warmed up, 7 * `rounds` times traced and then untraced.

    The count of the C heap is read after each of `INTERVALS` times `repeats`.
    """
    kept = [_kept_bytes(work, rounds * factor) for factor in (1, 2, 4)]
    grown: Counter[str] = Counter()
    for stack in set().union(*kept):
        one, two, four = (sizes[stack] for sizes in kept)
        if one < two < four and four - two >= 1.5 * (two - one):
            grown[_line(stack[1:])] += four - one
    lines = _native_lines(work, rounds, set(grown)) if grown else {}
    leaks = [
        Leak(size / (3 * rounds), f"allocated at {lines.get(line, line)}")
        for line, size in grown.most_common()
    ]
    resident = resident_bytes()
    heap = _heap_growth(work, repeats)
    if not leaks and heap > 0:
        heap = _heap_growth(work, 2 * repeats)  # what is no leak does not do it again
        if heap > 0:
            leaks = [Leak(heap, "seen in the count of the C heap alone")]
    more = resident_bytes() - resident
    told = f"private memory grew by {more >> 10:,} KiB meanwhile" if more >= SEEN_RESIDENT else ""
    return Growth(leaks, told)


@_little_to_collect()
def count_allocations(work: Work, rounds: int) -> tuple[int, list[str]]:
    """How often memory was asked of the system's allocators, in the best of `WINDOWS` windows.

    Returns the number, freed at once or not, and the places, the most frequent first. Objects that
    the interpreter places in memory of its own (up to 512 bytes) do not count. What comes in some
    windows alone is not the work's: an OpenMP runtime that now and then changes its team.
    """
    fewest: Counter[str] | None = None
    for _ in range(WINDOWS):
        asked = _asked(work, rounds, native=False)
        if not asked:
            return 0, []
        if fewest is None or asked.total() < fewest.total():
            fewest = asked
    assert fewest is not None  # WINDOWS > 0
    named = _asked(work, 1, native=True) or fewest  # unwinding is slow
    return fewest.total(), [line for line, _ in named.most_common()]


def _asked(work: Work, rounds: int, *, native: bool) -> Counter[str]:
    """How often memory was asked for, by line."""
    places: Counter[str] = Counter()
    with _traced(work, rounds, native=native) as reader:
        for record in _taken(reader.get_allocation_records()):
            places[_line(record.hybrid_stack_trace() if native else record.stack_trace())] += 1
    return places


def _kept_bytes(work: Work, rounds: int) -> Counter[tuple[Any, ...]]:
    """Bytes by allocator and Python stack, of what was allocated in so many rounds and not freed.

    Every object of Python's is seen as well.
    """
    kept: Counter[tuple[Any, ...]] = Counter()
    with _traced(work, rounds, trace_python_allocators=True, aggregated=True) as reader:
        for record in _taken(reader.get_leaked_allocation_records(merge_threads=True)):
            kept[record.allocator, *record.stack_trace()] += record.size
    return kept


def _native_lines(work: Work, rounds: int, lines: set[str]) -> dict[str, str]:
    """What lines of Python allocate in: the line of compiled code, where it has symbols for it.

    Unwinding every allocation is slow, so that it is done only for lines that are known to leak.
    """
    found: dict[str, str] = {}
    with _traced(
        work, rounds, native=True, trace_python_allocators=True, aggregated=True
    ) as reader:
        for record in _taken(reader.get_leaked_allocation_records(merge_threads=True)):
            line = _line(record.stack_trace())
            if line in lines and line not in found:
                found[line] = _line(record.hybrid_stack_trace())
    return found


@contextmanager
def _traced(
    work: Work,
    rounds: int,
    *,
    native: bool = False,
    aggregated: bool = False,
    trace_python_allocators: bool = False,
) -> Iterator[Any]:
    """What memray recorded of so many rounds; `aggregated`, only what was left of them."""
    try:
        import memray  # slow to import
    except ImportError:
        raise Inconclusive("memray, which traces allocations, is not installed here") from None
    kinds = memray.FileFormat
    _settle()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "allocations"
        with memray.Tracker(
            file,
            native_traces=native,
            trace_python_allocators=trace_python_allocators,
            file_format=kinds.AGGREGATED_ALLOCATIONS if aggregated else kinds.ALL_ALLOCATIONS,
        ):
            for _ in range(rounds):
                work()
            _settle()
        with memray.FileReader(file) as reader:
            yield reader


def _taken(records: Iterable[Any]) -> Iterator[Any]:
    """The records that are no releases."""
    from memray import AllocatorType

    releases = {int(getattr(AllocatorType, name)) for name in RELEASES}
    return (record for record in records if record.allocator not in releases)


def _line(stack: Iterable[tuple[str, str, int]]) -> str:
    """The innermost line of the candidate in a stack: compiled code whose source is here counts."""
    frames = [(function, Path(file), line) for function, file, line in stack]
    for function, path, line in frames:
        if path.is_absolute() and path.exists() and not _of_library(path):
            return f"{path.resolve()}:{line} in {function}"
    return (
        f"no line of the candidate's Python ({frames[0][0] if frames else 'a thread of its own'})"
    )


def _of_library(path: Path) -> bool:
    """Whether a source file is the harness's, NumPy's or Python's own."""
    standard = _STANDARD in path.parents and "site-packages" not in path.parts
    return standard or _NUMPY in path.parents or of_harness(path)


def _settle() -> None:
    """Give up what the interpreter keeps for reuse and a caller cannot see."""
    gc.collect()
    # Attributes that C code looks up leave their names in the cache of types, up to 4096 of them.
    clear = (
        getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache
    )  # the former: 3.13
    clear()


def _heap_growth(work: Work, repeats: int) -> float:
    """Bytes a round by which the C heap grew, if it did in every interval; else 0."""
    sizes = []
    for _ in range(INTERVALS + 1):
        for _ in range(repeats):
            work()
        _settle()
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


def resident_bytes() -> int:
    """Private resident memory: what this process alone would give back."""
    rows = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines())
    return 1024 * sum(int(row[1]) for row in rows if row[0] in ("Private_Clean:", "Private_Dirty:"))
