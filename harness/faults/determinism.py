"""Faults that come and go."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np

from cllm import Update
from cllm.harness.faults.catalogue import Array, Patched, caught_by
from cllm.reference import Model as Reference
from cllm.reference import linear


@caught_by("determinism.repeat")
class Noise(Patched):
    """Rounding noise of a generator that is seeded once for all."""

    generator = np.random.default_rng(0)

    @classmethod
    def noisy(cls, out: Array, x: Array, weight: Array, bias: Array | None) -> None:
        linear.linear_forward(out, x, weight, bias)
        out *= 1 + 1e-7 * cls.generator.normal(size=out.shape)

    def patched(self) -> Any:
        return mock.patch.multiple("cllm.reference.network", linear_forward=self.noisy)


@caught_by("determinism.threads")
class SumsByThread(Reference):
    """A result that depends on the thread count, in its last bit."""

    def _backward(self, *arguments: Any) -> None:
        super()._backward(*arguments)
        if self.planned.threads > 1:
            last = self.gradients[-1:]
            last[...] = np.nextafter(last, np.inf, dtype=last.dtype)


@caught_by("determinism.repeat")
class AddsInAnyOrder(Patched):
    """Rows of gradients added in the order in which they happen to be ready."""

    order = np.random.default_rng()

    @classmethod
    def shuffled(
        cls, dx: Array, dweight: Array, dbias: Array | None, dout: Array, x: Array, weight: Array
    ) -> None:
        linear.linear_backward(dx, dweight, None, dout, x, weight)
        if dbias is not None:
            for row in cls.order.permutation(dout.reshape(-1, dout.shape[-1])):
                dbias += row

    def patched(self) -> Any:
        return mock.patch.multiple("cllm.reference.network", linear_backward=self.shuffled)


@caught_by("determinism.threads")
class ThreeThreadsShareUnevenly(Reference):
    """An uneven share: with three threads the last parameter is updated twice."""

    def _update(self, update: Update) -> None:
        before = self.parameters[-1:].copy()
        super()._update(update)
        if self.planned.threads == 3:
            self.parameters[-1:] += self.parameters[-1:] - before
