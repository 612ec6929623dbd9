"""The processes of a round seen from outside: forked, asked, ended.

Promises: where both sides have the same interpreter and NumPy, as revisions, wheels and candidates
do, the processes of a round are forked from one that has loaded these two and nothing of a side: a
round takes about half the time. What they have from it is the same for both sides, also where it
lies in memory and how strings hash; their stack, their heap and what they map from then on are
shifted as it is drawn for each process. Otherwise each has an interpreter of its own. None outlives
its context.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from cllm.harness.bench.process import END_SECONDS, Worker, WorkerFailed, how_it_ended

WORKER = Path(__file__).with_name("worker.py")

START_LIMIT = 300.0
"""Seconds to start an interpreter that has imported NumPy."""

MOST = 1 << 20
"""Bytes of a message, as many as a socket takes."""

POLL_SECONDS = 1e-3

SHIFTS = {"stack": (32, 4096), "heap": (1, 65_536), "pages": (1, 4096)}
"""What is drawn for each process, from and below: bytes and pages."""

LOADED = """
import json, sys, numpy
with open("/proc/self/maps") as maps:
    openmp = any(name in line for line in maps for name in ("libgomp", "libomp", "libiomp"))
modules = sorted((name, str(getattr(module, "__file__", None)))
                 for name, module in sys.modules.items())
names = ("path", "executable", "prefix", "exec_prefix")
print(json.dumps({
    "alike": None if openmp else [sys.version, sys.base_prefix, modules],
    "interpreter": {name: getattr(sys, name) for name in names},
}))
"""
"""What a process has loaded before it imports a side, None where that cannot be forked from as
OpenMP has read its variables already; and what a side's own interpreter would tell it of itself."""


@dataclass(frozen=True)
class Launch:
    """How a process of one side is started."""

    candidate: str
    python: str
    environment: Mapping[str, str] = field(default_factory=dict)
    interpreter: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of `sys` where it is forked from what both sides share; empty where it is not."""


class ForkServer:
    """An interpreter of a side that has imported NumPy, and forks on request.

    What NumPy and the interpreter read when they start they have from the environment of that side.
    Raises `WorkerFailed` where it cannot be started.
    """

    def __init__(self, launch: Launch, bound: Mapping[str, str]) -> None:
        self._variables = {**bound, **launch.environment}
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(START_LIMIT)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by __exit__)
        try:
            self._process = subprocess.Popen(
                [launch.python, "-P", "-u", str(WORKER)],
                stdin=theirs.fileno(),
                stdout=self._errors,
                stderr=self._errors,
                env={**os.environ, **self._variables},
                start_new_session=True,
            )
        except OSError as error:
            self._control.close()
            self._errors.close()
            raise WorkerFailed(f"cannot be started: {error}") from error
        finally:
            theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._control.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
        self._errors.close()

    def fork(
        self, launch: Launch, bound: Mapping[str, str], generator: np.random.Generator
    ) -> Worker:
        """A process of a side, at a place that is drawn; raises `WorkerFailed`."""
        before = {name: os.environ.get(name) for name in self._variables}
        request = {
            "environment": {**before, **bound, **launch.environment},
            "interpreter": launch.interpreter,
            "shift": {name: int(generator.integers(*drawn)) for name, drawn in SHIFTS.items()},
        }
        errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by the worker)
        (theirs_in, ours_in), (ours_out, theirs_out) = os.pipe(), os.pipe()
        ours = os.fdopen(ours_in, "wb"), os.fdopen(ours_out, "rb")
        try:
            process = self.ask(request, (theirs_in, theirs_out, errors.fileno()))
        except BaseException:
            for file in (*ours, errors):
                file.close()
            raise
        finally:
            for stream in (theirs_in, theirs_out):
                os.close(stream)
        return Worker(Forked(self, process, *ours), errors)

    def ask(self, request: Mapping[str, Any], streams: Sequence[int] = ()) -> Any:
        """The reply to a request; raises `WorkerFailed`.

        After a request without its reply there are no more: the next one would get it.
        """
        reply = b""
        try:
            socket.send_fds(self._control, [json.dumps(request).encode()], streams)
            reply = self._control.recv(MOST)
        except ConnectionError:
            pass
        except TimeoutError:
            self._kill()
            raise WorkerFailed(f"hung: no process within {START_LIMIT:.0f} s") from None
        except BaseException:
            self._kill()
            raise
        if not reply:
            raise WorkerFailed(how_it_ended(self._process.wait(), self._errors))
        return json.loads(reply)

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Forked:
    """A process of a fork server; the server alone can tell how it ended."""

    def __init__(self, server: ForkServer, pid: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self._server, self.pid = server, pid
        self.stdin: IO[bytes] | None = stdin
        self.stdout: IO[bytes] | None = stdout
        self._status: int | None = None

    def poll(self) -> int | None:
        """The exit status; None as long as it runs."""
        if self._status is None:
            try:
                self._status = self._server.ask({"process": self.pid})
            except WorkerFailed:  # without the server nobody knows; it is not to go on
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                self._status = -signal.SIGKILL
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        """The exit status; raises `subprocess.TimeoutExpired`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(str(WORKER), timeout or 0.0)
            time.sleep(POLL_SECONDS)
        return status


def sharing(base: Launch, head: Launch) -> tuple[Launch, Launch]:
    """Both sides; forked from one interpreter where all that it has loaded is alike for them."""
    with ThreadPoolExecutor() as pool:
        one, other = pool.map(_loaded, (base, head))
    if one.get("alike") is None or one["alike"] != other.get("alike"):
        return base, head
    base = replace(base, interpreter=one["interpreter"])
    return base, replace(head, interpreter=other["interpreter"])


def _loaded(launch: Launch) -> dict[str, Any]:
    """What `LOADED` prints on that side; empty where it cannot."""
    command, environment = [launch.python, "-P", "-c", LOADED], {**os.environ, **launch.environment}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=START_LIMIT)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, IndexError, ValueError):
        return {}
    return found
