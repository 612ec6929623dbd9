"""Functions in processes of their own.

Promises: a verdict of each, whatever it does: one that crashes, hangs or leaves the interpreter
fails, with what it last said and the Python line that it was at; its descendants end with it.
Leaves out: what is run (`cllm.harness.conformance`).

The processes are forked from a server that has imported the harness and run nothing
(`multiprocessing`'s fork server): starting one takes milliseconds, and no thread that another
check has left is in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import fcntl
import multiprocessing
import multiprocessing.connection
import os
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cllm.harness import stacks
from cllm.harness.verdict import Status, Verdict
from cllm.harness.words import ending

METHOD = "CLLM_START_METHOD"
"""Environment variable: `spawn` starts each process afresh, as sanitizers want it."""

OUT_OF_BOUNDS = "out of bounds: "
"""What a guard's message on standard error opens with (`cllm.harness.guard`)."""

END_SECONDS = 10.0
"""How long a process may take to end after its verdict."""

START_SECONDS = 10.0
"""For how long a start is tried again where a task has ended the server."""

TELL_SECONDS = 2.0
"""How long before it is killed a hanging process says where it is."""

MOST = 50_000
"""Characters of what a process has said, and of each of its verdict's details; the last ones."""

MOST_EVIDENCE = 2_000
"""Characters of evidence, the first ones."""

ADOPT = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2): orphans below it become its children."""

PRELOADED = [
    "cllm.harness.isolation",
    "cllm.harness.checks",
    "cllm.reference",
    "cllm.harness.honesty.sealed",
]
"""What the server imports once; the seal last, on all of it."""

ENVIRONMENT = {"PYTHONSAFEPATH": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Of the server, where the user has not said otherwise. What lies in the working directory is none
of its modules; several processes at once leave NumPy no cores for threads of its own."""


@dataclass(frozen=True)
class Task:
    """A function by its name in its module, with arguments that can be pickled."""

    function: Callable[..., Verdict]
    arguments: tuple[Any, ...]
    limit: float
    """Seconds that it may take."""


def preload(module: str) -> None:
    """Have the server import this as well; without effect where it has started already."""
    if module not in PRELOADED:
        PRELOADED.insert(0, module)


def run(tasks: Iterable[Task], jobs: int = 1) -> Iterator[tuple[int, Verdict, float]]:
    """Number, verdict and seconds of each task, in the order in which they end; `jobs` at once."""
    running: dict[int, _Process] = {}
    waiting = iter(enumerate(tasks))
    try:
        while True:
            while len(running) < jobs and (following := next(waiting, None)):
                number, task = following
                running[number] = _Process(task)
            if not running:
                return
            soonest = min(process.deadline for process in running.values())
            news = [object for process in running.values() for object in process.news]
            multiprocessing.connection.wait(news, max(0.0, soonest - time.monotonic()))
            for number, process in list(running.items()):
                if process.over:
                    verdict = process.end()
                    del running[number]
                    yield number, verdict, time.monotonic() - process.start
    finally:
        for process in running.values():
            process.kill()


def isolate(function: Callable[..., Verdict], *arguments: Any, limit: float) -> Verdict:
    """`function(*arguments)` in a process of its own, for at most `limit` seconds."""
    [(_, verdict, _)] = run([Task(function, arguments, limit)])
    return verdict


