"""Faults of speed: right, and slow where the numbers are small.

A processor's penalty for denormal numbers is not everywhere the same; these pay it in Python.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from cllm.harness.faults.catalogue import Array, Patched, caught_by
from cllm.reference import Model as Reference
from cllm.reference import linear

PRODUCTS = 32
"""That such a number takes part in: a penalty well above what separates slow from noise."""


def assist(*arrays: Array) -> None:
    """What a processor does that leaves denormal numbers to its microcode: one after the other."""
    for array in arrays:
        flat = array.reshape(-1)
        for i in np.flatnonzero((flat != 0) & (np.abs(flat) < np.finfo(flat.dtype).tiny)):
            for _ in range(PRODUCTS):
                flat[i] = flat[i] * 1.0


@caught_by("speed.denormals")
class SlowOnDenormalActivations(Patched):
    """A slow-down on denormals: each denormal number that a product gives is looked at alone."""

    @staticmethod
    def slow(out: Array, *arguments: Any) -> None:
        linear.linear_forward(out, *arguments)
        assist(out)

    functions: ClassVar = {"linear_forward": slow}


@caught_by("speed.denormals")
class SlowOnDenormalGradients(Reference):
    """A slow-down on denormals in backward alone, once gradients have become small."""

    def _backward(self, *arguments: Any) -> None:
        super()._backward(*arguments)
        assist(self.gradients)


@caught_by("speed.denormals")
class SlowOnDenormalMoments(Reference):
    """A slow-down on denormals in the optimizer alone, as where a parameter is long out of use."""

    def _update(self, *arguments: Any) -> None:
        super()._update(*arguments)
        assist(*self.moments)


@caught_by("speed.denormals")
class SlowManySteps(Reference):
    """A slow-down on denormal weights in the call of many steps alone."""

    def _steps(self, *arguments: Any) -> Any:
        assist(self.parameters.copy())
        return super()._steps(*arguments)


@caught_by("speed.denormals")
class SlowGeneration(Reference):
    """A slow-down on denormal weights in the call that draws tokens alone."""

    def _generate(self, *arguments: Any) -> Any:
        assist(self.parameters.copy())
        return super()._generate(*arguments)
