"""Faults that leave something behind, or allocate where they claim not to."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
import tempfile
import threading
from multiprocessing import shared_memory, util
from typing import Any, ClassVar

from cllm.harness.faults.catalogue import Array, caught_by, control
from cllm.harness.faults.native import defects
from cllm.model import Update
from cllm.reference import Model as Reference
from cllm.registry import find_model

_allocate = ctypes.pythonapi.PyMem_RawMalloc
_allocate.restype = ctypes.c_void_p
_allocate.argtypes = [ctypes.c_size_t]

_heap = ctypes.CDLL(None).malloc  # called by its address, so that no tracer sees the call
_heap.restype = ctypes.c_void_p
_heap.argtypes = [ctypes.c_size_t]

LAST: dict[str, Any] = {}
"""What is leaked is kept here until the next one takes its place."""

KEPT: list[Any] = []
"""What is kept for ever."""

CACHE: dict[int, Any] = {}


@caught_by("memory.leaks")
class LeaksABlockEachStep(Reference):
    """A leak of one block of 64 bytes per step."""

    def _update(self, *arguments: Any) -> None:
        super()._update(*arguments)
        LAST["block"] = _allocate(64)


@caught_by("memory.leaks")
class LeaksUnseen(Reference):
    """A leak of 64 bytes per step by an allocator that was looked up at run time."""

    def _update(self, *arguments: Any) -> None:
        super()._update(*arguments)
        LAST["unseen"] = _heap(64)


@caught_by("memory.leaks")
class KeepsAnObjectEachStep(Reference):
    """A list that grows by one object per step."""

    def _loss(self, *arguments: Any) -> Any:
        loss = super()._loss(*arguments)
        KEPT.append(object())
        return loss


@caught_by("memory.leaks")
class CachesByStep(Reference):
    """A cache keyed by the step, from which nothing is ever taken."""

    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)
        CACHE[len(CACHE)] = self.activations()["logits"].copy()


@caught_by("memory.leaks")
class LeaksInCompiledCode(Reference):
    """A leak of 64 bytes per step in a compiled function, which keeps the last in a global."""

    def _update(self, update: Update) -> None:
        super()._update(update)
        defects.forget(64)


@caught_by("memory.leaks")
class LeaksPerToken(Reference):
    """A leak of one block per generated token."""

    def _decode(self, *arguments: Any) -> None:
        super()._decode(*arguments)
        LAST["token"] = _allocate(24)


@caught_by("memory.leaks")
class KeepsWhatItRefuses(Reference):
    """Every array that was refused is kept, with the exception."""

    def _check_ids(self, name: str, ids: Array, lowest: int) -> None:
        try:
            super()._check_ids(name, ids, lowest)
        except ValueError as error:
            KEPT.append((error, ids))
            raise


@caught_by("memory.leaks")
class KeepsWhatItLoads(Reference):
    """A copy of all parameters that were ever loaded."""

    def load(self, parameters: Array) -> None:
        """Copy the parameters in."""
        super().load(parameters)
        self.__dict__.setdefault("loaded", []).append(self.parameters.copy())


@caught_by("memory.models")
class LeaksAnObjectEachEpoch(Reference):
    """A leak of one object per epoch: a model that is kept when its training is over."""

    def prepare(self) -> None:
        super().prepare()
        KEPT.append(self._buffers_given)


Optimized: Any = find_model("optimized")


@caught_by("memory.steady")
class AllocatesInTheStep(Optimized):  # type: ignore[misc]
    """A step that claims to allocate nothing, and takes and frees a block each time."""

    def _step(self, *arguments: Any) -> float:
        ctypes.pythonapi.PyMem_RawFree(ctypes.c_void_p(_allocate(4096)))
        loss: float = super()._step(*arguments)
        return loss


@caught_by("memory.steady")
class ClaimsNoAllocation(Reference):
    """A step in NumPy, with arrays for what is in between, that claims to allocate nothing."""

    allocates_in_step: ClassVar[bool] = False


@caught_by("memory.left")
class LeavesAFileOpen(Reference):
    """A file descriptor left behind by each model."""

    def prepare(self) -> None:
        super().prepare()
        os.open(os.devnull, os.O_RDONLY)


@caught_by("memory.left")
class LeavesAThread(Reference):
    """A thread left behind by each model."""

    def prepare(self) -> None:
        super().prepare()
        threading.Thread(target=threading.Event().wait, daemon=True).start()


@caught_by("memory.left")
class LeavesAProcess(Reference):
    """A process left behind by each model, ended but not waited for."""

    def prepare(self) -> None:
        super().prepare()
        KEPT.append(subprocess.Popen([sys.executable, "-I", "-S", "-c", ""]))


@caught_by("memory.left")
class LeavesATemporaryFile(Reference):
    """A temporary file left behind by each model."""

    def prepare(self) -> None:
        super().prepare()
        handle, _ = tempfile.mkstemp()
        os.close(handle)


@caught_by("memory.left")
class LeavesSharedMemory(Reference):
    """A segment of shared memory left behind by each model."""

    def prepare(self) -> None:
        super().prepare()
        segment = shared_memory.SharedMemory(create=True, size=mmap.PAGESIZE)
        segment.close()
        # The machine's memory is not this fault's to keep: it goes when the process ends.
        util.Finalize(None, segment.unlink, exitpriority=0)


@control
class KeepsThreeBlocks(Reference):
    """Odd but correct: keeps the last three losses, and a thread for all models."""

    losses: ClassVar[list[Any]] = []
    started: ClassVar[list[threading.Thread]] = []

    def _loss(self, *arguments: Any) -> Any:
        loss = super()._loss(*arguments)
        self.losses.append(loss)
        del self.losses[:-3]
        if not self.started:
            self.started.append(threading.Thread(target=threading.Event().wait, daemon=True))
            self.started[0].start()
        return loss
