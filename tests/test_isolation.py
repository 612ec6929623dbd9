"""A function in a process of its own: whatever it does, there is a verdict that says what."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from cllm.harness import Status, Verdict, isolation
from cllm.harness.conformance.run import run_check
from cllm.harness.isolation import METHOD, OUT_OF_BOUNDS, Task, isolate, run

# Built-in functions and our own: what is isolated has to be importable in another process.
FREED_TWICE = """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
block = ctypes.c_void_p(libc.malloc(10_000))
libc.free(block)
libc.free(block)
"""

JUNK = """
import os
for descriptor in range(3, 64):
    try: os.write(descriptor, b"junk" * 9)
    except OSError: pass
"""

# The innermost lines are Python's and the interface's; whoever called is wanted.
IN_THE_INTERFACE = """
import ctypes, os; from cllm.plan import check_threads; os.sched_getaffinity = ctypes.string_at
def work(check_threads): check_threads(0)
work(check_threads)
"""


def test_a_verdict_comes_back_whole() -> None:
    verdict = Verdict(Status.INCONCLUSIVE, "why", {"numbers": [1.5, None]}, "a.b")
    arguments = (verdict.status, verdict.evidence, verdict.details, verdict.check)
    assert isolate(Verdict, *arguments, limit=30) == verdict


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import ctypes; ctypes.string_at(0)", "crashed by SIGSEGV, called at <string>:1 in "),
        (IN_THE_INTERFACE, "crashed by SIGSEGV, called at <string>:3 in work"),
        (FREED_TWICE, "crashed by SIGABRT, double free or corruption ("),
        ("import os; os._exit(3)", "crashed with exit status 3"),
        ("raise SystemExit(0)", "crashed with exit status 0"),
        ("1 / 0", "crashed with exit status 1, ZeroDivisionError: division by zero"),
        ("import os; os.kill(os.getpid(), 9)", "crashed by SIGKILL"),
        (f"import sys; print({OUT_OF_BOUNDS!r} + 'write to x', file=sys.stderr); "
         "import os; os.abort()", "write to x, called at <string>:1"),
    ],
)  # fmt: skip
def test_a_crash_is_a_failure_that_says_how_and_where(code: str, said: str) -> None:
    verdict = isolate(exec, code, limit=30)
    assert verdict.status is Status.FAIL
    assert verdict.evidence.startswith(said)


def test_a_crash_after_the_verdict_is_a_failure() -> None:
    abort = "__import__('threading')._register_atexit(__import__('os').abort)"
    code = f"({abort}, __import__('cllm.harness').harness.Verdict('pass', 'fine'))[1]"
    verdict = isolate(eval, code, limit=30)
    assert verdict.status is Status.FAIL
    assert verdict.evidence == "crashed after its verdict by SIGABRT"


@pytest.mark.parametrize("code", [
    "\nwhile True: pass",
    "import time\nwhile True: time.sleep(0.01)",
    "import threading; lock = threading.Lock(); lock.acquire()\nlock.acquire()",
    # Compiled code that keeps the interpreter's lock, and is not woken by a signal.
    "import ctypes; lock = ctypes.PyDLL(None).pthread_mutex_lock; "
    "mutex = ctypes.create_string_buffer(64); lock(mutex)\nlock(mutex)",
])  # fmt: skip
def test_a_hang_is_a_failure_that_says_where(code: str) -> None:
    start = time.monotonic()
    verdict = isolate(exec, code, limit=6)
    assert verdict.status is Status.FAIL
    assert verdict.evidence == "hung: no verdict within 6 s, called at <string>:2 in <module>"
    assert time.monotonic() - start < 60


def test_a_hang_of_another_thread_is_found_where_it_is(tmp_path: Path) -> None:
    """No frame of the main thread is the candidate's: it waits for a pool."""
    path = tmp_path / "candidate.py"
    path.write_text(
        "import threading\n"
        "from cllm.reference import Model as Reference\n"
        "class Model(Reference):\n"
        "    def _forward(self, *arguments):\n"
        "        while threading.current_thread() is not threading.main_thread(): pass\n"
        "        super()._forward(*arguments)\n"
    )
    arguments = (f"{path}:Model", "threads.callers", None, 0)
    verdict = isolate(run_check, *arguments, limit=10)
    assert verdict.status is Status.FAIL
    assert verdict.evidence == f"hung: no verdict within 10 s, called at {path}:5 in _forward"


def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    note = tmp_path / "child"
    code = f"""
import os, time
if os.fork() == 0:
    open({str(note)!r}, "w").write(str(os.getpid()))
    time.sleep(1000)
while not os.path.exists({str(note)!r}) or not os.path.getsize({str(note)!r}): pass
os._exit(1)
"""
    isolate(exec, code, limit=30)
    pid = int(note.read_text())
    for _ in range(1000):  # an orphan is reaped by its new parent, not by us
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        os.sched_yield()
    pytest.fail(f"process {pid} is still there")


