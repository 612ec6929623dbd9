"""The processes of a round: forked from one interpreter or not, placed, ended, lost."""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import sys
import sysconfig
import venv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cllm.harness.bench.process import Worker, WorkerFailed
from cllm.harness.compare import process
from cllm.harness.compare.process import SHIFTS, ForkServer, Launch, sharing

LIMIT = 60.0

TELL = """
import json, os, subprocess, sys
from pathlib import Path
import numpy

PREFIX = "import sys; print(sys.prefix)"

kept = bytearray(2000)
told = {
    "parent": os.getppid(),
    "group": os.getpgid(0),
    "numpy": numpy.__file__,
    "variables": [os.environ.get(name) for name in ("ONE", "OTHER", "OMP_PLACES")],
    "heap": id(kept),
    "mapped": numpy.empty(1 << 26).ctypes.data,
    "side": __file__,
    "prefix": sys.prefix,
    "subprocess": subprocess.check_output([sys.executable, "-c", PREFIX], text=True).strip(),
}
Path(os.environ["TOLD"], str(os.getpid())).write_text(json.dumps(told))
"""


@pytest.fixture
def base(tmp_path: Path) -> Launch:
    return side(tmp_path, "base", TELL)


def side(folder: Path, name: str, code: str, **environment: str) -> Launch:
    """A launch whose candidate is a module that runs the code; it lies in a folder of its own."""
    place = folder / name
    place.mkdir(exist_ok=True)
    (place / "side.py").write_text(f"from cllm.reference import Model\n{code}")
    path = os.pathsep.join([str(place), *filter(None, [os.environ.get("PYTHONPATH")])])
    return Launch(
        "side:Model", sys.executable, {"PYTHONPATH": path, "TOLD": str(folder), **environment}
    )


def fork(server: ForkServer, launch: Launch, seed: int = 0) -> Worker:
    return server.fork(launch, {"OMP_PLACES": "{0}"}, np.random.default_rng(seed))


def import_side(worker: Worker, launch: Launch) -> dict[str, Any]:
    """What the process tells when it has imported the candidate."""
    worker.ask("import_candidate", LIMIT, candidate=launch.candidate)
    told: dict[str, Any] = json.loads(Path(launch.environment["TOLD"], str(worker.pid)).read_text())
    return told


def test_both_sides_are_forked_from_one_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER", "the user's")
    sides = sharing(side(tmp_path, "base", TELL, OTHER="1"), side(tmp_path, "head", TELL, ONE="2"))
    assert all(side.interpreter for side in sides)
    expected = ("base", [None, "1", "{0}"]), ("head", ["2", "the user's", "{0}"])
    parents = []
    with ForkServer(sides[0], {}) as server:
        for launch, (place, variables) in zip(sides, expected, strict=True):
            with fork(server, launch) as worker:
                told = import_side(worker, launch)
                assert told["side"] == str(tmp_path / place / "side.py")
                assert told["variables"] == variables
                assert told["group"] == worker.pid
                parents.append(told["parent"])
    assert parents[0] == parents[1]


def test_a_side_in_an_environment_of_its_own_is_told_of_that(tmp_path: Path, base: Launch) -> None:
    venv.create(tmp_path / "environment", symlinks=True)
    (packages,) = (tmp_path / "environment/lib").glob("python*/site-packages")
    paths = [sysconfig.get_path("purelib"), *filter(None, [os.environ.get("PYTHONPATH")])]
    (packages / "rest.pth").write_text(
        "".join(f"import site; site.addsitedir({p!r})\n" for p in paths)
    )
    head = replace(side(tmp_path, "head", TELL), python=str(tmp_path / "environment/bin/python"))
    sides = sharing(base, head)
    assert all(side.interpreter for side in sides)
    with ForkServer(sides[0], {}) as server, fork(server, sides[1]) as worker:
        told = import_side(worker, sides[1])
        assert told["prefix"] == told["subprocess"] == str(tmp_path / "environment")


def test_another_numpy_needs_another_interpreter(tmp_path: Path, base: Launch) -> None:
    """As one that is installed in one of two virtual environments."""
    head = side(tmp_path, "head", TELL)
    (tmp_path / "head/numpy").symlink_to(Path(np.__file__).parent)
    assert sharing(base, head) == (base, head)
    with ForkServer(head, {}) as own, fork(own, head) as worker:
        assert import_side(worker, head)["numpy"] == str(tmp_path / "head/numpy/__init__.py")


def test_a_side_without_an_interpreter_has_none_in_common(base: Launch) -> None:
    broken = Launch("side:Model", "/bin/false")
    assert sharing(base, broken) == (base, broken)
    with ForkServer(broken, {}) as own, pytest.raises(WorkerFailed) as caught:
        fork(own, broken)
    assert str(caught.value) == "crashed with exit status 1"


def test_what_a_side_loads_when_it_starts_needs_another_interpreter(
    tmp_path: Path, base: Launch
) -> None:
    head = side(tmp_path, "head", TELL)
    assert sharing(base, head) != (base, head)
    (tmp_path / "head/usercustomize.py").write_text("")
    (tmp_path / "head/sitecustomize.py").write_text("")
    assert sharing(base, head) == (base, head)


def test_openmp_has_read_its_variables_where_it_is_loaded(tmp_path: Path, base: Launch) -> None:
    """As by a BLAS that uses it: such an interpreter cannot be told other CPUs any more."""
    head = side(tmp_path, "head", TELL)
    compiled = importlib.import_module("cllm.optimized.region").__file__
    library = f"import ctypes; ctypes.CDLL({compiled!r})"
    for launch in (base, head):
        Path(launch.environment["PYTHONPATH"].split(os.pathsep)[0], "sitecustomize.py").write_text(
            library
        )
    assert sharing(base, head) == (base, head)


