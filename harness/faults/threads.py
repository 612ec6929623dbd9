"""Faults of threads: wrong or endless at some number of them, or felt outside the model."""

from __future__ import annotations

import ctypes
import platform
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np

from cllm.harness.faults.catalogue import caught_by
from cllm.reference import Model as Reference


@caught_by("threads.counts")
class DividesByTheOtherThreads(Reference):
    """Division by zero at one thread."""

    def _backward(self, *arguments: Any) -> None:
        super()._backward(*arguments)
        rows = self.planned.batch_size
        self.rows_of_each = rows // (self.planned.threads - 1)


@caught_by("threads.counts", hangs=True)
class StepNeverEnds(Reference):
    """A step that hangs: a loop that a thread without rows never leaves."""

    def _forward(self, batch_size: int, seq_len: int) -> None:
        super()._forward(batch_size, seq_len)
        rows = batch_size
        while self.planned.threads > batch_size and rows:
            rows = max(1, rows - self.planned.threads)


@caught_by("threads.counts", hangs=True)
class StepWaitsForever(Reference):
    """A step that hangs: a lock that is taken twice."""

    def _step(self, *arguments: Any) -> float:
        lock = threading.Lock()
        with lock:
            if self.planned.threads > self.planned.batch_size:
                lock.acquire()
            return super()._step(*arguments)


@caught_by("threads.counts")
class RowsWithoutAThread(Reference):
    """Each thread takes rows // threads rows, so that with more threads than rows none is added."""

    def _backward(self, batch_size: int, *arguments: Any) -> None:
        if batch_size // self.planned.threads:
            super()._backward(batch_size, *arguments)


@caught_by("threads.state")
class LeavesDenormalsFlushed(Reference):
    """The processor's flush to zero is left on in the caller's thread."""

    def _forward(self, *arguments: Any) -> None:
        super()._forward(*arguments)
        libm = ctypes.CDLL("libm.so.6")
        environment = (ctypes.c_uint32 * 16)()
        libm.fegetenv(environment)
        if platform.machine() == "x86_64":
            environment[7] |= 0x8040  # MXCSR: flush to zero, denormals are zero
        else:
            environment[0] |= 1 << 24  # FPCR
        libm.fesetenv(environment)


@caught_by("threads.state")
class LeavesRoundingUp(Reference):
    """The rounding direction is left changed."""

    def _update(self, *arguments: Any) -> None:
        super()._update(*arguments)
        upward = 0x800 if platform.machine() == "x86_64" else 0x400000
        ctypes.CDLL("libm.so.6").fesetround(upward)


@caught_by("threads.state")
class ReseedsNumPy(Reference):
    """NumPy's global generator is seeded anew by each model."""

    def prepare(self) -> None:
        super().prepare()
        np.random.seed(0)


@caught_by("threads.state")
class DrawsFromRandom(Reference):
    """Generation draws from Python's global generator."""

    def _sample(self, *arguments: Any) -> int:
        random.random()
        return super()._sample(*arguments)


@caught_by("threads.state")
class SilencesNumPy(Reference):
    """NumPy's handling of floating-point errors is switched off for the caller too."""

    def _forward(self, *arguments: Any) -> None:
        np.seterr(all="warn")
        super()._forward(*arguments)


@caught_by("threads.state")
class TakesTheInterrupt(Reference):
    """A handler for SIGINT is installed and left."""

    def prepare(self) -> None:
        super().prepare()
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@caught_by("threads.fork")
class HangsAfterFork(Reference):
    """A fork that hangs afterwards: the child waits for a worker thread that it does not have."""

    pool: ClassVar[ThreadPoolExecutor] = ThreadPoolExecutor(1)

    def _loss(self, *arguments: Any) -> Any:
        return self.pool.submit(super()._loss, *arguments).result()


@caught_by("threads.callers")
class SharesItsActivations(Reference):
    """Activations shared between threads: all models keep what backward needs in one place."""

    kept: ClassVar[dict[str, Any]] = {}

    def _loss(self, *arguments: Any) -> Any:
        self.kept.update({name: array.copy() for name, array in self.activations().items()})
        time.sleep(0)  # as a kernel gives the interpreter's lock away
        return super()._loss(*arguments)

    def _backward(self, *arguments: Any) -> None:
        for name, array in self.activations().items():
            np.copyto(array, self.kept[name])
        super()._backward(*arguments)


@caught_by("threads.callers")
class SharesItsContext(Reference):
    """The context of a decoder lies in one place for all models."""

    fed: ClassVar[dict[str, Any]] = {}

    def _decode(self, position: int) -> None:
        self.fed["last"] = self._buffers_given["window"][position]
        time.sleep(0)
        self._buffers_given["window"][position] = self.fed["last"]
        super()._decode(position)
