"""Workers seen from outside: started, asked with a time limit, ended.

Promises: a worker that crashes, hangs or fails raises `WorkerFailed`, which says so in one line;
none outlives its context.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any, Protocol, Self

from cllm.harness.words import ending

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
)
"""What decides how many threads a model has that leaves it to OpenMP or NumPy's BLAS."""

END_SECONDS = 5.0
"""How long a worker may take to end when its input ends."""


def thread_variables(threads: int) -> dict[str, str]:
    """What gives OpenMP and NumPy's BLAS so many threads, of which the user has set nothing.

    A model that sets their number itself, as ours does, is not bound by it.
    """
    return {name: str(threads) for name in THREAD_VARIABLES if not os.environ.get(name)}


class WorkerFailed(Exception):
    """A worker crashed, hung, or could not do what it was asked."""


def how_it_ended(status: int, errors: IO[bytes]) -> str:
    """A process, by its exit status, and what it said last."""
    errors.seek(0)
    said = errors.read().decode(errors="replace").strip().splitlines()
    return f"crashed {ending(status)}" + (f": {said[-1].strip()}" if said else "")


class Process(Protocol):
    """What is needed of one, as of `subprocess.Popen`; it leads a group of processes."""

    stdin: IO[bytes] | None
    stdout: IO[bytes] | None

    @property
    def pid(self) -> int:
        """Its number, and that of its group."""

    def poll(self) -> int | None:
        """The exit status; None as long as it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit status; raises `subprocess.TimeoutExpired`."""


class Worker:
    """A process that computes only while it is asked."""

    def __init__(self, process: Process, errors: IO[bytes]) -> None:
        self._process, self._errors = process, errors
        self._received = b""

    @classmethod
    def start(
        cls,
        environment: Mapping[str, str],
        command: tuple[str, ...] = ("-P", "-m", "cllm.harness.bench.worker"),
        python: str = sys.executable,
    ) -> Self:
        """A `cllm.harness.bench.worker`, or what else that interpreter is told to run."""
        errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close)
        process = subprocess.Popen(
            [python, "-u", *command],  # or what it said last would be lost in a crash
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **environment},
            start_new_session=True,  # so that the compilers it starts end with it
        )
        return cls(process, errors)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status; None as long as it runs."""
        return self._process.poll()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, call: str, limit: float, **arguments: Any) -> dict[str, Any]:
        """The reply to a request, within `limit` seconds."""
        self.send(call, **arguments)
        return self.receive(limit)

    def send(self, call: str, **arguments: Any) -> None:
        """Make a request, whose reply is to be received before the next one."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"call": call, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerFailed(self._end()) from None

    def receive(self, limit: float) -> dict[str, Any]:
        """The reply, within `limit` seconds from now."""
        reply: dict[str, Any] = json.loads(self._line(limit))
        if "error" in reply:
            raise WorkerFailed(" ".join(reply["error"].split()))
        return reply

    def finish(self) -> None:
        """Let it end by itself, without waiting for it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def close(self) -> None:
        """End the process, its children too."""
        if self._errors.closed:
            return
        streams = (self._process.stdin, self._process.stdout)
        self.finish()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        self._kill()
        for stream in (*streams, self._errors):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _line(self, limit: float) -> bytes:
        """The next line that the worker writes."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + limit
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._received:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self._kill()
                    raise WorkerFailed(f"hung: no answer within {limit:.0f} s")
                if not (read := os.read(self._process.stdout.fileno(), 1 << 16)):
                    raise WorkerFailed(self._end())
                self._received += read
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _end(self) -> str:
        """How it came to its end."""
        try:
            status = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            status = self._process.wait()
        return how_it_ended(status, self._errors)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
