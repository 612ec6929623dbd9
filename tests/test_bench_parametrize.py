"""Benchmarks as tests of pytest-benchmark: the same figures, and all that the history needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cllm.errors import CllmError
from cllm.harness import probe
from cllm.harness.bench.configurations import CONFIGURATIONS, read_configurations
from cllm.harness.bench.contest import Contest, Entry, Status
from cllm.harness.bench.parametrize import Clock, parametrize_with_benchmarks
from cllm.harness.bench.run import BLOCKS
from cllm.harness.bench.summary import summarize
from cllm.harness.bench.task import Kind, Task
from cllm.harness.bench.visit import first_results, visit
from cllm.harness.history.sources import read_runs
from cllm.harness.machine import fingerprint
from cllm.harness.peers import model

OWN = """
from pathlib import Path

from cllm.harness.bench.configurations import read_configurations
from cllm.harness.bench.parametrize import parametrize_with_benchmarks

OWN = read_configurations(Path("own.toml"))


@parametrize_with_benchmarks(["{model}"], configurations=OWN, threads=[1], seconds=1e-3)
def test_speed(benchmark, work):
    work(benchmark)
"""

SIZES = {
    "vocab_size": 7, "embed_dim": 4, "num_layers": 1, "num_heads": 2, "ff_dim": 3,
    "batch_size": 2, "seq_len": 5,
}  # fmt: skip

WRONG = """
from cllm.reference import Model as Reference


class Model(Reference):
    def step(self, tokens, targets, update):
        return 1.001 * super().step(tokens, targets, update)
"""

FAKED = """
import time

from cllm.harness.bench import parametrize
from tasks import Generating, Stepping, now

time.perf_counter = lambda: now[0]


def build(kind, workload, name, threads, dtype):
    return Stepping() if kind.is_training else Generating()


parametrize.build = build
parametrize.source_of = lambda name: None


@parametrize.parametrize_with_benchmarks(
    ["fake"], configurations=["small"], threads=[1], seconds=0.5
)
def test_speed(benchmark, work):
    work(benchmark)
"""

TASKS = """
import numpy as np

from cllm.harness.bench.task import Task

now = [0.0]


class Stepping(Task):
    per_call = 3

    def call(self):
        now[0] += 0.0625
        return np.ones(3)

    def values(self, output):
        return output


class Generating(Stepping):
    def begin(self):
        now[0] += 8.0

    def evidence(self, output):
        return np.ones(15 + 381)  # tokens and logits of small
"""


KEPT = "kept.json"


ALONE = {
    name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "TOX_"))
}
"""For a pytest inside of one: pytest-benchmark measures nothing where it finds pytest-xdist's."""


