"""`performance.md`, from what `performance.json` holds.

Promises: it says nothing that the JSON does not; a figure that is missing says why.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from cllm.harness.bench.configurations import CONFIGURATIONS
from cllm.harness.bench.contest import TOLERANCE
from cllm.harness.bench.figures import cell, in_vectors, number, table
from cllm.harness.bench.machine import machine_section
from cllm.harness.bench.process import THREAD_VARIABLES
from cllm.harness.bench.races import race_section
from cllm.harness.bench.task import Kind
from cllm.harness.machine import is_busy
from cllm.harness.peers import EXTRA
from cllm.harness.words import duration, threads_of

Result = dict[str, Any]
Row = dict[str, Any]

TITLES = {
    Kind.STEP: "Training, one step a call",
    Kind.STEPS: "Training, k steps a call",
    Kind.GREEDY: "Generation, greedy",
    Kind.SAMPLED: "Generation, sampled at temperature 1",
}


def render(result: Result, chart: str | None) -> str:
    """The report; `chart` is the file name of the picture beside it."""
    parts = ["# Performance", *_introduction(result), *machine_section(result)]
    if chart:
        parts += [f"![{alternative(result)}]({chart})"]
    for kind in Kind:
        contests = [contest for contest in result["contests"] if contest["kind"] == kind]
        if contests:
            parts += [f"## {TITLES[kind]}", *race_section(kind, contests, result)]
    parts += ["## Until the first result", *_startup(result)]
    parts += ["## Everything that was tried", *_trials(result)]
    parts += ["## Single operations", *_operations(result)]
    parts += ["## Memory of a training step", *_memory(result)]
    parts += ["## Import", *_imports(result)]
    return "\n\n".join(parts) + "\n"


def command(result: Result) -> str:
    """What repeats the measurement."""
    settings = result["settings"]
    words = ["cllm", "bench", *settings["models"]]
    words += ["--peers"] if settings["peers"] else []
    if settings["file"]:
        words += ["--configurations", settings["file"]]
    for name in settings["configurations"]:
        words += ["--configuration", name] if name in CONFIGURATIONS else []
    for threads in settings["threads"]:
        words += ["--threads", str(threads)]
    words += ["--seconds", f"{settings['seconds']:g}", "--seed", str(settings["seed"])]
    return shlex.join(words)


def _introduction(result: Result) -> Iterator[str]:
    yield (
        f"Written by `{command(result)}` in {duration(result['seconds'])}. Every competitor "
        "works in a process of its own, from the same parameters on the same rotating batches, and "
        "is first held against the reference in float64: the losses of its first three steps to "
        f"{TOLERANCE:g} of themselves, or all greedy "
        "tokens and the logits after them. Of each library the fastest "
        "variants and numbers of threads are found in short trials; they and the models are then "
        f"visited in turn, in {result['settings']['blocks']} blocks, every other one backwards. "
        "Figures are medians over blocks; a ratio is the median of the blocks' ratios, with the "
        "bootstrap interval of 95%."
    )
    if missing := result["missing_peers"]:
        yield (
            f"**Not measured: {' and '.join(missing)}**, not installed (`pip install '{EXTRA}'`)."
        )
    if figures := result["missing_figures"]:
        said = "; ".join(f"{row['figure']}: {cell(row['reason'])}" for row in figures)
        yield f"**Could not be had**: {said}."
    yield _threads(result["machine"]["thread_variables"])
    if is_busy(result["machine"]):
        yield "**The machine was busy before the start**: measure again when it is quiet."


def _threads(found: Row) -> str:
    """What decides the threads of libraries."""
    text = (
        "A model is asked for so many threads, and its process gives OpenMP and NumPy's BLAS as "
        f"many, by {', '.join(f'`{name}`' for name in THREAD_VARIABLES)}"
    )
    if own := {name: found[name] for name in THREAD_VARIABLES if found.get(name)}:
        said = ", ".join(f"`{name}={value}`" for name, value in own.items())
        return f"{text}; but {said} was set from outside, and was left so."
    return f"{text}."


def _startup(result: Result) -> Iterator[str]:
    yield (
        "What is paid once: to import and build, and for the first call, in which the compilers "
        "of the peers work, with their caches as they were found. A later call is that of the race."
    )
    rows = []
    for contest in result["contests"]:
        for entry in contest["entries"]:
            if entry["status"] == "raced":
                once = [entry["startup"].get(name) for name in ("start", "first_call")]
                later = _per_call(contest) / entry["rate"] if entry["rate"] else None
                work = f"{contest['configuration']} {contest['kind']}"
                milliseconds = [seconds and 1000 * seconds for seconds in (*once, later)]
                rows.append([work, entry["name"], *map(number, milliseconds)])
    yield table(["work", "competitor", "start, ms", "first call, ms", "a later call, ms"], rows)


def _per_call(contest: Row) -> int:
    """Steps or tokens of one call."""
    kind = Kind(contest["kind"])
    if not kind.is_training:
        return int(contest["seq_len"]) - 1
    return int(contest["calls_at_once"]) if kind is Kind.STEPS else 1


def _trials(result: Result) -> Iterator[str]:
    yield (
        "`raced`: a model, or among the fastest of its library; `tried`: another variant was "
        "faster in the trial, whose rate this is. Until the first result is the time to import, "
        "build, compile and take one step."
    )
    rows = []
    for contest in result["contests"]:
        for entry in contest["entries"]:
            rows.append(
                [
                    f"{contest['configuration']} {contest['kind']}",
                    entry["name"],
                    number(entry["rate"]),
                    f"{entry['build_seconds']:.1f}" if entry["build_seconds"] else "–",
                    f"{entry['status']}{': ' if entry['reason'] else ''}{cell(entry['reason'])}",
                ]
            )
    head = ["work", "competitor", "a second", "until the first result, s", "what became of it"]
    yield table(head, rows)


def _operations(result: Result) -> Iterator[str]:
    found = result["operations"]
    yield (
        f"Every pair of the table of operations at the sizes of {found['configuration']}, on one "
        "thread, microseconds a call; the public functions check their arguments and get scratch "
        "each time, which a step does not."
    )
    yield table(
        ["operation", "optimized, µs", "reference, µs", "reference / optimized"],
        (
            [
                " without ".join([f"`{row['function']}`", *row["without"]]),
                number(row["optimized_seconds"] * 1e6),
                number(row["reference_seconds"] * 1e6),
                number(row["ratio"]),
            ]
            for row in found["rows"]
        ),
    )


def _memory(result: Result) -> Iterator[str]:
    yield (
        "Bytes of the plan by role, and by how much the process's resident memory grew when the "
        "model was made and took three steps; in brackets as multiples of the parameter vector."
    )
    rows = []
    roles = list(dict.fromkeys(role for row in result["memory"] for role in row["roles"]))
    for row in result["memory"]:
        vector = row["parameter_bytes"]
        rows.append(
            [f"{row['model']}, {row['configuration']}, {threads_of(row['threads'])}"]
            + [in_vectors(row["roles"].get(role, 0), vector) for role in roles]
            + [in_vectors(row[name], vector) for name in ("planned_bytes", "grown_bytes")]
        )
    yield table(["", *roles, "plan", "measured"], rows)


def _imports(result: Result) -> Iterator[str]:
    yield table(
        ["module", "import, ms", "NumPy alone, ms", "difference, ms"],
        (
            [f"`{row['module']}`"]
            + [
                f"{1000 * seconds:.0f}"
                for seconds in (
                    row["seconds"],
                    row["numpy_seconds"],
                    row["seconds"] - row["numpy_seconds"],
                )
            ]
            for row in result["imports"]
        ),
    )


def alternative(result: Result) -> str:
    """The picture in words."""
    names = ", ".join(dict.fromkeys(c["configuration"] for c in result["contests"]))
    return f"Steps and tokens per second relative to the best peer, on a logarithmic axis: {names}"