def test_many_at_once_each_under_its_number() -> None:
    tasks = [Task(Verdict, (Status.PASS, str(i)), 30.0) for i in range(10)]
    tasks[3] = Task(os.abort, (), 30.0)
    found = {number: (verdict.status, verdict.evidence) for number, verdict, _ in run(tasks, 3)}
    assert sorted(found) == list(range(10))
    assert found.pop(3)[0] is Status.FAIL
    assert found == {i: (Status.PASS, str(i)) for i in range(10) if i != 3}


def test_stopping_early_ends_what_is_under_way() -> None:
    code = "import time; time.sleep(1000)"
    tasks = [Task(Verdict, (Status.PASS, ""), 30.0), Task(exec, (code,), 1000.0)]
    start = time.monotonic()
    for _ in run(tasks, 2):
        break
    assert time.monotonic() - start < 100


def test_modules_of_the_working_directory_are_not_the_servers(tmp_path: Path) -> None:
    script = tmp_path / "bin" / "script.py"
    script.parent.mkdir()
    script.write_text(
        "from cllm.harness import Verdict, isolation\n"
        "if __name__ == '__main__':\n"
        "    print(isolation.isolate(Verdict, 'pass', 'fine', limit=30).evidence)\n"
    )
    folder = tmp_path / "work" / "cllm"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, script], cwd=folder.parent, env=environment, capture_output=True, text=True
    )
    assert done.stdout == "fine\n", done.stderr


def test_an_answer_that_is_no_verdict_is_a_failure() -> None:
    verdict = isolate(dict, limit=30)  # type: ignore[arg-type]
    assert verdict.status is Status.FAIL
    assert isolate(exec, JUNK, limit=30).status is Status.FAIL
    assert isolate(Verdict, Status.PASS, "the next", limit=30).evidence == "the next"


def test_an_answer_that_never_ends_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Junk whose first bytes are read as the length of what follows."""
    monkeypatch.setattr(isolation, "END_SECONDS", 0.5)
    verdict = isolate(exec, f"{JUNK}\nimport signal; signal.pause()", limit=30)
    assert verdict.status is Status.FAIL
    assert verdict.evidence.startswith("crashed by SIGKILL")


def test_junk_does_not_reach_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(METHOD, raising=False)
    server = "import os; os.write(2, b'%d' % os.getppid()); os._exit(3)"
    before = isolate(exec, server, limit=30).evidence
    assert before.startswith("crashed with exit status 3, ")
    assert isolate(exec, JUNK, limit=30).status is Status.FAIL
    assert isolate(exec, server, limit=30).evidence == before


def test_a_task_that_ends_the_server_fails_and_the_next_one_has_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(METHOD, raising=False)
    for _ in range(5):
        code = "import os, signal; os.kill(os.getppid(), signal.SIGKILL)"
        assert isolate(exec, code, limit=30).status is Status.FAIL
        assert isolate(Verdict, Status.PASS, "the next", limit=30).evidence == "the next"


def test_a_server_on_its_way_out_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    started, refused = ForkServerProcess.start, [ConnectionRefusedError, BrokenPipeError, EOFError]

    def start(process: ForkServerProcess) -> None:
        if refused:
            raise refused.pop()
        started(process)

    monkeypatch.delenv(METHOD, raising=False)
    monkeypatch.setattr(ForkServerProcess, "start", start)
    assert isolate(Verdict, Status.PASS, "the next", limit=30).evidence == "the next"
    assert not refused


def test_what_is_printed_is_not_ours(capfd: pytest.CaptureFixture[str]) -> None:
    isolate(exec, "import os; print('noise'); os.system('echo noise')", limit=30)
    assert capfd.readouterr().out == ""


def test_a_verdict_too_long_to_read_is_cut() -> None:
    verdict = isolate(Verdict, Status.FAIL, "x" * 10**6, {"said": "y" * 10**6}, limit=30)
    assert len(verdict.evidence) < 10_000
    assert len(verdict.details["said"]) < 100_000
    assert len(isolate(exec, "raise ValueError('x' * 10**7)", limit=30).details["said"]) < 100_000


def test_orphans_end_with_it(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    code = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    with open({str(path)!r}, "w") as file:
        print(os.getpid(), file=file)
    time.sleep(1000)
while not os.path.exists({str(path)!r}) or not os.path.getsize({str(path)!r}):
    time.sleep(0.01)
"""
    isolate(exec, code + "time.sleep(1000)", limit=8)
    with contextlib.suppress(ProcessLookupError):  # it has ended
        handle = os.pidfd_open(int(path.read_text()))
        assert select.select([handle], [], [], 10.0)[0]  # it ends
        os.close(handle)
