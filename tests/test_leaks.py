from __future__ import annotations

import ctypes
import re
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cllm.harness.memory import leaks
from cllm.harness.memory.allocations import count_allocations
from cllm.harness.memory.leaks import find_leaks

KEPT: list[Any] = []
HERE = Path(__file__).resolve()

_malloc = ctypes.CDLL(None).malloc  # called by its address: no tracer sees the call
_malloc.restype = ctypes.c_void_p
_malloc.argtypes = [ctypes.c_size_t]


def line_of(text: str) -> int:
    return 1 + next(i for i, line in enumerate(HERE.read_text().splitlines()) if text in line)


def test_what_is_kept_each_time_is_found_with_its_line() -> None:
    def work() -> None:
        KEPT.append(bytes(1000))  # kept each time

    growth = find_leaks(work, 8, 4)
    KEPT.clear()
    [leak] = growth.leaks
    assert 1000 <= leak.size < 1100
    assert leak.where == f"allocated at {HERE}:{line_of('# kept each time')} in work"


def test_what_is_kept_every_fourth_time_is_found() -> None:
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1
        if calls % 4 == 0:
            KEPT.append(object())

    assert find_leaks(work, 4, 4).leaks
    KEPT.clear()


def test_what_is_replaced_is_no_leak() -> None:
    last: deque[Any] = deque(maxlen=3)

    def work() -> None:
        cycle: list[Any] = [np.ones(1000)]
        cycle.append(cycle)  # the collector's to free
        last.append(np.ones(500))

    assert find_leaks(work, 4, 10).leaks == []


def test_what_is_kept_once_is_no_leak() -> None:
    cache: dict[int, bytes] = {}

    def work() -> None:
        cache.setdefault(len(cache) % 5, bytes(1000))

    assert find_leaks(work, 4, 10).leaks == []


@pytest.mark.parametrize("size", [1, 64])
def test_heap_tells_what_no_tracer_sees(size: int) -> None:
    [leak] = find_leaks(lambda: _malloc(size), 4, 50).leaks
    assert leak.where == "seen in the count of the C heap alone"
    assert size <= leak.size < size + 40  # 32 bytes at least, and some noise


def test_large_growth_is_told_of_private_memory() -> None:
    def work() -> None:
        KEPT.append(np.ones(100_000))  # an object and its data, of two allocators

    # free memory that is still resident, kept from the system by the block after it
    for _ in range(2):  # blocks of this size are the heap's once one of them was freed
        freed, after = [np.ones(100_000) for _ in range(200)], np.ones(100_000)
        del freed
    growth = find_leaks(work, 2, 4)
    KEPT.clear()
    assert growth.leaks[0].size == pytest.approx(800_000, rel=0.02)
    assert "in work" in growth.leaks[0].where
    told = re.fullmatch(r"private memory grew by (.+) KiB meanwhile", growth.resident)
    assert told is not None
    assert int(told[1].replace(",", "")) > 10_000
    del after
    assert find_leaks(lambda: None, 2, 4).resident == ""


def test_allocations_are_counted_and_named() -> None:
    array = np.ones(100)

    def work() -> None:
        np.add(array, 1.0, out=array)
        bytes(5000)  # asked for and given back

    number, places = count_allocations(work, 10)
    assert number == 10
    assert places == [f"{HERE}:{line_of('# asked for and given back')} in work"]


def test_no_allocation_is_counted_where_there_is_none() -> None:
    array = np.ones(100)
    assert count_allocations(lambda: np.add(array, 1.0, out=array), 10) == (0, [])


def test_allocations_of_some_windows_alone_are_not_the_works() -> None:
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            bytes(5000)

    assert count_allocations(work, 10) == (0, [])


def test_a_heap_without_a_count_does_not_accuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "heap_bytes", lambda: 0)
    assert find_leaks(lambda: _malloc(64), 4, 50).leaks == []
