"""Buffers between unreadable pages.

Promises: as many bytes past its end, or before its start, as a buffer has itself, and at least
1 MiB, still count as this buffer's. Only the memory that is touched is used, so that buffers of
gigabytes can be had.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cllm.harness.guard.pages import Pages, forget, writes
from cllm.plan import Buffer

SIGNALLING = {2: 0x7D00, 4: 0x7FA0_0000, 8: 0x7FF4_0000_0000_0000}
"""Signalling NaN by the bytes of a float (IEEE 754)."""


class Side(enum.StrEnum):
    """Where a buffer lies flush against an unreadable page."""

    END = "end"
    START = "start"


class OutOfBounds(Exception):
    """Somebody wrote beside a buffer, where its alignment leaves room before the next page."""


class Arena:
    """Zeroed, writable arrays for some entries of a plan, each in guarded pages of its own."""

    buffers: dict[str, NDArray[Any]]
    """By name; they stay usable for as long as somebody holds them."""

    def __init__(self, buffers: Iterable[Buffer], side: Side) -> None:
        self.buffers = {}
        self._pages: dict[str, Pages] = {}
        for buffer in buffers:
            pages = Pages(
                buffer.name,
                buffer.nbytes,
                buffer.dtype.itemsize,
                math.lcm(max(buffer.alignment, 1), buffer.dtype.alignment),
                side is Side.END,
            )
            self._pages[buffer.name] = pages
            self.buffers[buffer.name] = np.ndarray(buffer.shape, buffer.dtype, buffer=pages)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the arrays: each is unreadable as soon as nobody else holds it."""
        self.buffers.clear()
        self._pages.clear()

    @contextmanager
    def read_only(self, *names: str) -> Iterator[None]:
        """A write to one of these ends the process."""
        with self._protected(names, Pages.read_only):
            yield

    @contextmanager
    def watch(self, *names: str) -> Iterator[dict[str, set[int]]]:
        """Note who writes to these (by default all): after it, by name the threads' system ids.

        The first write to each page is seen, and those of other threads at the same moment.
        """
        chosen = names or tuple(self._pages)
        writers: dict[str, set[int]] = {name: set() for name in chosen}
        by_region = {self._pages[name].region: name for name in chosen}
        forget()
        with self._protected(chosen, Pages.watch):
            yield writers
        for region, thread in writes():
            writers[by_region[region]].add(thread)

    def poison(self, *names: str) -> None:
        """Fill these (by default all) with signalling NaN, integers with their lowest value."""
        for name in names or self.buffers:
            array = self.buffers[name].reshape(-1)
            if array.dtype.kind in "fc":
                size = array.dtype.itemsize // (2 if array.dtype.kind == "c" else 1)
                array.view(f"u{size}")[...] = SIGNALLING[size]
            elif array.dtype.kind == "b":
                array.view(np.uint8)[...] = 0xA5  # neither true nor false
            else:
                array[...] = np.iinfo(array.dtype).min

    def verify(self) -> None:
        """Raise `OutOfBounds` where the pattern beside a buffer has been changed."""
        for name, pages in self._pages.items():
            if changed := pages.changed():
                side = "past its end" if changed > 0 else "before its start"
                raise OutOfBounds(
                    f"write to {name}, {abs(changed):,} bytes {side} "
                    f"(buffer of {pages.nbytes:,} bytes)"
                )

    @contextmanager
    def _protected(self, names: Iterable[str], protect: Callable[[Pages], None]) -> Iterator[None]:
        pages = [self._pages[name] for name in names]
        try:
            for one in pages:
                protect(one)
            yield
        finally:
            for one in pages:
                one.open()
