"""Faults of memory: into what may only be read, out of what is stale, freed or not written."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from cllm.harness.faults.catalogue import Array, caught_by
from cllm.plan import Buffers, Plan
from cllm.reference import Model as Reference

C = ctypes.CDLL(None)
C.free.argtypes = [ctypes.c_void_p]


@caught_by("buffers.inputs")
class TidiesTheParameters(Reference):
    """Writes the parameters back in forward, unchanged."""

    def _forward(self, *arguments: Any) -> None:
        self.parameters[...] = self.parameters.copy()
        super()._forward(*arguments)


@caught_by("buffers.inputs")
class LossStartsTheGradients(Reference):
    """Zeroes the gradients in loss."""

    def _loss(self, *arguments: Any) -> Any:
        if "gradients" in self._buffers_given:
            self.gradients[...] = 0
        return super()._loss(*arguments)


@caught_by("buffers.inputs")
class MasksTheTargets(Reference):
    """Works on the caller's own targets."""

    def loss(self, targets: Array, divisor: float | None = None) -> float:
        loss = super().loss(targets, divisor)
        targets[targets < 0] = -1
        return loss


@caught_by("buffers.unwritten")
class AddsToWhatIsThere(Reference):
    """Adds logits to a buffer that it takes to be zeroed."""

    def _forward(self, *arguments: Any) -> None:
        logits = self.activations()["logits"]
        before = 0 * logits
        super()._forward(*arguments)
        logits += before


@caught_by("buffers.unwritten")
class ReadsAnOldIndex(Reference):
    """Looks up the parameter that an index in a buffer names before anybody has written one."""

    def _forward(self, *arguments: Any) -> None:
        self.parameters[int(self._buffers_given["targets"][-1, -1])]
        super()._forward(*arguments)


@caught_by("buffers.unwritten", "buffers.stale")
class LastTokenNotWritten(Reference):
    """Leaves the logits of the last token as they were where a batch is smaller than planned."""

    def _forward(self, batch_size: int, seq_len: int) -> None:
        last = self.activations()["logits"][-1, -1].copy()
        super()._forward(batch_size, seq_len)
        if seq_len < self.planned.seq_len:
            self.activations()["logits"][-1, -1] = last


@caught_by("buffers.stale")
class KeepsTheLargestLoss(Reference):
    """Starts a running maximum, blind to NaN, from what earlier calls have left."""

    def _loss(self, batch_size: int, seq_len: int, divisor: float) -> Any:
        losses = self.activations()["losses"]
        before = losses.copy()
        super()._loss(batch_size, seq_len, divisor)
        np.fmax(losses, before, out=losses)
        return losses.sum(dtype=np.float64).item() / divisor


@caught_by("buffers.stale")
class HandsOutEarlierLogits(Reference):
    """Gives the logits of the first batch of a shape for every later one."""

    def _forward(self, *shape: int) -> None:
        kept = self.__dict__.setdefault("kept", {})
        super()._forward(*shape)
        logits = self.activations()["logits"]
        logits[...] = kept.setdefault(shape, logits.copy())


@caught_by("buffers.freed")
class FreesItsParameters(Reference):
    """Frees the buffer of the parameters when it is dropped."""

    def __del__(self) -> None:
        C.free(self._buffers_given["parameters"].ctypes.data)


@caught_by("buffers.freed")
class FreesTheTokens(Reference):
    """Frees the tokens of its caller, who frees them again."""

    def forward(self, tokens: Array) -> Array:
        logits = super().forward(tokens)
        C.free(tokens.ctypes.data)
        return logits


def bare(array: Array) -> Array:
    """The same memory, held by nobody."""
    memory = (ctypes.c_ubyte * array.nbytes).from_address(array.ctypes.data)
    return np.ctypeslib.as_array(memory).view(array.dtype).reshape(array.shape)


@caught_by("buffers.freed")
class HoldsOnlyAddresses(Reference):
    """Works on after those who handed in its buffers have let go of them."""

    def __init__(self, plan: Plan, buffers: Buffers) -> None:
        plan.check(buffers)
        super().__init__(plan, {name: bare(array) for name, array in buffers.items()})


@caught_by("buffers.freed")
class ReadsTheTokensLater(Reference):
    """Reads the caller's tokens again in loss, when they are gone."""

    def forward(self, tokens: Array) -> Array:
        self.address = tokens.ctypes.data
        return super().forward(tokens)

    def _loss(self, *arguments: Any) -> Any:
        if hasattr(self, "address"):
            ctypes.c_int.from_address(self.address).value  # noqa: B018
        return super()._loss(*arguments)
