"""Stopping a run from outside, without losing its last step."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType


class Interrupt:
    """In a `with`, the first SIGINT or SIGTERM is only noted; the second stops at once."""

    def __init__(self) -> None:
        self.received = 0
        """Number of the signal noted; 0: none."""

    def __enter__(self) -> Interrupt:
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.received:
            raise SystemExit(128 + number)
        self.received = number
        # Not print: the signal may have come in the middle of another one.
        with contextlib.suppress(OSError):
            os.write(2, b"\nfinishing this step and saving; once more stops at once\n")