class _Process:
    """A task under way."""

    def __init__(self, task: Task) -> None:
        context: Any = multiprocessing.get_context(os.environ.get(METHOD, "forkserver"))
        if context.get_start_method() == "forkserver":
            context.set_forkserver_preload(PRELOADED)
        self._limit = task.limit
        self._folder = tempfile.TemporaryDirectory()
        self._said = Path(self._folder.name) / "stderr"
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_work, args=(sender, str(self._said), task))
        _start(self._process)
        sender.close()
        self.start = time.monotonic()
        self.deadline = self.start + task.limit

    @property
    def news(self) -> tuple[Any, ...]:
        """What becomes ready when it has answered or ended."""
        return self._receiver, self._process.sentinel

    @property
    def over(self) -> bool:
        """Whether it has answered, ended, or had its time."""
        ready = multiprocessing.connection.wait(self.news, 0)
        return bool(ready) or self.deadline <= time.monotonic()

    def end(self) -> Verdict:
        """The verdict."""
        answered = self._receiver.poll()
        try:
            if not answered and self._process.exitcode is None:
                return self._failed(f"hung: no verdict within {self._limit:g} s")
            verdict = self._answer() if answered else None
            self._process.join(END_SECONDS)
            status = self._process.exitcode
            if verdict is None or status not in (0, None):
                when = "" if verdict is None else " after its verdict"
                return self._failed(f"crashed{when} {ending(status)}")
            if status is None:
                return self._failed(f"did not end within {END_SECONDS:g} s of its verdict")
            return verdict
        finally:
            self.kill()

    def kill(self) -> None:
        """End the process and what it has started."""
        self._kill()
        self._process.join()
        self._receiver.close()
        self._folder.cleanup()

    def _kill(self) -> None:
        _end(_descendants(self._process.pid))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def _answer(self) -> Verdict | None:
        """What the process has sent; None where that is no verdict, whatever else it is."""
        end = threading.Timer(END_SECONDS, self._kill)  # of an answer that is never whole
        end.start()
        try:
            answer = self._receiver.recv()
        except Exception:
            return None
        finally:
            end.cancel()
        return answer if isinstance(answer, Verdict) else None

    def _failed(self, how: str) -> Verdict:
        """A failure, with what the process last said and where it was."""
        lines = _last(self._said).splitlines()
        guarded = [line for line in lines if line.startswith(OUT_OF_BOUNDS)]
        said = [line.strip() for line in lines if not stacks.is_part(line)]
        parts = [guarded[0].removeprefix(OUT_OF_BOUNDS)] if guarded else [how, *said[-1:]]
        if where := stacks.place(lines, _work.__code__):
            parts.append(where)
        details = {"said": "\n".join(lines)} if lines else {}
        return Verdict(Status.FAIL, ", ".join(parts), details)


def _start(process: Any) -> None:
    """Start a process; where the server is ending, as a task can bring about, by another server."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with _starting():
                process.start()
            return
        except (ConnectionError, EOFError):
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.01)  # it takes no calls any more, and is not gone yet


@contextlib.contextmanager
def _starting() -> Iterator[None]:
    """A context in which what is not set of `ENVIRONMENT` is."""
    missing = ENVIRONMENT.keys() - os.environ.keys()
    os.environ |= {name: ENVIRONMENT[name] for name in missing}
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]


def _descendants(ancestor: int) -> list[int]:
    """The processes that one has started, theirs, and so on."""
    found = []
    for path in Path(f"/proc/{ancestor}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, path.read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _end(processes: Iterable[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)


def _last(path: Path) -> str:
    """The end of a file, as much as anybody will read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - MOST))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _bounded(verdict: Verdict) -> Verdict:
    """Without what is too long for anybody to read."""
    details = {
        name: value[-MOST:] if isinstance(value, str) else value
        for name, value in verdict.details.items()
    }
    return replace(verdict, evidence=verdict.evidence[:MOST_EVIDENCE], details=details)


def _let_go(*kept: int | None) -> None:
    """Lead all other pipes nowhere: junk in that of the server would end it."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    for path in Path("/proc/self/fd").iterdir():
        descriptor = int(path.name)
        with contextlib.suppress(OSError):  # the one of this listing
            written = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
            piped = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
            if descriptor > 2 and descriptor not in kept and written and piped:
                os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _work(sender: Connection, said: str, task: Task) -> None:
    """What the process does: say where it is when it ends in a crash, else send the verdict."""
    _let_go(sender.fileno(), resource_tracker.getfd())
    os.setsid()  # an interrupt from the terminal is not its business
    for ignored in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):  # by a shell, in the background
        signal.signal(ignored, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ctypes.CDLL(None).prctl(ADOPT, 1, 0, 0, 0)  # so that what it starts ends with it
    errors = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(errors, descriptor)
    faulthandler.enable(2)
    stacks.tell_after(max(0.5, task.limit - TELL_SECONDS), TELL_SECONDS / 2)
    from cllm.harness.honesty.sealed import (
        confirm,  # sealed now at the latest: no candidate is loaded yet
    )

    verdict = confirm(task.function(*task.arguments))
    stacks.tell_no_more()
    sender.send(_bounded(verdict))
    _end(_descendants(os.getpid()))
    sender.close()