def test_an_interpreter_that_is_not_there_is_said(base: Launch) -> None:
    missing = replace(base, python="/not/there")
    assert sharing(base, missing) == (base, missing)
    with pytest.raises(WorkerFailed, match=r"cannot be started: .*/not/there"):
        ForkServer(missing, {})


def test_an_interrupt_does_not_mix_replies_up(base: Launch) -> None:
    """What answers it is not taken for the answer to the next request."""
    with ForkServer(base, {}) as server:
        worker = fork(server, base)
        end = os.pidfd_open(worker.pid)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket, "send_fds", interrupted)
            with pytest.raises(KeyboardInterrupt):
                fork(server, base)
        worker.close()
        assert worker.returncode == -signal.SIGKILL
        with pytest.raises(WorkerFailed, match="crashed by SIGKILL"):
            fork(server, base)
    assert select.select([end], [], [], LIMIT)[0]
    os.close(end)


def interrupted(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_where_a_process_lies_is_drawn(base: Launch) -> None:
    with ForkServer(base, {}) as server:
        told = []
        for seed in range(6):
            with fork(server, base, seed) as worker:
                told.append(import_side(worker, base))
        for place in ("heap", "mapped"):
            assert len({each[place] for each in told}) > 1


@pytest.mark.parametrize("name", SHIFTS)
def test_the_smallest_and_the_largest_shift_work(
    base: Launch, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    low, high = SHIFTS[name]
    with ForkServer(base, {}) as server:
        for only in (low, high - 1):
            monkeypatch.setitem(SHIFTS, name, (only, only + 1))
            with fork(server, base) as worker:
                assert import_side(worker, base)["group"] == worker.pid


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.abort()", "crashed by SIGABRT"),
        ("import os; os._exit(3)", "crashed with exit status 3"),
        ("raise KeyboardInterrupt('now')", "crashed with exit status 1: KeyboardInterrupt: now"),
        ("import os; os.write(2, b'out of luck'); os._exit(3)", "with exit status 3: out of luck"),
    ],
)
def test_how_a_process_ended_is_said(tmp_path: Path, code: str, said: str) -> None:
    launch = side(tmp_path, "base", code)
    with ForkServer(launch, {}) as server, fork(server, launch) as worker:
        with pytest.raises(WorkerFailed, match=f"{said}$"):
            worker.ask("import_candidate", LIMIT, candidate="side:Model")
        with fork(server, launch) as another:  # the server goes on
            assert another.returncode is None


def waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def test_a_process_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    code = (
        "import os, signal, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "with open(os.environ['TOLD'] + '/child', 'w') as pipe: pipe.write(str(child.pid))\n"
        "signal.pause()"
    )
    launch, told = side(tmp_path, "base", code), tmp_path / "child"
    os.mkfifo(told)
    with ForkServer(launch, {}) as server, fork(server, launch) as worker:
        worker.send("import_candidate", candidate="side:Model")
        with open(told, opener=waiting) as pipe:
            assert select.select([pipe], [], [], LIMIT)[0]
            child = os.pidfd_open(int(pipe.read()))
        with pytest.raises(WorkerFailed, match="hung: no answer within 0 s"):
            worker.receive(0.0)
        assert worker.returncode == -signal.SIGKILL
        assert select.select([child], [], [], LIMIT)[0]
        os.close(child)


def test_nothing_outlives_the_context(base: Launch) -> None:
    with ForkServer(base, {}) as server:
        worker = fork(server, base)
        ends = [os.pidfd_open(pid) for pid in (worker.pid, import_side(worker, base)["parent"])]
        worker.close()
    for end in ends:
        assert select.select([end], [], [], LIMIT)[0]
        os.close(end)


def test_a_server_that_is_lost_is_said_and_leaves_no_process(base: Launch) -> None:
    with ForkServer(base, {}) as server:
        with fork(server, base) as worker:
            end = os.pidfd_open(worker.pid)
            os.kill(import_side(worker, base)["parent"], signal.SIGKILL)
            with pytest.raises(WorkerFailed, match=r"^crashed by SIGKILL$"):
                fork(server, base)
            assert worker.returncode == -signal.SIGKILL
        assert select.select([end], [], [], LIMIT)[0]
        os.close(end)


def test_a_server_that_hangs_is_ended(base: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_LIMIT", 1e-6)
    with (
        ForkServer(base, {}) as server,
        pytest.raises(WorkerFailed, match="hung: no process within"),
    ):
        fork(server, base)


def test_warnings_that_are_errors_and_threads_of_blas_do_not_keep_it_from_forking(
    tmp_path: Path,
) -> None:
    """Python 3.12 and later warn of forks where there are threads."""
    launch = side(tmp_path, "base", TELL, PYTHONWARNINGS="error", OPENBLAS_NUM_THREADS="2")
    with ForkServer(launch, {}) as server, fork(server, launch) as worker:
        assert import_side(worker, launch)["group"] == worker.pid


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_a_process_has_all_threads_of_blas(tmp_path: Path) -> None:
    product = (
        "import os, numpy\n"
        "a = numpy.ones((600, 600))\n"
        "for _ in range(3): a @ a\n"
        "threads = len(os.listdir('/proc/self/task'))\n"
        "open(os.environ['TOLD'] + f'/{os.getpid()}', 'w').write(str(threads))"
    )
    launch = side(tmp_path, "base", product, OPENBLAS_NUM_THREADS="2")
    with ForkServer(launch, {}) as server, fork(server, launch) as worker:
        worker.ask("import_candidate", LIMIT, candidate=launch.candidate)
        assert (tmp_path / str(worker.pid)).read_text() == "2"
