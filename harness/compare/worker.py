"""The processes of a round: `python -P worker.py`, with the interpreter of a side, forks them.

What all of them need and none is measured by, the interpreter and NumPy, is loaded once.

Promises: one request a line on standard input of a process, one reply a line; it computes only
while it is asked to. Of the side's package it needs what stays the same from version to version:
`find_model`, `Model.create`, `step`, `reset`, `feed`, `generate` and what they take; it is imported
in the process alone, so that those of both sides can be forked here. Nothing of the harness is
imported, which may be another one there.
Leaves out: what the figures mean (`cllm.harness.compare.session`).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LEARNING_RATE = 1e-3
WARM_UP_SHARE = 0.2
"""Part of a visit that is not timed: caches are cold after another's visit."""

LONG_SECONDS = 0.1
"""Calls that take so long need not be timed three times to know about how long they are."""

REST_SECONDS = 3e-4
MOST_REST_SECONDS = 0.02


def computed() -> float:
    """Seconds that all threads of this process have computed.

    Those of the process as a whole leave out what a running thread did since the last tick.
    """
    seconds = 0.0
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            seconds += time.clock_gettime(~int(thread.name) << 3 | 6)  # clock_getcpuclockid(3)
    return seconds


def come_to_rest() -> None:
    """Wait until no thread of this process computes any more.

    Those of OpenMP look for more work for some milliseconds before they sleep, on cores that the
    next process is measured on.
    """
    deadline = time.perf_counter() + MOST_REST_SECONDS
    before = computed()
    while time.perf_counter() < deadline:
        time.sleep(REST_SECONDS)
        after = computed()
        if after - before < REST_SECONDS / 2:
            return
        before = after


class Bench:
    """A model and the call that is timed."""

    def __init__(self) -> None:
        self._candidate: Any
        self._begin: Callable[[], None]
        self._call: Callable[[], Any]

    def import_candidate(self, candidate: str) -> dict[str, Any]:
        """What is slow to start, and not measured."""
        from cllm.registry import find_model

        self._candidate = find_model(candidate)
        return {}

    def build(
        self,
        kind: str,
        sizes: list[int],
        threads: int,
        workload: str,
        checked: int,
    ) -> dict[str, Any]:
        """Make a benchmark; the results of its first calls, some of them warm.

        `workload` is an .npz file with `parameters` (P,), `tokens` and `targets` (K,B,T).
        """
        from cllm.config import Config
        from cllm.decoder import Sampling
        from cllm.model import Update
        from cllm.plan import Operation

        with np.load(workload) as arrays:
            parameters, tokens, targets = (
                arrays[key] for key in ("parameters", "tokens", "targets")
            )
        _, rows, length = tokens.shape
        training = kind == "step"
        operation = Operation.TRAINING if training else Operation.GENERATION
        model = self._candidate.create(
            Config(*sizes), rows, length, parameters, operations=(operation,), threads=threads
        )
        taken = 0

        def step() -> float:
            nonlocal taken
            batch = taken % len(tokens)
            taken += 1
            return float(model.step(tokens[batch], targets[batch], Update(taken, LEARNING_RATE)))

        def begin() -> None:
            if not training:
                model.reset()
                model.feed(tokens[0, 0, :1])

        uniforms = np.zeros(length - 1)

        def generate() -> Any:
            return model.generate(length - 1, Sampling(0.0), uniforms)

        call = step if training else generate
        results: list[float] = []
        while len(results) < checked:
            begin()
            results += np.atleast_1d(np.asarray(call(), np.float64)).tolist()
        self._begin, self._call = begin, call
        timed: list[float] = []
        while len(timed) < 3 and sum(timed) < LONG_SECONDS:
            timed.append(self._time(1))
        come_to_rest()
        return {
            "results": results[:checked],
            "per_call": 1 if training else length - 1,
            "seconds": min(timed),
        }

    def visit(self, seconds: float, warm_up: bool, calls: int) -> dict[str, Any]:
        """Seconds of a call in the fastest window within about `seconds`, and in the mean.

        A window is so many calls.
        """
        start = time.perf_counter()
        while warm_up and time.perf_counter() - start < WARM_UP_SHARE * seconds:
            self._time(1)
        found: list[float] = []
        while not found or time.perf_counter() - start < seconds:
            found.append(self._time(calls))
        come_to_rest()
        return {"fastest": min(found), "mean": sum(found) / len(found)}

    def _time(self, calls: int) -> float:
        """Mean seconds of so many calls."""
        spent = 0.0
        for _ in range(calls):
            self._begin()
            start = time.perf_counter()
            self._call()
            spent += time.perf_counter() - start
        return spent / calls


def serve() -> None:
    """Answer requests from standard input until it ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what is printed goes to standard error
    bench = Bench()
    calls: dict[str, Callable[..., dict[str, Any]]] = {
        "import_candidate": bench.import_candidate,
        "build": bench.build,
        "visit": bench.visit,
    }
    for line in sys.stdin:
        request = json.loads(line)
        name = request.pop("call")
        try:
            reply = calls[name](**request)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


def fork(request: dict[str, Any], streams: Sequence[int], control: socket.socket) -> int:
    """Start a process that serves on streams of its own; its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the threads of NumPy's BLAS end before a fork
        process = os.fork()
    if process:
        os.setpgid(process, process)  # so that what it starts ends with it
        return process
    try:
        control.close()
        for place, stream in enumerate(streams):
            os.dup2(stream, place)
            os.close(stream)
        for name, value in request["environment"].items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        for name, value in request["interpreter"].items():
            setattr(sys, name, value)
        shifted(serve, **request["shift"])
        os._exit(0)  # what takes an interpreter apart takes time from the next round
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def shifted(function: Callable[[], None], stack: int, heap: int, pages: int) -> None:
    """Call a function with the stack, the heap and what is mapped in it shifted by bytes and pages.

    Or all that is forked from one process would lie where that has it.
    """
    kept = bytearray(heap), mmap.mmap(-1, pages * mmap.PAGESIZE)
    raised: list[BaseException] = []

    def called(_: object) -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    # an argument that is handed over by value lies above what the called function has on the stack
    fields = {"_fields_": [("bytes", ctypes.c_byte * stack)]}
    argument = type("Argument", (ctypes.Structure,), fields)
    ctypes.CFUNCTYPE(None, argument)(called)(argument())
    for error in raised:
        raise error
    del kept


def main() -> None:
    """Answer messages from the socket that standard input is, until it ends.

    One with three streams asks for a process, one without for the exit status of one.
    """
    with socket.socket(fileno=os.dup(0)) as control:
        while True:
            message, streams, _, _ = socket.recv_fds(control, 1 << 20, 3)
            if not message:
                return
            request = json.loads(message)
            reply: int | None
            if streams:
                reply = fork(request, streams, control)
                for stream in streams:
                    os.close(stream)
            else:
                ended, status = os.waitpid(request["process"], os.WNOHANG)
                reply = os.waitstatus_to_exitcode(status) if ended else None
            control.send(json.dumps(reply).encode())


if __name__ == "__main__":
    main()
    os._exit(0)
