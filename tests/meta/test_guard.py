"""Guarded memory: it lies where it should, and says who left it, how far and in which direction."""

from __future__ import annotations

import ctypes
import gc
import math
import sys
import threading
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.harness import isolation
from cllm.harness.guard import Arena, OutOfBounds, Side
from cllm.harness.verdict import Status, Verdict
from cllm.plan import Buffer, Role

PAGE = 4096
GUARD = 1 << 20


def entry(
    name: str = "numbers", size: int = 100, dtype: str = "float32", alignment: int = 0
) -> Buffer:
    return Buffer(name, (size,), np.dtype(dtype), Role.SCRATCH, alignment)


def reach(array: np.ndarray, offset: int, write: bool) -> None:
    """Read or write one byte, counted from the first of the array."""
    byte = ctypes.c_ubyte.from_address(array.ctypes.data + offset)
    if write:
        byte.value = 1
    else:
        assert byte.value >= 0


def trespass(size: int, dtype: str, side: str, offset: int, write: bool, thread: bool) -> Verdict:
    """In a process of its own: reach out of the middle one of three buffers."""
    entries = [entry("before"), entry("between", size, dtype), entry("after")]
    arena = Arena(entries, Side(side))
    reaching = partial(reach, arena.buffers["between"], offset, write)
    if thread:
        worker = threading.Thread(target=reaching)
        worker.start()
        worker.join()
    else:
        reaching()
    return Verdict(Status.PASS, "nothing happened")


def said(function: object, *arguments: object) -> str:
    verdict = isolation.isolate(function, *arguments, limit=30.0)  # type: ignore[arg-type]
    assert verdict.status is Status.FAIL, verdict
    return verdict.evidence


@pytest.mark.parametrize(
    ("size", "dtype", "side", "offset", "write", "expected"),
    [
        (24384, "float32", "end", 4 * 24384, True, "write to between, 4 bytes past its end"),
        (24384, "float32", "end", 4 * 82624 - 4, True, "to between, 232,960 bytes past its end"),
        (24384, "float32", "end", 4 * 24384 + 1, False, "read of between, 4 bytes past its end"),
        (24384, "float32", "start", -1, False, "read of between, 4 bytes before its start"),
        (24384, "float32", "start", -4, True, "write to between, 4 bytes before its start"),
        (3, "float64", "end", 24, True, "write to between, 8 bytes past its end"),
        (3, "float64", "start", -9, True, "write to between, 16 bytes before its start"),
        (1, "int8", "end", GUARD, True, "to between, 1,048,576 bytes past its end"),
        (1, "int8", "start", -GUARD, True, "to between, 1,048,576 bytes before its start"),
        (3 * GUARD, "int8", "end", 6 * GUARD - 1, True, "3,145,728 bytes past its end"),
    ],
)
def test_who_leaves_a_buffer_is_named(
    size: int, dtype: str, side: str, offset: int, write: bool, expected: str
) -> None:
    evidence = said(trespass, size, dtype, side, offset, write, False)
    nbytes = size * np.dtype(dtype).itemsize
    assert f"{expected} (buffer of {nbytes:,} bytes), called at " in evidence
    assert "test_guard.py" in evidence
    assert "in reach" in evidence


def test_who_leaves_a_buffer_in_a_thread_is_named() -> None:
    evidence = said(trespass, 7, "float32", "end", 28, True, True)
    assert evidence.startswith("write to between, 4 bytes past its end (buffer of 28 bytes)")
    assert "in reach" in evidence


def nowhere() -> Verdict:
    Arena([entry()], Side.END)
    ctypes.c_ubyte.from_address(64).value = 1
    return Verdict(Status.PASS, "nothing happened")


def test_an_address_of_nobody_is_left_to_others() -> None:
    evidence = said(nowhere)
    assert evidence.startswith("crashed by SIGSEGV")
    assert "out of bounds" not in evidence


def overwritten(name: str) -> Verdict:
    with Arena([entry("read"), entry("written")], Side.END) as arena:
        arena.buffers["written"][3] = 1
        with arena.read_only("read"):
            arena.buffers["written"][4] = arena.buffers["read"][4]
            reach(arena.buffers[name], 12, True)
        arena.buffers["read"][3] = 1  # may be written again
    return Verdict(Status.PASS, "nothing happened")


def test_what_may_only_be_read_is_write_protected() -> None:
    assert said(overwritten, "read").startswith(
        "write to read, which may only be read, at byte 12, called at"
    )
    verdict = isolation.isolate(overwritten, "written", limit=30.0)
    assert verdict.status is Status.PASS, verdict


def released(keep: bool) -> Verdict:
    arena = Arena([entry("mine"), entry("other")], Side.START)
    kept, address = arena.buffers["mine"], arena.buffers["mine"].ctypes.data
    arena.close()
    kept[1] = 2
    if not keep:
        del kept
        gc.collect()
    found = ctypes.c_float.from_address(address + 4).value
    return Verdict(Status.PASS, f"found {found}")


def test_what_nobody_holds_any_more_is_unreadable() -> None:
    assert said(released, False).startswith("read of mine, which has been released, at byte 4")
    assert isolation.isolate(released, True, limit=30.0).evidence == "found 2.0"


def unmapped() -> Verdict:
    array = Arena([entry("mine", 1024)], Side.START).buffers["mine"]
    assert ctypes.CDLL(None).munmap(ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(PAGE)) == 0
    array[3] = 1
    return Verdict(Status.PASS, "nothing happened")


