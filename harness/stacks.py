"""Where a process is: every thread's stack, written by faulthandler, and the line that matters.

Promises: a stack is told of a process that hangs in Python or in compiled code, without a crash.
Leaves out: processes (`cllm.harness.isolation`); whose line it is (`cllm.harness.lines`).
"""

from __future__ import annotations

import faulthandler
import itertools
import re
import signal
from types import CodeType

from cllm.harness.lines import strangeness

_FRAME = re.compile(r'  File "(?P<file>.+)", line (?P<line>\d+) in (?P<function>.+)')
_STACK = re.compile(r"(?P<current>Current thread)?.*\(most recent call first\):")
_PART = re.compile(r"\s|File |Fatal Python error|Extension modules|Timeout \(|$|" + _STACK.pattern)


def tell_after(seconds: float, more: float) -> None:
    """In so many seconds of the clock say on standard error where every thread is.

    A stack must stand still while it is read: the main thread reads all of them, between two
    operations of the interpreter. Where it has come to none after `more` seconds, in compiled code,
    its stack does stand still, and another thread reads.
    """
    signal.signal(signal.SIGALRM, _tell)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + more, file=2)


def _tell(*_: object) -> None:
    faulthandler.cancel_dump_traceback_later()
    faulthandler.dump_traceback(2)


def tell_no_more() -> None:
    """What was to be told is not wanted any more."""
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    faulthandler.cancel_dump_traceback_later()


def is_part(line: str) -> bool:
    """Whether a line is one of those that faulthandler writes, or empty."""
    return bool(_PART.match(line))


def place(lines: list[str], bottom: CodeType) -> str:
    """The candidate's innermost line of the stacks that faulthandler has written.

    Of the thread that crashed or tells before the one above `bottom`, and of these before the
    others'; nothing where no thread is above it. What has called `bottom` does not count.
    """

    def is_bottom(frame: re.Match[str]) -> bool:
        return (frame["file"], frame["function"]) == (bottom.co_filename, bottom.co_name)

    stacks: list[tuple[bool, list[re.Match[str]]]] = []
    for line in lines:
        if header := _STACK.fullmatch(line):
            stacks.append((header["current"] is None, []))
        elif stacks and (frame := _FRAME.fullmatch(line)):
            stacks[-1][1].append(frame)
    if not any(map(is_bottom, (frame for _, stack in stacks for frame in stack))):
        return ""
    stacks.sort(key=lambda stack: (stack[0], not any(map(is_bottom, stack[1]))))
    frames = [
        f for _, stack in stacks for f in itertools.takewhile(lambda f: not is_bottom(f), stack)
    ]
    if not frames:
        return ""
    frame = min(frames, key=lambda frame: strangeness(frame["file"]))
    return f"called at {frame['file']}:{frame['line']} in {frame['function']}"
