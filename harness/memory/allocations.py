"""What is allocated while work is repeated, and by which line, as memray traces it.

Promises: allocations of all threads, those of compiled code too, by the innermost line of the
candidate (https://bloomberg.github.io/memray). Unwinding compiled code at every allocation is slow,
so that it is done only to name what was found without.
Leaves out: what grows (`cllm.harness.memory.leaks`). Functions that were looked up with `dlsym`.
"""

from __future__ import annotations

import gc
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from cllm.harness.lines import strangeness
from cllm.harness.verdict import Inconclusive

Work = Callable[[], object]

Stack = tuple[bool, tuple[tuple[str, str, int], ...]]
"""Whether blocks were resized, and Python's frames (function, file, line), the innermost first."""

WINDOWS = 3
"""Of the allocations counted in so many windows the fewest is taken: see `count_allocations`."""

RESIZES = ("REALLOC", "PYMALLOC_REALLOC")
"""What memray records of a block that is made larger or smaller, as a list's is."""

RELEASES = ("FREE", "MUNMAP", "PYMALLOC_FREE")
"""What memray records of memory that is given back."""


@contextmanager
def little_to_collect() -> Iterator[None]:
    """Collecting garbage is quick when it need not look at what was there before."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def settle() -> None:
    """Give up what the interpreter keeps for reuse and a caller cannot see."""
    gc.collect()
    # Attributes that C code looks up leave their names in the cache of types, up to 4096 of them.
    # Python 3.13 has another name for it.
    clear = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache
    clear()


@little_to_collect()
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


def kept_bytes(work: Work, rounds: int) -> Counter[Stack]:
    """Bytes by stack, of what was allocated in so many rounds and not freed.

    Every object of Python's is seen as well. Which allocator it was does not count: memray adds up
    what several of them did at one place, and names any of them.
    """
    kept: Counter[Stack] = Counter()
    with _traced(work, rounds, kept=True) as reader:
        resizes = _numbers(RESIZES)
        for record in _taken(reader.get_leaked_allocation_records(merge_threads=True)):
            kept[record.allocator in resizes, tuple(record.stack_trace())] += record.size
    return kept


def native_lines(work: Work, rounds: int, lines: set[str]) -> dict[str, str]:
    """Where compiled code allocates what it keeps, by the line of Python that calls it.

    The line of Python itself where there are no symbols, or no source, of the compiled code.
    """
    found: dict[str, str] = {}
    with _traced(work, rounds, kept=True, native=True) as reader:
        for record in _taken(reader.get_leaked_allocation_records(merge_threads=True)):
            line = line_of(record.stack_trace())
            if line in lines and line not in found:
                found[line] = line_of(record.hybrid_stack_trace())
    return found


def line_of(stack: Iterable[tuple[str, str, int]]) -> str:
    """The candidate's innermost line of a stack: compiled code whose source is here counts.

    Where it has none, the interface's: a model that is kept was allocated there.
    """
    frames = list(stack)
    known = [frame for frame in frames if strangeness(frame[1]) < 2 and _is_here(frame[1])]
    if known:
        function, file, line = min(known, key=lambda frame: strangeness(frame[1]))
        return f"{Path(file).resolve()}:{line} in {function}"
    return f"no known line ({frames[0][0]})" if frames else "no line of Python"


@cache
def _is_here(file: str) -> bool:
    return Path(file).is_absolute() and Path(file).exists()


def _asked(work: Work, rounds: int, *, native: bool) -> Counter[str]:
    """How often memory was asked for, by line."""
    places: Counter[str] = Counter()
    with _traced(work, rounds, native=native) as reader:
        for record in _taken(reader.get_allocation_records()):
            places[line_of(record.hybrid_stack_trace() if native else record.stack_trace())] += 1
    return places


@contextmanager
def _traced(
    work: Work,
    rounds: int,
    *,
    kept: bool = False,
    native: bool = False,
) -> Iterator[Any]:
    """What memray recorded of so many rounds; if `kept`, what was left, Python's objects too."""
    try:
        import memray  # slow to import
    except ImportError:
        raise Inconclusive("memray, which traces allocations, is not installed here") from None
    kinds = memray.FileFormat
    settle()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "allocations"
        with memray.Tracker(
            file,
            native_traces=native,
            trace_python_allocators=kept,
            file_format=kinds.AGGREGATED_ALLOCATIONS if kept else kinds.ALL_ALLOCATIONS,
        ):
            for _ in range(rounds):
                work()
            settle()
        with memray.FileReader(file) as reader:
            yield reader


def _taken(records: Iterable[Any]) -> Iterator[Any]:
    """The records that are no releases."""
    releases = _numbers(RELEASES)
    return (record for record in records if record.allocator not in releases)


def _numbers(names: Iterable[str]) -> set[int]:
    """Of memray's allocators."""
    from memray import AllocatorType

    return {int(getattr(AllocatorType, name)) for name in names}
