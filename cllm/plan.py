"""Buffers: a model plans them, somebody else allocates them and hands them in.

Promises: the memory of a plan is known before it is spent (`Plan.nbytes`); `Plan.check` refuses
a buffer that is missing, too small, of another dtype, not contiguous, misaligned, not writable or
overlapping, before any of them is touched.
Leaves out: what a model keeps in its buffers (`Model.plan` of each implementation).
"""

from __future__ import annotations

import enum
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.check import MAX_ELEMENTS, check_array, check_disjoint, check_size
from cllm.config import Config
from cllm.errors import CllmError

ALIGNMENT = 64
"""Bytes; a cache line and an AVX-512 vector. For speed only: element alignment is right too."""

MAX_THREADS = 1024

Buffers = Mapping[str, NDArray[Any]]


class Operation(enum.StrEnum):
    """What a plan is for; each adds the buffers that it needs."""

    EVALUATION = "evaluation"
    """forward and loss"""
    TRAINING = "training"
    """evaluation, backward and update"""
    GENERATION = "generation"
    """decoding with a key/value cache of T positions"""


class Role(enum.StrEnum):
    """What a buffer is for."""

    PARAMETER = "parameter"
    GRADIENT = "gradient"
    OPTIMIZER_STATE = "optimizer state"
    ACTIVATION = "activation"
    """What forward leaves behind for backward, or the decoder for its next token."""
    SCRATCH = "scratch"
    """What nobody reads after the call."""
    DERIVED = "derived"
    """Rebuilt from the parameters by `Model.prepare`."""


@dataclass(frozen=True)
class Buffer:
    """One entry of a plan."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    role: Role
    alignment: int = 0
    """Bytes that the address must be a multiple of; 0 asks for the element's own alignment."""

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 1:
            raise CllmError(f"buffer {self.name} must have axes of 1 or more: got {self.shape}")
        if self.dtype.kind not in "biufc":
            raise CllmError(f"buffer {self.name} must hold numbers: got {self.dtype}")
        if math.prod(self.shape) > MAX_ELEMENTS:
            raise CllmError(
                f"buffer {self.name} {self.shape} would have {math.prod(self.shape)} elements; "
                f"at most {MAX_ELEMENTS} can be indexed"
            )

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Plan:
    """The buffers that a configuration, a batch shape and the operations wanted need.

    A plan for (B,T) runs any B' <= B and T' <= T: a smaller batch uses the leading elements of
    each buffer.
    """

    config: Config
    batch_size: int
    """B."""
    seq_len: int
    """T."""
    operations: frozenset[Operation]
    threads: int
    dtype: np.dtype[Any]
    buffers: Mapping[str, Buffer] = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Size in bytes of all buffers, without the padding between them."""
        return sum(buffer.nbytes for buffer in self.buffers.values())

    def allocate(self) -> dict[str, NDArray[Any]]:
        """Zeroed buffers in one arena, each on a cache line of its own.

        Raises `CllmError` where the machine has not as much memory as the plan needs.
        """
        spaces = [max(ALIGNMENT, buffer.alignment) for buffer in self.buffers.values()]
        total = self.nbytes + 2 * sum(spaces)
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if total > available:
            raise CllmError(
                f"the plan needs {format_bytes(total)}, the machine has {format_bytes(available)}"
            )
        arena = np.zeros(total, np.uint8)
        address = arena.ctypes.data
        start = 0
        buffers: dict[str, NDArray[Any]] = {}
        for buffer, space in zip(self.buffers.values(), spaces, strict=True):
            start += -(address + start) % space
            flat = arena[start : start + buffer.nbytes].view(buffer.dtype)
            buffers[buffer.name] = flat.reshape(buffer.shape)
            start += buffer.nbytes
        return buffers

    def check(self, buffers: Buffers) -> None:
        """Raise `CllmError` unless `buffers` are what the plan asks for."""
        if unknown := sorted(set(buffers) - set(self.buffers)):
            raise CllmError(f"buffers {unknown} are not in the plan")
        for name, wanted in self.buffers.items():
            if name not in buffers:
                raise CllmError(f"buffer {name} is missing: {wanted.shape} {wanted.dtype}")
            writable = wanted.role is not Role.PARAMETER or Operation.TRAINING in self.operations
            array = check_array(
                f"buffer {name}", buffers[name], wanted.shape, wanted.dtype, writable
            )
            if wanted.alignment and array.ctypes.data % wanted.alignment:
                raise CllmError(f"buffer {name} must be aligned to {wanted.alignment} bytes")
        check_disjoint(buffers)

    def views(self, buffers: Buffers, smaller: Plan) -> dict[str, NDArray[Any]]:
        """The leading elements of each buffer, in the shapes of a plan for a smaller batch."""
        return {
            name: buffers[name].reshape(-1)[: math.prod(buffer.shape)].reshape(buffer.shape)
            for name, buffer in smaller.buffers.items()
        }


def activation_buffers(shape: Plan) -> Iterator[Buffer]:
    """What a forward pass that fuses nothing leaves for backward, in the names of both models."""
    config = shape.config
    b, t, d, f = shape.batch_size, shape.seq_len, config.embed_dim, config.ff_dim
    layer_shapes: dict[str, tuple[int, ...]] = {
        "ln1": (b, t, d),
        "ln1_mean": (b, t),
        "ln1_rstd": (b, t),
        "qkv": (b, t, 3 * d),
        "attn": (b, t, d),
        "attn_lse": (b, config.num_heads, t),
        "x_mid": (b, t, d),
        "ln2": (b, t, d),
        "ln2_mean": (b, t),
        "ln2_rstd": (b, t),
        "ff_in": (b, t, f),
        "ff_act": (b, t, f),
        "ff": (b, t, d),
        "x_out": (b, t, d),
    }
    yield Buffer("x0", (b, t, d), shape.dtype, Role.ACTIVATION)
    for layer in range(config.num_layers):
        for name, axes in layer_shapes.items():
            yield Buffer(f"layer{layer}.{name}", axes, shape.dtype, Role.ACTIVATION)
    yield Buffer("logits", (b, t, config.vocab_size), shape.dtype, Role.ACTIVATION)
    yield Buffer("losses", (b, t), shape.dtype, Role.ACTIVATION)


def check_operations(operations: Iterable[str]) -> frozenset[Operation]:
    """The operations, training with the evaluation that is part of it."""
    allowed = [operation.value for operation in Operation]
    wanted = [operations] if isinstance(operations, str) else list(operations)
    if not wanted or not set(wanted) <= set(allowed):
        raise CllmError(f"operations must be some of {allowed}: got {wanted}")
    chosen = {Operation(operation) for operation in wanted}
    return frozenset(chosen | ({Operation.EVALUATION} if Operation.TRAINING in chosen else set()))


def check_threads(threads: int) -> int:
    """The number of threads to plan for: 0 means every core this process may run on."""
    if threads == 0:
        return min(MAX_THREADS, len(os.sched_getaffinity(0)))
    check_size("threads", threads)
    if threads > MAX_THREADS:
        raise CllmError(f"threads must be in 0..{MAX_THREADS}: got {threads}")
    return threads


def format_bytes(nbytes: float) -> str:
    """A size for people: 1536 -> '1.5 KiB'."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if nbytes < 1024:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.3g} PiB"
