"""The files that runs come in: of `cllm bench`, `cllm compare`, pytest-benchmark, and our own.

Promises: a file is read whole, or refused in one line that names it; the same file gives the same
ids, so that it is kept once.
Leaves out: what pytest-benchmark measures (`cllm.harness.history.pytest_benchmark`).
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from cllm.errors import CllmError
from cllm.harness.compare.comparison import Comparison, Entry
from cllm.harness.history import document, pytest_benchmark
from cllm.harness.history.record import Better, Result, Run
from cllm.harness.history.shapes import PYTEST_BENCHMARK, RUN, SIDES
from cllm.harness.history.store import open_history
from cllm.harness.publish.schema import Schema
from cllm.harness.publish.source import LARGEST, comparison_of, parse, performance_of, require
from cllm.harness.publish.words import printable, short

KNOWN = (
    "performance.json of `cllm bench`, comparison.json of `cllm compare`, JSON of pytest-benchmark "
    "or lines of `cllm history export`"
)

ID_DIGITS = 16
"""Of the hash of a file: no two of a million are alike but for a chance of one in 10^7."""

RACED = "raced"
"""Of an entry whose rates were measured block by block."""


def read_runs(path: Path) -> list[Run]:
    """The runs of a file, whatever it is of what is known.

    Raises `CllmError` where it is something else or not whole; `OSError` where it cannot be read.
    """
    content = path.read_bytes()
    id = hashlib.sha256(content).hexdigest()[:ID_DIGITS]
    lines = content.splitlines()
    if len(lines) < 2 or not _is_object(lines[0]):
        return _runs(content, id, str(path))
    runs = []
    for number, line in enumerate(lines, 1):
        runs += _runs(line, id, f"{path}: line {number}")
    return runs


def add_files(
    where: str | Path, files: Sequence[Path], progress: Callable[[str, int, int], None]
) -> tuple[int, int]:
    """Keep the runs of files: how many were not there yet, and how many there are.

    All are read before a history is opened, or made. Raises as `read_runs` and `open_history` do.
    """
    runs = []
    for done, file in enumerate(files):
        progress(f"Reading: {file}", done, len(files))
        runs += read_runs(file)
    gc.freeze()  # to look through all of them again and again takes as long as to keep them
    try:
        with open_history(where, create=True) as history:
            added = history.add_many(runs, lambda done: progress("Adding", done, len(runs)))
    finally:
        gc.unfreeze()
    return added, len(runs)


def _is_object(line: bytes) -> bool:
    """Whether a line is JSON on its own, as in a file of many."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _runs(content: bytes, id: str, where: str) -> list[Run]:
    found = parse(content, where, KNOWN, bounded=False)
    if found.get("kind") != document.KIND:  # of these there may be a million
        found = parse(content, where, KNOWN)
    schema: Schema = {}
    try:
        if found.get("kind") == document.KIND:
            schema = RUN
            runs = [document.from_dict(found)]
        elif found.get("kind") == "comparison":
            comparison = comparison_of(found, where)
            require(SIDES, found, where)
            runs = list(comparison_runs(comparison, id))
        elif "contests" in found:
            runs = [bench_run(performance_of(found, where), id)]
        elif "benchmarks" in found:
            schema = {} if pytest_benchmark.OURS in found else PYTEST_BENCHMARK
            require(schema, found, where)
            runs = pytest_benchmark.read(found, id)
        else:
            raise CllmError(f"no results: must be {KNOWN}")
        for run in runs:
            _check(run)
    except CllmError as error:
        said = str(error).removeprefix(f"{where}: ")
        raise CllmError(f"{where}: {printable(said)}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        require(schema, found, where)  # tells which place is wrong
        said = f"{type(error).__name__}: {error}"
        raise CllmError(f"{where}: not understood ({said}), must be {KNOWN}") from error
    return runs


def _check(run: Run) -> None:
    """Raises `CllmError` for figures that cannot be, `TypeError` for what is of another type."""
    for result in run.results:
        if type(result.threads) is not int or result.threads < 1:
            raise TypeError(f"{_name(result)}: threads must be 1 or more")
        if any(type(text) is not str for text in (result.benchmark, result.candidate)):
            raise TypeError(f"{_name(result)}: a name must be a string")
        numbers = (result.value, *result.samples)
        lowest = 1 / LARGEST if _is_speed(result.metric) else -LARGEST
        if not lowest < min(numbers) <= max(numbers) < LARGEST:
            wrong = next(number for number in numbers if not lowest < number < LARGEST)
            raise CllmError(
                f"{_name(result)}: {wrong:g} {result.metric}, "
                f"must lie between {lowest:g} and {LARGEST:g}"
            )
        if result.share is not None and not 0 < result.share < LARGEST:
            raise CllmError(f"{_name(result)}: a share of {result.share:g}, must be positive")


def _name(result: Result) -> str:
    return short(f"{result.benchmark} of {result.candidate}")


def _is_speed(metric: str) -> bool:
    """Whether it is a time or a rate, which are positive."""
    return metric == "s" or metric.endswith("/s")


def bench_run(found: Mapping[str, Any], id: str) -> Run:
    """What `cllm bench` measured; of competitors those that were raced."""
    if "created" not in found:
        raise CllmError("it does not say when it was measured: must have a time `created`")
    return Run(
        id=f"bench-{id}",
        created=document.time_of(found["created"]),
        source="bench",
        machine=found["machine"],
        level=found["probe"]["level"],
        results=(
            *(result for contest in found["contests"] for result in _contest(contest)),
            *_operations(found),
            *(result for row in found["memory"] for result in _memory(row, _sizes(found, row))),
            *(
                Result("import", row["model"], "s", row["seconds"], better=Better.LOWER)
                for row in found["imports"]
            ),
        ),
        commit=document.commit_from_dict(found.get("commit")),
    )


def _contest(contest: Mapping[str, Any]) -> Iterator[Result]:
    """Rates, and the seconds until the first one."""
    name = f"{contest['configuration']} {contest['kind']}"
    is_training = contest["kind"] in ("step", "steps")
    sizes = {**contest["sizes"], "batch_size": contest["batch_size"], "seq_len": contest["seq_len"]}
    if contest["kind"] == "steps":
        sizes["calls_at_once"] = contest["calls_at_once"]
    for entry in contest["entries"]:
        if entry["status"] != RACED:
            continue
        candidate, threads = f"{entry['library']} {entry['variant']}".strip(), entry["threads"]
        yield Result(
            name,
            candidate,
            "steps/s" if is_training else "tokens/s",
            entry["rate"],
            threads,
            samples=tuple(rate for rate in entry["rates"] if rate is not None),
            share=entry["mfu"] if is_training else entry.get("mbu"),
            configuration=sizes,
        )
        if entry["build_seconds"] is not None:
            yield Result(
                f"{name}, until the first result",
                candidate,
                "s",
                entry["build_seconds"],
                threads,
                Better.LOWER,
                configuration=sizes,
            )


def _operations(found: Mapping[str, Any]) -> Iterator[Result]:
    sizes = _sizes(found, found["operations"])
    for row in found["operations"]["rows"]:
        without = f" without {', '.join(row['without'])}" if row["without"] else ""
        for room in ("optimized", "reference"):
            yield Result(
                f"{found['operations']['configuration']} {row['function']}{without}",
                room,
                "s",
                row[f"{room}_seconds"],
                better=Better.LOWER,
                configuration=sizes,
            )


def _memory(row: Mapping[str, Any], sizes: Mapping[str, Any]) -> Iterator[Result]:
    for key, name in (("planned_bytes", "planned memory"), ("grown_bytes", "memory")):
        yield Result(
            f"{row['configuration']} {name}",
            row["model"],
            "bytes",
            row[key],
            row["threads"],
            Better.LOWER,
            configuration=sizes,
        )


def _sizes(found: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Of the configuration that a row names."""
    for contest in found["contests"]:
        if contest["configuration"] == row["configuration"]:
            own = {name: contest[name] for name in ("batch_size", "seq_len")}
            return {**contest["sizes"], **own}
    return {"configuration": row["configuration"]}


def comparison_runs(found: Comparison, id: str) -> Iterator[Run]:
    """A run for each side.

    A revision's results are the candidate's, at its commit; what has no commit has its own name.
    Speeds are series of their own, `small step, compared`: `cllm bench` takes the median of blocks
    where a comparison takes the fastest windows, with threads bound to CPUs.
    """
    for side, part in ((found.base, "base"), (found.head, "head")):
        commit = document.commit_from_dict(side.commit)
        candidate = side.name
        if commit is not None and side.kind != "candidate":
            if "candidate" not in found.settings:
                raise CllmError("settings do not say which candidate was compared")
            candidate = found.settings["candidate"]
        yield Run(
            id=f"compare-{id}-{part}",
            created=document.time_of(found.created),
            source="compare",
            machine=found.machine,
            level=found.level,
            results=tuple(_side(found.entries, side is found.base, candidate)),
            commit=commit,
        )


def _side(entries: Sequence[Entry], is_base: bool, candidate: str) -> Iterator[Result]:
    for entry in entries:
        name = f"{entry.configuration} {entry.kind}"
        first, again = ("base", "base_again") if is_base else ("head", "head_again")
        rates = (*getattr(entry, first), *getattr(entry, again))
        if rates:
            share = None
            if entry.unit == "steps/s" and entry.flops and entry.peaks:
                # The highest: whatever else ran at that moment has only lowered the others.
                share = entry.flops * median(rates) / max(entry.peaks)
            yield Result(
                f"{name}, compared",
                candidate,
                entry.unit,
                median(rates),
                entry.threads,
                samples=rates,
                share=share,
                configuration=entry.sizes,
            )
        if entry.instructions is not None:
            counted = entry.instructions.base if is_base else entry.instructions.head
            yield Result(
                name,
                candidate,
                "instructions",
                counted,
                better=Better.LOWER,
                configuration=entry.sizes,
            )