def run(folder: Path, text: str, *options: str) -> tuple[str, list[dict[str, Any]]]:
    """What pytest says of a file of tests, and the benchmarks of its JSON."""
    (folder / "test_mine.py").write_text(text)
    kept = folder / KEPT
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider",
            "--benchmark-only", "test_mine.py", *options,
        ],
        cwd=folder,
        env=ALONE,
        capture_output=True,
        text=True,
    )  # fmt: skip
    found = json.loads(kept.read_text())["benchmarks"] if kept.exists() else []
    return done.stdout + done.stderr, found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a file of configurations."""
    lines = [f"{name} = {size}" for name, size in SIZES.items()]
    lines += ["steps_at_once = 2", "generates = true"]
    (tmp_path / "own.toml").write_text("\n".join(["[mine]", *lines, ""]))
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "tasks.py").write_text(TASKS)
    return tmp_path


def test_every_kind_of_work_is_measured(folder: Path) -> None:
    said, found = run(folder, OWN.format(model="reference"), f"--benchmark-json={KEPT}")
    assert "4 passed" in said
    assert [each["extra_info"]["benchmark"] for each in found] == [f"mine {k}" for k in Kind]
    assert [each["group"] for each in found] == [f"mine {k}" for k in Kind]
    per_calls = [each["extra_info"]["per_call"] for each in found]
    assert per_calls == [1, 2, 4, 4]
    units = [each["extra_info"]["metric"] for each in found]
    assert units == ["steps/s", "steps/s", "tokens/s", "tokens/s"]
    for kind, each in zip(Kind, found, strict=True):
        info = each["extra_info"]
        assert (info["candidate"], info["threads"], info["level"]) == (
            "reference",
            1,
            probe.level(),
        )
        at_once = {"calls_at_once": 2} if kind is Kind.STEPS else {}
        assert info["configuration"] == SIZES | at_once
        assert info["machine"] == fingerprint() | {"load_average": info["machine"]["load_average"]}
        assert "commit" in info
        assert each["stats"]["rounds"] == BLOCKS


def test_the_history_keeps_it_with_what_cllm_bench_measures(folder: Path) -> None:
    """Both are of one series: that is decided by the names, the sizes and the machine."""
    _, found = run(folder, OWN.format(model="reference"), f"--benchmark-json={KEPT}")
    (kept,) = read_runs(folder / KEPT)
    (own,) = read_configurations(folder / "own.toml")
    for result, each, kind in zip(kept.results, found, Kind, strict=True):
        rate = each["extra_info"]["per_call"] / each["stats"]["median"]
        assert result.value == pytest.approx(rate)
        assert len(result.samples) == BLOCKS
        entry = Entry(model("reference", 1), is_peer=False, status=Status.RACED, rates=[1.0])
        contest = summarize(Contest(own, kind, [entry], {1: [1.0]}, [None]), 0)
        measured = {
            "created": "2026-03-01T12:00:00+00:00", "machine": fingerprint(), "commit": None,
            "probe": {"level": probe.level(), "fma": {}, "read": {}}, "contests": [contest],
            "memory": [], "imports": [], "operations": {"configuration": "mine", "rows": []},
            "missing_peers": [], "seconds": 1.0,
            "settings": {
                "models": ["reference"], "configurations": ["mine"], "threads": [1],
                "peers": False, "seconds": 0.2, "seed": 0,
            },
        }  # fmt: skip
        (folder / "performance.json").write_text(json.dumps(measured))
        (beside,) = read_runs(folder / "performance.json")
        assert kept.series(result) == beside.series(beside.results[0])


def test_the_speed_of_another_function_does_not_count(folder: Path) -> None:
    said, found = run(folder, OWN.format(model="wrong:Model"), "-k", "step-")
    assert "wrong:Model computes something else: the loss of step 1 is" in said
    assert "1 failed, 3 deselected" in said
    assert not found


def test_the_figures_are_those_of_cllm_bench(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, found = run(folder, FAKED, f"--benchmark-json={KEPT}")
    assert "4 passed" in said, said
    monkeypatch.syspath_prepend(folder)
    import tasks

    monkeypatch.setattr(time, "perf_counter", lambda: tasks.now[0])
    for kind, each in zip(Kind, found, strict=True):
        task = tasks.Stepping() if kind.is_training else tasks.Generating()
        rate = each["extra_info"]["per_call"] / each["stats"]["median"]
        assert rate == visit(task, 0.5) == 3 / 0.0625
        assert each["stats"]["iterations"] == 8  # a round is as long as a visit


def test_the_clock_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def pass_time() -> None:
        now[0] += 5.0

    clock = Clock()
    clock.stopped(pass_time)
    assert clock.now() == 1.0
    pass_time()
    clock.stopped(pass_time)
    assert clock.now() == 6.0


class Counted(Task):
    """A call gives its number; two to a call."""

    per_call = 2

    def __init__(self) -> None:
        self.calls = 0

    def call(self) -> Any:
        self.calls += 1
        return np.array([2.0 * self.calls - 1, 2.0 * self.calls])

    def values(self, output: Any) -> Any:
        return output


@pytest.mark.parametrize(
    ("kind", "results"), [(Kind.STEPS, [1.0, 2.0, 3.0]), (Kind.GREEDY, [1.0, 2.0])]
)
def test_the_first_results(kind: Kind, results: list[float]) -> None:
    told: list[int] = []
    task = Counted()
    assert first_results(task, kind, lambda: told.append(task.calls)) == results
    assert told == [1, 2][: len(results) // 2 + len(results) % 2]


@pytest.mark.parametrize(("seconds", "calls"), [(0.25, 1), (10.0, 1 + 8 + 40)])
def test_a_visit_is_as_long_as_asked(
    seconds: float, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Counted()
    monkeypatch.setattr(time, "perf_counter", lambda: 0.25 * task.calls)
    assert visit(task, seconds) == 8.0
    assert task.calls == calls


def works(**options: Any) -> list[Any]:
    mark: Callable[..., Any] = parametrize_with_benchmarks(["optimized"], **options)
    return [parameter.values[0] for parameter in mark.args[1]]  # type: ignore[attr-defined]


def test_what_is_parametrized() -> None:
    some = works(configurations=["tiny", "small"], threads=[2, 1, 2])
    assert [work.threads for work in some] == [1, 2] * 6
    assert [work.name for work in some[::2]] == [
        *("tiny step", "tiny steps"),
        *("small step", "small steps", "small greedy", "small sampled"),
    ]
    assert {work.configuration for work in works()} == set(CONFIGURATIONS.values())
    with pytest.raises(CllmError, match=r"configuration must be one of tiny, .*: got 'huge'"):
        works(configurations=["huge"])


def test_the_suite_that_ships(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider",
            "--pyargs", "cllm.harness.bench.suite",
        ],
        cwd=tmp_path, env=ALONE, capture_output=True, text=True,
    )  # fmt: skip
    assert "test_speed[small step-optimized-1]" in done.stdout, done.stdout + done.stderr
