"""Faults of threads that do not wait for each other.

Promises: each has one outcome, which depends on the number of threads alone; where the thread
sanitizer watches, those that are races are seen as such.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np

import cllm.harness.faults.native.defects as defects
from cllm.harness.faults.catalogue import Array, caught_by
from cllm.layout import tensor_views
from cllm.model import Update
from cllm.reference import Model as Reference
from cllm.reference import gelu


@caught_by("determinism.threads")
class ActivationsShared(Reference):
    """Activations that threads share: each finds what another has put there."""

    def _forward(self, *arguments: Any) -> None:
        with mock.patch("cllm.reference.network.gelu_forward", self._gelu):
            super()._forward(*arguments)

    def _gelu(self, out: Array, x: Array) -> None:
        gelu.gelu_forward(out, x)
        if out.dtype == np.float32:
            rows = np.ascontiguousarray(out.reshape(-1, out.shape[-1]))
            defects.share_activations(rows, np.empty_like(rows[0]), self.planned.threads)
            out[...] = rows.reshape(out.shape)


@caught_by("determinism.threads")
class UpdateReadsGradientsTooEarly(Reference):
    """The optimizer reads gradients before they are finished: a barrier is missing."""

    def _update(self, update: Update) -> None:
        shift = self.tensors("gradients")["layer0.ln1_shift"]
        if shift.dtype == np.float32:
            read, computed = np.empty_like(shift), shift.copy()
            shift[...] = 0
            defects.read_early(read, shift, computed, self.planned.threads)
            shift[...] = read
        super()._update(update)


@caught_by("determinism.threads")
class GradientsSummedWithoutALock(Reference):
    """Threads add their gradients to one sum at once, and lose what the others added."""

    def _backward(self, *arguments: Any) -> None:
        bias = self.tensors("gradients")["layer0.ff_in_bias"]
        before = bias.copy()
        super()._backward(*arguments)
        if bias.dtype == np.float32:
            parts = np.zeros((self.planned.threads, bias.size), np.float32)
            for thread, part in enumerate(parts):
                part[thread :: len(parts)] = (bias - before)[thread :: len(parts)]
            defects.sum_unsynchronized(before, parts)
            bias[...] = before


@caught_by("determinism.threads")
class ThreadsSumAQuarter(Reference):
    """Threads that sum D² of 4D² gradients: of each matrix the first quarter is added alone."""

    def _backward(self, *arguments: Any) -> None:
        before = self.gradients.copy()
        super()._backward(*arguments)
        if self.planned.threads > 1:
            gradients = self.tensors("gradients")
            for name, start in tensor_views(self.config, before).items():
                if start.ndim == 2:
                    summed = len(start) // 4
                    gradients[name][summed:] = start[summed:]
