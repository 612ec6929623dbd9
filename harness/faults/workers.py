"""Faults of the team of threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cllm.harness.faults.catalogue import caught_by, control
from cllm.layout import tensor_views
from cllm.plan import Buffer, Operation, Plan, Role, activation_buffers
from cllm.reference import Model as Reference
from cllm.reference.cross_entropy import cross_entropy_backward
from cllm.reference.network import backward, forward


@control
class RowsInThreads(Reference):
    """Computes each row of a batch by itself, in Python's threads."""

    lattice_parts = Reference.lattice_parts - {"loss"}
    parallel = True

    @classmethod
    def _buffers(cls, shape: Plan) -> Iterator[Buffer]:
        yield from super()._buffers(shape)
        if Operation.TRAINING in shape.operations:
            gradients = (shape.batch_size, shape.config.num_parameters)
            yield Buffer("row_gradients", gradients, shape.dtype, Role.SCRATCH)

    @property
    def workers(self) -> int:
        """How many of the planned threads work."""
        return self.planned.threads

    def share(self, compute: Callable[[int], None]) -> None:
        """Compute all rows; row r is worker r's, modulo their number."""
        rows = len(self.activations()["tokens"])

        def work(worker: int) -> None:
            with np.errstate(all="ignore"):
                for row in range(worker, rows, self.workers):
                    compute(row)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(self.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def row(self, row: int) -> dict[str, Any]:
        """The buffers of one row."""
        a = self.activations()
        names = ["tokens", "targets", *(buffer.name for buffer in activation_buffers(self.planned))]
        return a | {name: a[name][row : row + 1] for name in names}

    def _forward(self, *arguments: Any) -> None:
        self.share(lambda row: forward(self.tensors(), self.row(row), self.config))

    def _backward(self, batch_size: int, seq_len: int, divisor: float) -> None:
        sums = self._buffers_given["row_gradients"]

        def compute(row: int) -> None:
            a = self.row(row)
            dlogits = a["logits"].copy()
            cross_entropy_backward(dlogits, a["logits"], a["targets"], divisor)
            sums[row] = 0
            g = tensor_views(self.config, sums[row])
            backward(self.tensors(), g, a, dlogits, self.config)

        self.share(compute)
        for row in sums[:batch_size]:
            self.gradients[...] += row


@caught_by("threads.workers")
class FourOfTwelveWorkers(RowsInThreads):
    """Four threads do the work of all that are planned."""

    @property
    def workers(self) -> int:
        return min(4, self.planned.threads)


@caught_by("threads.workers")
class OneDoesAllTheWork(Reference):
    """Declares itself parallel, and works in one thread."""

    parallel = True


@caught_by("threads.workers")
class BackwardAlone(RowsInThreads):
    """Runs backward in one thread."""

    _backward = Reference._backward
