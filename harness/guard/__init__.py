"""Guarded memory: whoever leaves his buffer, or writes to what he may only read, is caught.

Promises: each buffer lies in pages of its own, flush against an unreadable one at its end or at
its start; what its pages have to spare holds a pattern that is verified; contents that nobody has
written yet can be poisoned, pages can be write-protected or watched. A forbidden access ends the
process, in any thread and from any language, after one line on standard error that opens with
"out of bounds: " and names the buffer, the bytes past its end or before its start, read or write.
Leaves out: what candidates allocate for themselves (a sanitizer sees that), and who catches the end
of the process (`cllm.harness.isolation`).
"""

from cllm.harness.guard.arena import Arena, OutOfBounds, Side

__all__ = ["Arena", "OutOfBounds", "Side"]
