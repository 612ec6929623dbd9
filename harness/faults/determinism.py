"""Faults that come and go."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np

from cllm.reference import Model as Reference
from cllm.reference import linear
from cllm.harness.faults.catalogue import Array, Patched, caught_by


@caught_by("determinism.repeat")
class Noise(Patched):
    generator = np.random.default_rng(0)

    @classmethod
    def noisy(cls, out: Array, x: Array, weight: Array, bias: Array | None) -> None:
        linear.linear_forward(out, x, weight, bias)
        out *= 1 + 1e-7 * cls.generator.normal(size=out.shape)

    def patched(self) -> Any:
        return mock.patch.multiple("cllm.reference.network", linear_forward=self.noisy)


@caught_by("determinism.threads")
class SumsByThread(Reference):
    def _backward(self, *arguments: Any) -> None:
        super()._backward(*arguments)
        if self.planned.threads > 1:
            last = self.gradients[-1:]
            last[...] = np.nextafter(last, np.inf, dtype=last.dtype)
