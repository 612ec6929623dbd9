"""Faults of what is let in: buffers, batches and sizes that should be refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cllm import Update
from cllm.harness.faults.catalogue import Array, caught_by
from cllm.plan import Buffers, Plan
from cllm.reference import Model as Reference


class Trusting(Plan):
    """A plan that takes every size for large enough."""

    def check(self, buffers: Buffers) -> None:
        large = dict(buffers)
        for name in buffers.keys() & self.buffers.keys():
            wanted = self.buffers[name]
            if np.size(buffers[name]) < math.prod(wanted.shape):
                large[name] = np.zeros(wanted.shape, wanted.dtype)
        super().check(large)


class Unwary(Plan):
    """A plan that does not look at buffers together."""

    def check(self, buffers: Buffers) -> None:
        for name in buffers:
            apart = {n: buffers[n] if n == name else np.copy(buffers[n]) for n in buffers}
            super().check(apart)


def believing(plan: Plan, kind: type[Plan]) -> Plan:
    """The same plan with another way to check."""
    return kind(**vars(plan))


@caught_by("buffers.refused")
class TakesAnySize(Reference):
    """Takes a buffer that is too small."""

    def __init__(self, plan: Plan, buffers: Buffers) -> None:
        super().__init__(believing(plan, Trusting), buffers)


@caught_by("buffers.refused")
class TakesOverlaps(Reference):
    """Takes buffers that overlap."""

    def __init__(self, plan: Plan, buffers: Buffers) -> None:
        super().__init__(believing(plan, Unwary), buffers)


@caught_by("buffers.refused")
class ZeroesBeforeItLooks(Reference):
    """Zeroes its buffers, and refuses them then."""

    def __init__(self, plan: Plan, buffers: Buffers) -> None:
        for array in buffers.values():
            if isinstance(array, np.ndarray) and array.flags.writeable:
                array[...] = 0
        super().__init__(plan, buffers)


@caught_by("buffers.batches")
class TakesAnyId(Reference):
    """Does not look at the token ids; negative ones count from the end of the vocabulary."""

    def _check_ids(self, name: str, ids: Array, lowest: int) -> None:
        return


@caught_by("buffers.batches")
class ChecksAsItGoes(Reference):
    """Has taken the first steps when it refuses a later batch."""

    def steps(self, tokens: Array, targets: Array, updates: Sequence[Update]) -> Array:
        together = zip(tokens, targets, updates, strict=True)
        return np.array([self.step(*one) for one in together])


@caught_by("buffers.batches")
class AnyOrder(Reference):
    """Runs backward twice over what one loss has left."""

    def backward(self) -> None:
        super().backward()
        self._done = "loss"


@caught_by("buffers.sizes")
class WrapsItsSizes(Reference):
    """Plans in 32-bit arithmetic, which wraps."""

    @classmethod
    def plan(cls, config: Any, batch_size: int, seq_len: int, **options: Any) -> Plan:
        if type(batch_size) is int and type(seq_len) is int and batch_size * seq_len >= 2**31:
            batch_size, seq_len = 1, max(1, batch_size * seq_len % 2**31)
        return super().plan(config, batch_size, seq_len, **options)
