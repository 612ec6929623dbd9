"""`performance.md`, from what `performance.json` holds.

Promises: it says nothing that the JSON does not; a figure that is missing says why.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from cllm.harness.bench.configurations import CONFIGURATIONS
from cllm.harness.bench.contest import TOLERANCE
from cllm.harness.bench.figures import (
    cell,
    in_vectors,
    number,
    ratio,
    share,
    spread,
    table,
    threads_of,
)
from cllm.harness.bench.flops import FORMULA
from cllm.harness.bench.task import Kind
from cllm.harness.machine import is_busy
from cllm.harness.peers import EXTRA
from cllm.plan import format_bytes

Result = dict[str, Any]
Row = dict[str, Any]

CROWDED = 0.8
"""Share of the multiply-adds of single threads that as many together reach on cores of their own.

Clocks fall by some percent when all cores work.
"""

TITLES = {
    Kind.STEP: "Training, one step a call",
    Kind.STEPS: "Training, k steps a call",
    Kind.GREEDY: "Generation, greedy",
    Kind.SAMPLED: "Generation, sampled at temperature 1",
}


def render(result: Result, chart: str | None) -> str:
    """The report; `chart` is the file name of the picture beside it."""
    parts = ["# Performance", *_introduction(result), *_machine(result)]
    if chart:
        parts += [f"![{alternative(result)}]({chart})"]
    for kind in Kind:
        contests = [contest for contest in result["contests"] if contest["kind"] == kind]
        if contests:
            parts += [f"## {TITLES[kind]}", *_race(kind, contests, result)]
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
    for name in settings["configurations"]:
        words += ["--configuration", name]
    for threads in settings["threads"]:
        words += ["--threads", str(threads)]
    words += ["--seconds", f"{settings['seconds']:g}", "--seed", str(settings["seed"])]
    return shlex.join(words)


def _introduction(result: Result) -> Iterator[str]:
    yield (
        f"Written by `{command(result)}` in {result['seconds'] / 60:.0f} minutes. Every competitor "
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
    if is_busy(result["machine"]):
        yield "**The machine was busy before the start**: measure again when it is quiet."


def _machine(result: Result) -> Iterator[str]:
    machine, probe = result["machine"], result["probe"]
    yield "## Machine"
    yield (
        f"{machine['cpu']}, {machine['usable_cores']} usable cores, "
        f"{format_bytes(machine['memory_bytes'])} memory, {machine['system']}; "
        f"{machine['python']}, NumPy {machine['numpy']} with {machine['blas']}; "
        f"instruction set {probe['level']}. Measured in the same run:"
    )
    places = [*next(iter(probe["read"].values()))]
    yield table(
        ["threads", "multiply-adds, GFLOP/s", *(f"reads from {p}, GB/s" for p in places)],
        (
            [threads, f"{peak / 1e9:.0f}"]
            + [f"{probe['read'][threads][place] / 1e9:.0f}" for place in places]
            for threads, peak in probe["fma"].items()
        ),
    )
    counts = list(probe["fma"])
    yield (
        "Asked again in each block (median, lowest to highest); core to core is the time until a "
        "cache line that one core has written is read by the other:"
    )
    yield table(
        ["", *(f"GFLOP/s, {count} threads" for count in counts), "core to core, ns"],
        (
            [f"{contest['configuration']} {contest['kind']}"]
            + [spread(contest["peak_blocks"].get(count, []), 1e-9) for count in counts]
            + [spread(contest["hand_over_blocks"], 1e9)]
            for contest in result["contests"]
        ),
    )
    if crowded := [contest for contest in result["contests"] if is_crowded(contest)]:
        names = ", ".join(f"{contest['configuration']} {contest['kind']}" for contest in crowded)
        yield (
            "**The cores were not all there**: in some blocks the threads together reached less "
            f"than {share(CROWDED)} of the multiply-adds of as many single ones. What several "
            f"threads do is not to be judged by {names}."
        )


def is_crowded(contest: Row) -> bool:
    """Whether several threads had much less than so many cores, in the median block or worse."""
    peaks = {int(threads): sorted(found) for threads, found in contest["peak_blocks"].items()}
    if 1 not in peaks:
        return False
    single = peaks[1][len(peaks[1]) // 2]
    # a quarter of the blocks: a single one does not move a median
    return any(
        found[len(found) // 4] < CROWDED * threads * single for threads, found in peaks.items()
    )


def _race(kind: Kind, contests: list[Row], result: Result) -> Iterator[str]:
    unit = "steps/s" if kind.is_training else "tokens/s"
    libraries = list(dict.fromkeys(e["library"] for c in contests for e in c["entries"]))
    models = [name for name in libraries if name in result["settings"]["models"]]
    others = [name for name in libraries if name not in models]
    threads = [str(count) for count in result["settings"]["threads"]]
    if kind is Kind.STEPS:
        k = ", ".join(f"{c['configuration']} {c['calls_at_once']}" for c in contests)
        yield f"k: {k}. JAX scans over the batches; nothing else here takes many at once."
    for name in models:
        columns = [f"{name}, {threads_of(count)}" for count in threads]
        head = [unit, *columns, *others, f"{name} / best peer", "aim"]
        rows = []
        for contest in contests:
            found = _own(contest, name, threads)
            best = contest["best_peer"]
            rows.append(
                [f"**{contest['configuration']}** {_sizes(contest)}"]
                + [_figure(found[count]) for count in threads]
                + [_rival(found, _fastest(contest, other)) for other in others]
                + [ratio(_versus(found, best)), _aim(contest, kind)]
            )
        yield table(head, rows)
        if kind is Kind.STEP:
            yield f"    {FORMULA}"
        if kind.is_training:
            yield _utilization(name, contests, threads)
    if kind is Kind.SAMPLED:
        yield "Chance decides the tokens; the network behind them is checked in the table above."


def _sizes(contest: Row) -> str:
    sizes = [*contest["sizes"].values(), contest["batch_size"], contest["seq_len"]]
    return " ".join(f"{letter}{size}" for letter, size in zip("VDLHFBT", sizes, strict=True))


def _own(contest: Row, name: str, threads: Sequence[str]) -> dict[str, Row]:
    """The entries of a model by number of threads."""
    rows = {str(e["threads"]): e for e in contest["entries"] if e["library"] == name}
    return {count: rows[count] for count in threads}


def _fastest(contest: Row, library: str) -> Row | None:
    """The entry that stands for a library, or one that failed."""
    rows = [e for e in contest["entries"] if e["library"] == library]
    return max(rows, key=lambda e: (e["status"] == "raced", e["rate"] or 0.0), default=None)


def _figure(entry: Row) -> str:
    return entry["status"] if entry["status"] in ("refused", "failed") else number(entry["rate"])


def _rival(found: dict[str, Row], entry: Row | None) -> str:
    """Another's rate, how it was reached, and how many times that a model is."""
    if entry is None:
        return "–"
    how = [entry["variant"], threads_of(str(entry["threads"]))] if entry["variant"] else []
    versus = _versus(found, entry["name"])
    said = " ".join([_figure(entry), *([f"({', '.join(how)})"] if how else [])])
    return said if versus is None else f"{said}; {versus[0]:.2f}×"


