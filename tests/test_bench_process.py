"""Workers: their protocol, and what is said of those that crash, hang or fail."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from cllm.harness.bench.configurations import CONFIGURATIONS
from cllm.harness.bench.contest import build
from cllm.harness.bench.process import Worker, WorkerFailed
from cllm.harness.bench.task import Kind
from cllm.harness.peers import model

LIMIT = 60.0


def script(code: str) -> Worker:
    return Worker.start({}, ("-c", code))


def test_a_model_is_built_and_visited() -> None:
    with Worker.start({}) as worker:
        tiny = CONFIGURATIONS["tiny"]
        built = build(worker, model("reference", 1), tiny, Kind.STEP, 0)
        assert len(built["results"]) == 3
        assert worker.ask("visit", LIMIT, seconds=0.001)["rate"] > 0


def test_the_first_losses_do_not_depend_on_how_many_steps_a_call_takes() -> None:
    results = []
    for kind in (Kind.STEP, Kind.STEPS):
        with Worker.start({}) as worker:
            tiny = CONFIGURATIONS["tiny"]
            results.append(build(worker, model("reference", 1), tiny, kind, 3)["results"])
    assert results[0] == results[1]


def test_the_optimized_model_has_its_own_number_of_threads() -> None:
    """Whatever OpenMP is told."""
    for told, threads in (("1", 3), ("3", 1)):
        with Worker.start({"OMP_NUM_THREADS": told, "OPENBLAS_NUM_THREADS": "1"}) as worker:
            small = CONFIGURATIONS["small"]
            build(worker, model("optimized", threads), small, Kind.STEP, 0)
            assert len([*Path(f"/proc/{worker.pid}/task").iterdir()]) == threads


def test_a_visit_needs_a_task() -> None:
    with (
        Worker.start({}) as worker,
        pytest.raises(WorkerFailed, match="RuntimeError: build comes first"),
    ):
        worker.ask("visit", LIMIT, seconds=0.001)


def test_a_worker_goes_on_after_an_error() -> None:
    with Worker.start({}) as worker:
        for _ in range(2):
            with pytest.raises(WorkerFailed, match="KeyError: 'nothing'"):
                worker.ask("nothing", LIMIT)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("input(); raise SystemExit('out of luck')", "crashed with exit status 1: out of luck"),
        ("input(); import os; os.abort()", "crashed by SIGABRT"),
        ("pass", "crashed with exit status 0"),
    ],
)
def test_how_a_crash_ended_is_said(code: str, said: str) -> None:
    with script(code) as worker, pytest.raises(WorkerFailed) as caught:
        worker.ask("visit", LIMIT)
    assert str(caught.value) == said


def test_a_worker_that_hangs_is_ended() -> None:
    with script("import signal; signal.pause()") as worker:
        with pytest.raises(WorkerFailed, match="hung: no answer within 0 s"):
            worker.ask("visit", 0.05)
        assert worker.returncode is not None


def test_what_a_worker_started_ends_with_it() -> None:
    code = (
        "import subprocess, sys; input();"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']);"
        "print('{\"pid\": %d}' % child.pid, flush=True); input()"
    )
    with script(code) as worker:
        child = os.pidfd_open(worker.ask("who", LIMIT)["pid"])
    ended, _, _ = select.select([child], [], [], LIMIT)
    os.close(child)
    assert ended


def test_what_is_printed_does_not_get_in_between(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(
        "import os\nfrom cllm.harness.peers.models import build as quiet\n\n"
        "def build(kind, workload, **options):\n"
        "    print('hello')\n    os.system('echo and hello again')\n"
        "    return quiet(kind, workload, **options)\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    with Worker.start({"PYTHONPATH": path}) as worker:
        assert worker.ask(
            "build",
            LIMIT,
            module="loud",
            kind="step",
            sizes=[5, 4, 1, 1, 3],
            batch=[1, 2],
            seed=0,
            calls_at_once=1,
            options={"name": "reference", "threads": 1},
        )["results"]


def test_a_worker_ends_when_its_input_does() -> None:
    command = [sys.executable, "-P", "-m", "cllm.harness.bench.worker"]
    assert (
        subprocess.run(command, input="", text=True, check=True, capture_output=True).stdout == ""
    )
