"""The processes of a round seen from outside: forked, asked, ended.

Promises: where both sides have the same interpreter and NumPy, as revisions, wheels and candidates
do, all their processes are forked from one that has loaded these two and nothing of a side: a round
takes about half the time, and what they share, also where it lies in memory and how strings hash,
is the same for both sides and cannot tell one from the other; what is loaded after that lies where
it is drawn for each process. Otherwise each has an interpreter of its own. None outlives its
context.
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
from collections.abc import Iterator, Mapping, Sequence
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

POLL_SECONDS = 1e-3

SHIFTS = {"stack": (32, 4096), "heap": (1, 65_536), "pages": (1, 4096)}
"""What is drawn for each process, from and below: bytes and pages."""

LOADED = """
import json, sys, numpy
owners = [hook if isinstance(hook, type) else type(hook) for hook in sys.meta_path]
hooks = [(owner.__qualname__, owner.__module__,
          getattr(sys.modules.get(owner.__module__), "__file__", None)) for owner in owners]
alike = [sys.version, sys.base_prefix, numpy.__file__, hooks]
print(json.dumps({"alike": alike, "path": sys.path}))
"""
"""What a process has before a side is imported: must be alike on both, and where it looks then."""


@dataclass(frozen=True)
class Launch:
    """How a process of one side is started."""

    candidate: str
    python: str
    environment: Mapping[str, str] = field(default_factory=dict)
    path: Sequence[str] = ()
    """Where a process forked from another interpreter looks for modules: its `sys.path`."""


class ForkServer:
    """An interpreter that has imported NumPy, and forks on request."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(START_LIMIT)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close)
        with theirs:
            self._process = subprocess.Popen(
                [launch.python, "-P", "-u", str(WORKER)],
                stdin=theirs.fileno(),
                stdout=self._errors,
                stderr=self._errors,
                env={**os.environ, **launch.environment},
                start_new_session=True,
            )

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
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def fork(
        self, launch: Launch, bound: Mapping[str, str], generator: np.random.Generator
    ) -> Worker:
        """A process of a side, at a place that is drawn; raises `WorkerFailed`."""
        others = dict.fromkeys(self._launch.environment)
        request = {
            "environment": {**others, **bound, **launch.environment},
            "path": launch.path,
            "shift": {name: int(generator.integers(*drawn)) for name, drawn in SHIFTS.items()},
        }
        errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by the worker)
        (theirs_in, ours_in), (ours_out, theirs_out) = os.pipe(), os.pipe()
        try:
            process = self.ask(request, (theirs_in, theirs_out, errors.fileno()))
        except WorkerFailed:
            for stream in (ours_in, ours_out):
                os.close(stream)
            errors.close()
            raise
        finally:
            for stream in (theirs_in, theirs_out):
                os.close(stream)
        return Worker(
            Forked(self, process, os.fdopen(ours_in, "wb"), os.fdopen(ours_out, "rb")), errors
        )

    def ask(self, request: Mapping[str, Any], streams: Sequence[int] = ()) -> Any:
        """The reply to a request; raises `WorkerFailed`."""
        try:
            socket.send_fds(self._control, [json.dumps(request).encode()], streams)
            reply = self._control.recv(1 << 16)
        except TimeoutError:
            self._process.kill()
            raise WorkerFailed(f"hung: no process within {START_LIMIT:.0f} s") from None
        except ConnectionError:
            reply = b""
        if not reply:
            raise WorkerFailed(how_it_ended(self._process.wait(), self._errors))
        return json.loads(reply)


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


@contextlib.contextmanager
def fork_server(
    base: Launch, head: Launch
) -> Iterator[tuple[ForkServer | None, tuple[Launch, Launch]]]:
    """What forks the processes of both sides, where they can share it, and how it starts them."""
    with ThreadPoolExecutor() as pool:
        loaded = [*pool.map(_loaded, (base, head))]
    if None in loaded or loaded[0]["alike"] != loaded[1]["alike"]:
        yield None, (base, head)
        return
    base, head = (
        replace(side, path=each["path"]) for side, each in zip((base, head), loaded, strict=True)
    )
    with ForkServer(base) as server:
        yield server, (base, head)


def _loaded(launch: Launch) -> Any:
    """What `LOADED` prints on that side; None where it cannot."""
    command, environment = [launch.python, "-P", "-c", LOADED], {**os.environ, **launch.environment}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=START_LIMIT)
    except subprocess.TimeoutExpired:
        return None
    return None if done.returncode else json.loads(done.stdout.splitlines()[-1])
