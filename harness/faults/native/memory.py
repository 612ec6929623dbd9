"""Models with native defects of memory and arithmetic that change no result.

Promises: each is seen by a sanitizer, and `REPORTS` says with which words.
Leaves out: any use without one: they corrupt the process, so they stand in no catalogue.
"""

from __future__ import annotations

from typing import Any

import cllm.harness.faults.native.defects as defects
from cllm.model import Update
from cllm.reference import Model as Reference


class WritesPastTheEnd(Reference):
    """Zeroes one float more than a heap block has."""

    def _backward(self, *arguments: Any) -> None:
        super()._backward(*arguments)
        defects.write_past_the_end(self.config.num_parameters)


class ReadsAfterFree(Reference):
    """Reads a heap block that it has freed."""

    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)
        defects.read_after_free(self.config.embed_dim)


class FreesTwice(Reference):
    """Frees the tokens of its batch twice."""

    def _loss(self, *arguments: Any) -> Any:
        loss = super()._loss(*arguments)
        defects.free_twice(self.planned.batch_size)
        return loss


class IndexWraps(Reference):
    """Computes an index in 32 bits, of a vocabulary that needs more."""

    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)
        defects.wrap_index(1 << 20, 1 << 12)


class ShiftsTooFar(Reference):
    """Shifts a 32-bit number by 40."""

    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)
        defects.shift_too_far(40)


class Leaks(Reference):
    """Loses a block of 64 bytes every step."""

    def _update(self, update: Update) -> None:
        super()._update(update)
        defects.forget(64)


REPORTS = {
    WritesPastTheEnd: "heap-buffer-overflow",
    ReadsAfterFree: "heap-use-after-free",
    FreesTwice: "double-free",
    IndexWraps: "signed integer overflow",
    ShiftsTooFar: "shift exponent 40 is too large",
    Leaks: "128 byte(s) in 2 object(s)",
}
"""What the sanitizers of addresses, undefined behavior and leaks say of each."""
