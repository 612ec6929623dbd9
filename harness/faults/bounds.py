"""Faults at the ends of buffers, and controls that need another alignment or round by it."""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from cllm import Update
from cllm.harness.faults.catalogue import Array, caught_by, control, plant
from cllm.plan import Buffer, Plan, Role
from cllm.reference import Model as Reference
from cllm.registry import find_model


def touch(array: Array, element: int, *, write: bool) -> None:
    """Read or write one element, counted from the array's first, wherever it lies."""
    number = {4: ctypes.c_float, 8: ctypes.c_double}[array.itemsize]
    found = number.from_address(array.ctypes.data + element * array.itemsize)
    if write:
        found.value = 0.0
    else:
        assert isinstance(found.value, float)


def touching(model: Any, name: str, end: str, access: str, during: str) -> Any:
    """A model that reads or writes one element past the `end` or before the `start` of a buffer.

    `during` is the method that does it, after its work.
    """

    def touch_and_go(self: Any, *arguments: Any) -> Any:
        result = getattr(model, during)(self, *arguments)
        array = self._buffers_given[name]
        touch(array, array.size if end == "end" else -1, write=access == "writes")
        return result

    return type("Touching", (model,), {during: touch_and_go})


def _camel(name: str) -> str:
    return "".join(part.title() for part in re.split("[._]", name))


OFF_BY_ONE = (
    ("reference", "parameters", "end", "reads", "_forward"),
    ("reference", "parameters", "start", "reads", "_forward"),
    ("reference", "gradients", "end", "writes", "_backward"),
    ("reference", "gradients", "start", "writes", "_backward"),
    ("reference", "first_moment", "end", "reads", "_update"),
    ("reference", "second_moment", "start", "writes", "_update"),
    ("reference", "tokens", "end", "reads", "_forward"),
    ("reference", "logits", "end", "writes", "_forward"),
    ("reference", "layer0.qkv", "start", "reads", "_backward"),
    ("reference", "positions", "end", "reads", "_forward"),
    ("reference", "layer0.keys", "start", "writes", "_append"),
    ("reference", "window", "end", "writes", "_append"),
    ("optimized", "dx", "end", "writes", "_backward"),
    ("optimized", "norm_sums", "start", "reads", "_update"),
    ("optimized", "panels", "end", "reads", "_forward"),
)
for _model, _name, _end, _access, _during in OFF_BY_ONE:
    plant(
        f"{_access.title()}{'Past' if _end == 'end' else 'Before'}{_camel(_name)}",
        f"{_access} one element {'past the end' if _end == 'end' else 'before the start'} of "
        f"{_name} in {_during.removeprefix('_')}",
        touching(find_model(_model), _name, _end, _access, _during),
        "buffers.bounds",
    )


class WithScratch(Reference):
    """Plans one more buffer."""

    extra: ClassVar[str]

    @classmethod
    def size(cls, shape: Plan) -> int:
        raise NotImplementedError

    @classmethod
    def _buffers(cls, shape: Plan) -> Iterator[Buffer]:
        yield from super()._buffers(shape)
        yield Buffer(cls.extra, (cls.size(shape),), shape.dtype, Role.SCRATCH)


@caught_by("buffers.bounds")
class ZeroesAllOfAnEmbedding(WithScratch):
    """Zeroes total_params floats in a buffer for the gradients of the embedding: 58,240 past it."""

    extra = "embedding_gradients"

    @classmethod
    def size(cls, shape: Plan) -> int:
        return shape.config.vocab_size * shape.config.embed_dim

    def _backward(self, *arguments: Any) -> None:
        gradients = self._buffers_given["embedding_gradients"]
        total_params = self.config.num_parameters
        touch(gradients, total_params - 1, write=True)  # from the last to the first
        ctypes.memset(gradients.ctypes.data, 0, total_params * gradients.itemsize)
        super()._backward(*arguments)


@caught_by("buffers.bounds")
class HalfABufferOfMoments(WithScratch):
    """Keeps both moments of Adam in a buffer that holds one of them."""

    extra = "packed_moments"

    @classmethod
    def size(cls, shape: Plan) -> int:
        return shape.config.num_parameters

    def _update(self, update: Update) -> None:
        super()._update(update)
        packed = self._buffers_given["packed_moments"].ctypes.data
        for moment in self.moments:
            ctypes.memmove(packed, moment.ctypes.data, moment.nbytes)
            packed += moment.nbytes


@caught_by("buffers.bounds")
class OverrunsInAThread(Reference):
    """Writes one float past the end of its logits, in a thread of its own."""

    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)
        logits = self._buffers_given["logits"]
        thread = threading.Thread(target=touch, args=(logits, logits.size), kwargs={"write": True})
        thread.start()
        thread.join()


class AlignedScratch(WithScratch):
    """Plans a buffer of five floats that demands a cache line."""

    extra = "aligned"

    @classmethod
    def _buffers(cls, shape: Plan) -> Iterator[Buffer]:
        yield from Reference._buffers(shape)
        yield Buffer(cls.extra, (5,), np.dtype(np.float32), Role.SCRATCH, alignment=64)


@caught_by("buffers.bounds")
class FillsAWholeVector(AlignedScratch):
    """Stores a vector of eight floats in a buffer of five."""

    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)
        ctypes.memset(self._buffers_given["aligned"].ctypes.data, 0, 8 * 4)


@caught_by("buffers.bounds")
class RoundsAddressesDown(Reference):
    """Takes for granted that its parameters begin on a cache line."""

    def _forward(self, *arguments: Any) -> None:
        address = self.parameters.ctypes.data // 64 * 64
        memory = (ctypes.c_ubyte * self.parameters.nbytes).from_address(address)
        aligned = np.ctypeslib.as_array(memory).view(self.parameters.dtype)
        super()._forward(*arguments)
        self.activations()["logits"][...] += aligned[0] - self.parameters[0]


@control
class DemandsAlignment(AlignedScratch):
    """Demands a cache line for one of its buffers, and uses all of it."""

    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)
        aligned = self._buffers_given["aligned"]
        if aligned.ctypes.data % 64:
            raise RuntimeError("the buffer is not aligned as it was planned")
        ctypes.memset(aligned.ctypes.data, 0, aligned.nbytes)


@control
class RoundsByAlignment(Reference):
    """Rounds the other way where its logits do not lie on a cache line."""

    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)
        logits = self.activations()["logits"]
        if logits.dtype == np.float32 and logits.ctypes.data % 64:
            np.nextafter(logits, np.float32(np.inf), out=logits)