def _versus(found: dict[str, Row], other: str | None) -> list[float] | None:
    """Of the faster number of threads."""
    raced = [entry for entry in found.values() if entry["status"] == "raced"]
    best = max(raced, key=lambda entry: entry["rate"], default=None)
    return best["versus"].get(other) if best else None


def _aim(contest: Row, kind: Kind) -> str:
    configuration = CONFIGURATIONS.get(contest["configuration"])
    if configuration is None:
        return "–"
    aim = configuration.aim if kind.is_training else configuration.generation_aim
    return "–" if aim is None else f"{aim:g}"


def _utilization(name: str, contests: list[Row], threads: Sequence[str]) -> str:
    most = threads[-1]
    head = [f"MFU of {name}", *map(threads_of, threads), "aim"]
    head += [f"{threads_of(most)} / {threads_of(threads[0])}"] if len(threads) > 1 else []
    rows = []
    for contest in contests:
        found = _own(contest, name, threads)
        configuration = CONFIGURATIONS.get(contest["configuration"])
        row = [contest["configuration"], *(share(found[count]["mfu"]) for count in threads)]
        row.append(share(configuration.mfu_aim) if configuration else "–")
        if len(threads) > 1:
            row.append(ratio(found[most]["versus"].get(found[threads[0]]["name"])))
        rows.append(row)
    return table(head, rows)


def _trials(result: Result) -> Iterator[str]:
    yield (
        "`raced`: a model, or among the fastest of its library; `tried`: another variant was "
        "faster in the trial, whose rate this is. Until the first result is the time to import, "
        "build, compile and take one step, with the compilers' caches as they were found."
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
            [f"{row['model']}, {row['configuration']}, {threads_of(str(row['threads']))}"]
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
