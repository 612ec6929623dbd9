"""The JSON of pytest-benchmark (https://pytest-benchmark.readthedocs.io).

Promises: rounds become samples; where `extra_info` says so (`cllm.harness.bench.parametrize`),
their seconds become rates of a candidate with its threads, sizes and commit. What is written here
is read by `pytest-benchmark compare`, and comes back here as it was.
Leaves out: on writing, figures that are no time, for which pytest-benchmark has no unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from statistics import median
from typing import Any

from cllm.errors import CllmError
from cllm.harness.history import document
from cllm.harness.history.record import Better, Commit, Result, Run, digest

SOURCE = "pytest-benchmark"
SECONDS = "s"
PER_SECOND = "/s"

OURS = "cllm_run"
"""The key of the run that a document was written from."""

PROJECT = "pytest"
"""The candidate where neither `extra_info` nor the project says one."""


def read(found: Mapping[str, Any], id: str) -> list[Run]:
    """The runs of a document: one for each machine, level and commit, mostly one alone.

    Raises `KeyError`, `TypeError` or `ValueError` where something is missing or of another type.
    """
    if OURS in found:
        return [document.from_dict(found[OURS])]
    created = document.time_of(found["datetime"])
    if created.tzinfo is None:  # as pytest-benchmark wrote it until version 5
        created = created.replace(tzinfo=UTC)
    parts: dict[tuple[str, str, Commit | None], list[Mapping[str, Any]]] = {}
    machines: dict[str, Mapping[str, Any]] = {}
    for each in found["benchmarks"]:
        extra = each["extra_info"]
        machine = extra.get("machine") or _machine(found["machine_info"])
        own = Run("", created, SOURCE, machine, "", ()).machine_digest
        machines.setdefault(own, machine)
        commit = document.commit_from_dict(extra.get("commit")) or _commit(found["commit_info"])
        parts.setdefault((own, extra.get("level", ""), commit), []).append(each)
    project = found["commit_info"].get("project") or PROJECT
    return [
        Run(
            f"{SOURCE}-{id}-{number}",
            created,
            SOURCE,
            machines[own],
            level,
            tuple(_result(each, project) for each in own_benchmarks),
            commit,
        )
        for number, ((own, level, commit), own_benchmarks) in enumerate(parts.items())
    ]


def _result(found: Mapping[str, Any], project: str) -> Result:
    """Seconds of a round's iteration, or what is done in a second."""
    extra, stats = found["extra_info"], found["stats"]
    seconds = tuple(stats.get("data") or ())
    value = median(seconds) if seconds else stats["median"]
    metric = extra.get("metric", SECONDS)
    is_rate = metric.endswith(PER_SECOND)
    if is_rate:
        value = extra["per_call"] / value
        seconds = tuple(extra["per_call"] / second for second in seconds)
    return Result(
        extra.get("benchmark", found["fullname"]),
        extra.get("candidate", project),
        metric if is_rate else SECONDS,
        value,
        extra.get("threads", 1),
        Better.HIGHER if is_rate else Better.LOWER,
        seconds,
        configuration=extra.get("configuration") or found.get("params") or {},
    )


def _machine(info: Mapping[str, Any]) -> dict[str, Any]:
    """As far as it can be told, what `cllm.harness.machine.fingerprint` says of the machine."""
    cpu = info.get("cpu", {})
    return {
        "cpu": cpu.get("brand_raw") or info.get("processor") or info.get("machine"),
        "architecture": info.get("machine"),
        "cores": cpu.get("count"),
        "usable_cores": cpu.get("count"),  # it does not say
        "system": f"{info.get('system')} {info.get('release')}",
        "python": f"{info.get('python_implementation')} {info.get('python_version')}",
        "machine_info": dict(info),
    }


def _commit(info: Mapping[str, Any]) -> Commit | None:
    """None outside a repository, which has no time."""
    if not info.get("time"):
        return None
    branch = info.get("branch", "")
    return Commit(
        info["id"],
        document.time_of(info["time"]),
        branch="" if branch.startswith("(") else branch,
        dirty=info.get("dirty", False),
    )


def write(run: Run) -> dict[str, Any]:
    """The document of a run.

    Raises `CllmError` where none of its results is a time or a rate, and where pytest-benchmark,
    which computes the statistics, is not installed.
    """
    benchmarks = [_benchmark(result, run) for result in run.results if _is_time(result)]
    if not benchmarks:
        raise CllmError(f"run {run.id} has neither times nor rates for {SOURCE}")
    commit = run.commit
    return {
        "machine_info": run.machine.get("machine_info") or _info(run.machine),
        "commit_info": {
            "id": commit.sha if commit else "unversioned",
            "time": commit.time.isoformat() if commit else None,
            "dirty": commit.dirty if commit else False,
            "branch": commit.branch if commit else "",
        },
        "benchmarks": benchmarks,
        "datetime": run.created.isoformat(),
        "version": "",
        OURS: document.to_dict(run),
    }


def _is_time(result: Result) -> bool:
    is_known = result.metric == SECONDS or result.metric.endswith(PER_SECOND)
    return is_known and min((result.value, *result.samples)) > 0


def _benchmark(result: Result, run: Run) -> dict[str, Any]:
    try:
        from pytest_benchmark.stats import Stats
    except ModuleNotFoundError as error:
        raise CllmError("export needs pytest-benchmark: pip install 'cllm[speed]'") from error
    stats: Any = Stats()  # type: ignore[no-untyped-call]
    for sample in result.samples or (result.value,):
        stats.update(sample if result.metric == SECONDS else 1 / sample)
    name = f"{result.benchmark}[{result.candidate}-{result.threads}]"
    return {
        "group": f"{result.benchmark} {digest(result.configuration)}",
        "name": name,
        "fullname": name,
        "params": None,
        "param": None,
        "extra_info": {
            "benchmark": result.benchmark,
            "candidate": result.candidate,
            "metric": result.metric,
            "per_call": 1,
            "threads": result.threads,
            "level": run.level,
            "configuration": dict(result.configuration),
        },
        "options": {},
        "stats": {**stats.as_dict(), "data": stats.data, "iterations": 1},
    }


def _info(machine: Mapping[str, Any]) -> dict[str, Any]:
    """Of pytest-benchmark's names those that are known."""
    return {
        "machine": machine.get("architecture"),
        "cpu": {"brand_raw": machine.get("cpu"), "count": machine.get("cores")},
    }
