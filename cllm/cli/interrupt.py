"""Stopping from outside: a run without losing its last step, anything else without leftovers.

SIGHUP, what a terminal that goes away sends, is as good as SIGTERM, unless it is ignored (nohup).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from types import FrameType

Handler = Callable[[int, FrameType | None], None]


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """In a `with`, SIGTERM and SIGHUP raise `SystemExit`, as SIGINT does `KeyboardInterrupt`."""

    def stop(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    with _handling((signal.SIGTERM, signal.SIGHUP), stop):
        yield


@contextlib.contextmanager
def _handling(numbers: Iterable[signal.Signals], handler: Handler) -> Iterator[None]:
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    before = {
        number: signal.signal(number, handler)
        for number in numbers
        if not (number == signal.SIGHUP and ignored)
    }
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class Interrupt:
    """In a `with`, the first SIGINT, SIGTERM or SIGHUP is only noted; the second stops at once.

    Not so a SIGHUP, which a terminal that goes away may send more than once.
    """

    def __init__(self) -> None:
        self.received = 0
        """Number of the signal noted; 0: none."""

    def __enter__(self) -> Interrupt:
        self._handling = _handling((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), self._note)
        self._handling.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._handling.__exit__(None, None, None)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.received and number == signal.SIGHUP:
            return
        if self.received:
            raise SystemExit(128 + number)
        self.received = number
        # Not print: the signal may have come in the middle of another one.
        with contextlib.suppress(OSError):
            os.write(2, b"\nfinishing this step and saving; once more stops at once\n")
