"""Files that runs come in: what each is read as, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm.errors import CllmError
from cllm.harness.compare.comparison import (
    Comparison,
    Entry,
    Instructions,
    Interval,
    Outcome,
    Side,
)
from cllm.harness.history import document, pytest_benchmark
from cllm.harness.history.record import Better, Commit, Result, Run
from cllm.harness.history.sources import read_runs

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
COMMIT = Commit("a1b2c3", NOON, "A change", "main", True)
MACHINE = {"cpu": "Fast 9000", "architecture": "x86_64", "cores": 8, "usable_cores": 8}
SIZES = {"vocab_size": 11, "embed_dim": 4, "num_layers": 1, "num_heads": 2, "ff_dim": 3}
BATCH = {"batch_size": 2, "seq_len": 5}

BENCHMARKS = """
def test_plain(benchmark):
    benchmark.pedantic(sum, ([1, 2],), rounds=5, iterations=10)


def test_described(benchmark):
    benchmark.extra_info.update(
        benchmark="small step", candidate="mine", metric="steps/s", per_call=4, threads=2,
        level="avx2", configuration={"V": 3}, machine=%r, commit=%r,
    )
    benchmark.pedantic(sum, ([1, 2],), rounds=3)
"""

RUN = Run(
    "one",
    NOON,
    "bench",
    MACHINE,
    "avx2",
    (
        Result("small step", "optimized", "steps/s", 3.0, 2, samples=(2.0, 3.0, 7.0), share=0.5),
        Result("import", "optimized", "s", 0.25, better=Better.LOWER, configuration=SIZES),
        Result("small memory", "optimized", "bytes", 512.0, better=Better.LOWER),
    ),
    COMMIT,
)


def save(folder: Path, content: Any) -> Path:
    path = folder / "file.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def performance() -> dict[str, Any]:
    """What `cllm bench` writes, of two contests; one peer was raced, one tried alone."""

    def entry(library: str, status: str, rates: list[float | None], **more: Any) -> dict[str, Any]:
        found = [rate for rate in rates if rate is not None]
        return {
            "name": library, "is_peer": False, "reason": "", "versus": {},
            "library": library, "variant": "", "threads": 1, "status": status, "rates": rates,
            "rate": median(found) if found else 5.0, "mfu": None, "build_seconds": None, **more,
        }  # fmt: skip

    entries = [
        entry("optimized", "raced", [30.0, 10.0, 20.0], mfu=0.4, build_seconds=0.5),
        entry("JAX", "raced", [3.0, None, 1.0], variant="jit", threads=2),
        entry("PyTorch", "tried", []),
    ]
    generation = entry("optimized", "raced", [8.0], mbu=0.3, threads=2)
    contest = {
        "configuration": "little", "sizes": SIZES, **BATCH, "calls_at_once": 16, "best_peer": None,
    }  # fmt: skip
    return {
        "created": NOON.isoformat(),
        "commit": {"sha": "a1b2c3", "time": NOON.isoformat(), "subject": "A change",
                   "branch": "main", "dirty": True},
        "machine": MACHINE,
        "settings": {"models": ["optimized"], "configurations": ["little"], "threads": [1, 2],
                     "peers": True, "seconds": 0.1, "seed": 0},
        "missing_peers": [],
        "seconds": 60.0,
        "probe": {"level": "avx2", "fma": {}, "read": {}},
        "contests": [
            {**contest, "kind": "steps", "entries": entries},
            {**contest, "kind": "greedy", "entries": [generation]},
        ],
        "operations": {
            "configuration": "little",
            "rows": [{"function": "linear_forward", "without": ["bias"],
                      "optimized_seconds": 1e-6, "reference_seconds": 4e-6, "ratio": 4.0}],
        },
        "memory": [{"model": "optimized", "configuration": "little", "threads": 1,
                    "parameter_bytes": 100, "planned_bytes": 1000, "grown_bytes": 3000}],
        "imports": [{"model": "optimized", "module": "m", "seconds": 0.1, "numpy_seconds": 0.06}],
    }  # fmt: skip


def test_performance(tmp_path: Path) -> None:
    path = save(tmp_path, performance())
    (run,) = read_runs(path)
    assert read_runs(path) == [run]
    assert (run.created, run.source, run.level, run.machine, run.commit) == (
        NOON, "bench", "avx2", MACHINE, COMMIT,
    )  # fmt: skip
    steps = {**SIZES, **BATCH, "calls_at_once": 16}
    sizes = {**SIZES, **BATCH}
    low = Better.LOWER
    assert run.results == (
        Result("little steps", "optimized", "steps/s", 20.0, 1, Better.HIGHER,
               (30.0, 10.0, 20.0), 0.4, steps),
        Result("little steps, until the first result", "optimized", "s", 0.5, 1, low,
               configuration=steps),
        Result("little steps", "JAX jit", "steps/s", 2.0, 2, samples=(3.0, 1.0),
               configuration=steps),
        Result("little greedy", "optimized", "tokens/s", 8.0, 2, Better.HIGHER, (8.0,), 0.3, sizes),
        Result("little linear_forward without bias", "optimized", "s", 1e-6, 1, low,
               configuration=sizes),
        Result("little linear_forward without bias", "reference", "s", 4e-6, 1, low,
               configuration=sizes),
        Result("little planned memory", "optimized", "bytes", 1000, 1, low, configuration=sizes),
        Result("little memory", "optimized", "bytes", 3000, 1, low, configuration=sizes),
        Result("import", "optimized", "s", 0.1, 1, low),
    )  # fmt: skip


def compared(kind: str, commit: Commit | None) -> Comparison:
    told = {**dataclasses.asdict(commit), "time": commit.time.isoformat()} if commit else None
    entry = Entry(
        "little step, 2 threads", "little", "step", 2, "steps/s", Outcome.SAME, "", SIZES,
        ratio=Interval(1.0, 0.9, 1.1), base=(1.0, 2.0), base_again=(6.0, 7.0), head=(3.0, 5.0),
        head_again=(4.0, 7.0), peaks=(100.0, 40.0, 80.0), flops=10,
        instructions=Instructions(1000, 1100, 1.1, "more"),
    )  # fmt: skip
    broken = Entry("x", "x", "step", 1, "steps/s", Outcome.INCONCLUSIVE, "crashed")
    return Comparison(
        NOON.isoformat(), Side("main", "revision", "1", told), Side("new", kind, "2", told),
        (entry, broken), MACHINE, "avx2", {"candidate": "optimized"}, 60.0,
        {"level": "avx2", "fma": {}, "read": {}},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "commit", "candidate"),
    [
        ("revision", COMMIT, "optimized"),
        ("wheel", None, "new"),
        ("candidate", COMMIT, "new"),
    ],
)
def test_comparison(tmp_path: Path, kind: str, commit: Commit | None, candidate: str) -> None:
    base, head = read_runs(save(tmp_path, compared(kind, commit).to_dict()))
    assert base.id != head.id
    assert (head.created, head.source, head.commit) == (NOON, "compare", commit)
    assert [result.samples for result in base.results] == [(1.0, 2.0, 6.0, 7.0), ()]
    assert head.results == (
        Result("little step, compared", candidate, "steps/s", 4.5, 2, Better.HIGHER,
               (3.0, 5.0, 4.0, 7.0), 0.45, SIZES),
        Result("little step", candidate, "instructions", 1100, better=Better.LOWER,
               configuration=SIZES),
    )  # fmt: skip


def measured(folder: Path, *options: str) -> Path:
    """What pytest-benchmark itself writes."""
    commit = {**dataclasses.asdict(COMMIT), "time": NOON.isoformat()}
    (folder / "test_it.py").write_text(BENCHMARKS % (MACHINE, commit))
    path = folder / "out.json"
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    # pytest-benchmark measures nothing where it finds pytest-xdist's variables
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [*command, "--rootdir=.", "test_it.py", f"--benchmark-json={path}", *options],
        env=kept,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return path


def test_pytest_benchmark(tmp_path: Path) -> None:
    path = measured(tmp_path)
    plain, described = read_runs(path)
    assert plain.id != described.id
    found = json.loads(path.read_text())
    first, second = (each["stats"]["data"] for each in found["benchmarks"])
    assert plain.results == (
        Result("test_it.py::test_plain", tmp_path.name, "s", median(first), 1, Better.LOWER,
               tuple(first)),
    )  # fmt: skip
    rates = tuple(4 / seconds for seconds in second)
    assert described.results == (
        Result("small step", "mine", "steps/s", 4 / median(second), 2, Better.HIGHER, rates, None,
               {"V": 3}),
    )  # fmt: skip
    assert (described.machine, described.level, described.commit) == (MACHINE, "avx2", COMMIT)
    assert plain.commit is None
    assert plain.created == described.created == datetime.fromisoformat(found["datetime"])
    assert plain.machine["cpu"] == found["machine_info"]["cpu"]["brand_raw"]
    assert plain.machine["machine_info"] == found["machine_info"]
    assert plain.results[0].value < 1


def test_pytest_benchmark_of_a_repository(tmp_path: Path) -> None:
    found = json.loads(measured(tmp_path, "-k", "plain").read_text())
    found["commit_info"] |= {
        "id": "f0e1", "time": "2025-01-01T10:00:00+02:00", "branch": "(detached head)",
    }  # fmt: skip
    found["datetime"] = "2025-01-02T00:00:00"  # as older versions wrote it
    for each in found["benchmarks"]:
        del each["stats"]["data"]
        each["stats"]["median"] = 0.5
        each["params"] = {"size": 3}
    (run,) = read_runs(save(tmp_path, found))
    assert run.created == datetime(2025, 1, 2, tzinfo=UTC)
    assert run.commit == Commit("f0e1", datetime(2025, 1, 1, 8, tzinfo=UTC))
    (result,) = run.results
    assert (result.value, result.samples, result.configuration) == (0.5, (), {"size": 3})


def test_what_is_written_for_pytest_benchmark_is_read_by_it(tmp_path: Path) -> None:
    path = save(tmp_path, pytest_benchmark.write(RUN))
    assert read_runs(path) == [RUN]
    command = "from pytest_benchmark.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", command, "compare", str(path), "--csv=out.csv"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "out.csv").read_text().splitlines()
    head, *others = (row.split(",") for row in rows)
    found = {row[0]: row[head.index("median")] for row in others}
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {"small step[optimized-2]": 1 / 3, "import[optimized-1]": 0.25}
    )


def test_a_run_without_times_is_not_for_pytest_benchmark() -> None:
    run = dataclasses.replace(RUN, results=RUN.results[2:])
    with pytest.raises(CllmError, match="run one has neither times nor rates"):
        pytest_benchmark.write(run)


values = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=30)
@given(st.text(), st.lists(values, min_size=1, max_size=4), st.none() | st.just(COMMIT))
def test_a_run_is_the_same_after_json(id: str, samples: list[float], commit: Commit | None) -> None:
    results = (
        Result("b\n", "c", "s", samples[0], 3, Better.LOWER, tuple(samples), samples[0], SIZES),
    )
    run = Run(id, NOON, "bench", MACHINE, "avx2", results, commit)
    assert document.from_dict(json.loads(json.dumps(document.to_dict(run)))) == run


def test_lines(tmp_path: Path) -> None:
    others = [dataclasses.replace(RUN, id=str(n), commit=None) for n in range(3)]
    lines = [json.dumps(document.to_dict(run)) for run in (RUN, *others)]
    assert read_runs(save(tmp_path, "\n".join(lines))) == [RUN, *others]
    assert read_runs(save(tmp_path, lines[0])) == [RUN]
    with pytest.raises(CllmError, match=r"file\.json: line 3: not JSON: "):
        read_runs(save(tmp_path, "\n".join([*lines[:2], lines[2][:-9], lines[3]])))


def without(found: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != key}


def spoiled(**values: Any) -> dict[str, Any]:
    """A run with other values in its first result."""
    found = json.loads(json.dumps(document.to_dict(RUN)))
    found["results"][0] |= values
    return found


def timed(seconds: float) -> dict[str, Any]:
    """As pytest-benchmark writes it."""
    stats = {"data": [1.0, seconds], "median": 1.0}
    return {
        "datetime": NOON.isoformat(), "machine_info": {}, "commit_info": {},
        "benchmarks": [{"fullname": "test_it", "extra_info": {}, "stats": stats}],
    }  # fmt: skip


def rated(rate: float) -> dict[str, Any]:
    found = compared("wheel", None).to_dict()
    found["entries"][0]["head_again"] = [rate]
    return found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON: "),
        ("<html>", "not JSON: "),
        ("[1, 2]", "must hold performance.json .*: it is no JSON object"),
        ({"version": 1}, "no results: must be performance.json of `cllm bench`"),
        (without(performance(), "created"), "does not say when it was measured"),
        (without(performance(), "memory"), "'memory' is a required property"),
        (
            compared("wheel", None).to_dict() | {"version": 9},
            "a comparison of version 9, must be 1",
        ),
        (document.to_dict(RUN) | {"version": 9}, "a run of version 9: must be 1"),
        (
            document.to_dict(RUN) | {"results": [{"value": "x"}]},
            r"results\[0\] is .*'benchmark' is a",
        ),
        (without(document.to_dict(RUN), "machine"), "'machine' is a required property"),
        (document.to_dict(RUN) | {"commit": {"sha": "a"}}, "'time' is a required property"),
        (document.to_dict(RUN) | {"created": "noon"}, "time 'noon': must be ISO 8601"),
        (spoiled(value=-3.0), "small step of optimized: -3 steps/s, must lie between 1e-50 and"),
        (
            spoiled(samples=[1.0, 0.0]),
            "small step of optimized: 0 steps/s, must lie between 1e-50 and",
        ),
        (spoiled(value="3"), 'value is "3": must be a number'),
        (spoiled(threads="2"), 'threads is "2": must be an integer'),
        (spoiled(threads=0), "threads is 0"),
        (spoiled(candidate=3), "candidate is 3: must be a string"),
        (spoiled(value=math.nan), "NaN is no number of JSON"),
        (spoiled(value=1e200), "1e.200 steps/s, must lie between 1e-50 and 1e.50"),
        (spoiled(value=10**400), "not understood .OverflowError"),
        (spoiled(share=-0.5), "a share of -0.5, must be positive"),
        ({"benchmarks": [{}], "datetime": "2025-01-01"}, "'machine_info' is a required property"),
        (timed(0.0), r"benchmarks\[0\].stats.data\[1\] is 0.0: 0.0 is less than or equal"),
        (timed(1.0) | {"benchmarks": []}, "benchmarks is "),
        (timed(1.0) | {"datetime": "today"}, "time 'today': must be ISO 8601"),
        (performance() | {"contests": []}, "contests is "),
        (compared("wheel", None).to_dict() | {"entries": []}, "a comparison without a benchmark"),
        (compared("revision", COMMIT).to_dict() | {"settings": {}}, "settings do not say which"),
        (rated(-1.0), "a rate in head_again is not positive"),
        (rated(math.inf), "Infinity is no number of JSON"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = save(tmp_path, content)
    with pytest.raises(CllmError, match=message) as caught:
        read_runs(path)
    assert str(caught.value).startswith(f"{path}:")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CllmError, match="not JSON"):
        read_runs(path)