def test_what_somebody_has_unmapped_is_named() -> None:
    assert said(unmapped).startswith("write to mine, which is no longer mapped, at byte 12")


@given(
    st.integers(1, 3 * PAGE),
    st.sampled_from(["int8", "int32", "float32", "float64", "complex128"]),
    st.sampled_from([0, 1, 4, 12, 64, 4096, 3 * 4096]),
    st.sampled_from(Side),
)
def test_buffers_lie_flush_and_aligned(size: int, dtype: str, alignment: int, side: Side) -> None:
    wanted = entry("numbers", size, dtype, alignment)
    with Arena([wanted], side) as arena:
        array = arena.buffers["numbers"]
        assert array.flags.c_contiguous
        assert array.flags.aligned
        assert array.flags.writeable
        assert not array.any()
        step = math.lcm(max(alignment, 1), wanted.dtype.alignment)
        start, stop = array.ctypes.data, array.ctypes.data + array.nbytes
        assert start % step == 0
        assert (-stop if side is Side.END else start) % PAGE < step
        array[...] = 1
        arena.verify()


@pytest.mark.parametrize(
    ("side", "alignment", "offset", "expected"),
    [
        (Side.END, 64, 20, "write to numbers, 4 bytes past its end"),
        (Side.END, 64, 63, "write to numbers, 44 bytes past its end"),
        (Side.START, 0, 20, "write to numbers, 4 bytes past its end"),
        (Side.END, 0, -1, "write to numbers, 4 bytes before its start"),
        (Side.END, 0, -17, "write to numbers, 20 bytes before its start"),
    ],
)
def test_slack_is_verified(side: Side, alignment: int, offset: int, expected: str) -> None:
    with Arena([entry(size=5, alignment=alignment)], side) as arena:
        reach(arena.buffers["numbers"], offset, write=True)
        with pytest.raises(OutOfBounds) as caught:
            arena.verify()
    assert str(caught.value) == f"{expected} (buffer of 20 bytes)"


@pytest.mark.parametrize("side", Side)
def test_slack_is_no_number(side: Side) -> None:
    with Arena([entry("f4", 3), entry("f8", 3, "float64")], side) as arena:
        for name, array in arena.buffers.items():
            beside = array.size if side is Side.START else -1
            kind = ctypes.c_float if name == "f4" else ctypes.c_double
            address = array.ctypes.data + beside * array.itemsize
            assert math.isnan(kind.from_address(address).value)


def test_poison_is_signalling_and_impossible() -> None:
    dtypes = ("float16", "float32", "float64", "complex64", "complex128", "int32", "int64")
    with Arena([entry(dtype, 5, dtype) for dtype in dtypes], Side.END) as arena:
        arena.poison("float32")
        assert not arena.buffers["float64"].any()
        arena.poison()
        for name, quiet in (("float32", 1 << 22), ("float64", 1 << 51), ("float16", 1 << 9)):
            array = arena.buffers[name]
            assert np.isnan(array).all()
            assert not (array.view(f"u{array.itemsize}") & np.array(quiet, "u8")).any()
        assert np.isnan(arena.buffers["complex64"].real).all()
        assert np.isnan(arena.buffers["complex128"].imag).all()
        assert (arena.buffers["int32"] == -(2**31)).all()
        arena.verify()


def test_every_thread_that_writes_is_seen() -> None:
    pages = 12
    entries = [entry("shared", pages * PAGE, "uint8"), entry("alone"), entry("read")]
    with Arena(entries, Side.START) as arena:
        shared, threads = arena.buffers["shared"], 4
        ready = threading.Barrier(threads)
        found = set()

        def work(i: int) -> None:
            found.add(threading.get_native_id())
            ready.wait()
            shared[i * PAGE * pages // threads :][: PAGE * pages // threads] = i + 1

        with arena.watch() as writers:
            team = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
            for thread in team:
                thread.start()
            for thread in team:
                thread.join()
            arena.buffers["alone"][0] = arena.buffers["read"][0]
        assert writers == {
            "shared": found,
            "alone": {threading.get_native_id()},
            "read": set(),
        }
        assert shared.tolist() == sorted(list(range(1, threads + 1)) * (PAGE * pages // threads))
        shared[...] = 0  # nobody looks any more
        with arena.watch("alone") as writers:
            shared[...] = 1
        assert writers == {"alone": set()}


def test_gigabytes_cost_what_is_touched() -> None:
    with Arena([entry("huge", 2**33)], Side.END) as arena:
        huge = arena.buffers["huge"]
        huge[2**32 + 1] = 3
        assert huge[2**32 + 1] == 3
        assert huge[1] == 0


def test_more_than_can_be_had_is_an_error() -> None:
    with pytest.raises(OSError, match="no guarded pages for numbers: Cannot allocate memory"):
        Arena([entry(size=2**45)], Side.END)


def test_places_are_used_again() -> None:
    for i in range(5000):  # more than there are
        with Arena([entry(f"numbers{i}", 1)], Side.END) as arena:
            arena.buffers[f"numbers{i}"][0] = i


def test_a_closed_arena_holds_nothing() -> None:
    arena = Arena([entry()], Side.END)
    references = sys.getrefcount(arena.buffers["numbers"])
    array = arena.buffers["numbers"]
    arena.close()
    assert not arena.buffers
    assert sys.getrefcount(array) == references
