"""`performance.md`, from what `performance.json` holds.

Promises: it says nothing that the JSON does not; a figure that is missing says why.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cllm.harness.bench.configurations import CONFIGURATIONS
from cllm.harness.bench.contest import TOLERANCE
from cllm.harness.bench.flops import FORMULA
from cllm.harness.bench.task import Kind
from cllm.harness.machine import is_busy
from cllm.harness.peers import EXTRA
from cllm.plan import format_bytes

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
    parts = ["# Performance", *_introduction(result), *_machine(result)]
    if chart:
        parts += [f"![{alternative(result)}]({chart})"]
    for kind in Kind:
        contests = [contest for contest in result["contests"] if contest["kind"] == kind]
        if contests:
            parts += [f"## {TITLES[kind]}", *_race(kind, contests, result)]
    parts += ["## Everything that was tried", *_trials(result)]
    parts += ["## Memory of a training step", *_memory(result)]
    parts += ["## Import", *_imports(result)]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are set to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


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


def number(value: float | None) -> str:
    """Three significant digits or all before the point: 0.512, 4.07, 34.8, 3,446."""
    if value is None:
        return "–"
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


def ratio(found: Sequence[float] | None) -> str:
    """A ratio with its interval."""
    if found is None:
        return "–"
    return "{:.2f} ({:.2f} to {:.2f})".format(*found)


def share(value: float | None) -> str:
    """A share in percent."""
    return "–" if value is None else f"{100 * value:.0f}%"


def _introduction(result: Result) -> Iterator[str]:
    yield (
        f"Written by `{command(result)}` in {result['seconds'] / 60:.0f} minutes. Every competitor "
        "works in a process of its own, from the same parameters on the same rotating batches, and "
        "is first held against the reference in float64: the losses of its first three steps to "
        f"{TOLERANCE:g} of themselves, or all greedy "
        "tokens and the logits after them. Of each library the fastest "
        "variant and number of threads counts, found in short trials; those chosen are then "
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
            + [_spread(contest["peak_blocks"].get(count, []), 1e-9) for count in counts]
            + [_spread(contest["hand_over_blocks"], 1e9)]
            for contest in result["contests"]
        ),
    )


def _spread(values: Sequence[float | None], unit: float) -> str:
    found = sorted(value * unit for value in values if value is not None)
    if not found:
        return "–"
    return f"{found[len(found) // 2]:.0f} ({found[0]:.0f} to {found[-1]:.0f})"


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
        columns = [f"{name}, {_threads(count)}" for count in threads]
        head = [unit, *columns, *others, f"{name} / best peer", "aim"]
        rows = []
        for contest in contests:
            found = _own(contest, name, threads)
            best = contest["best_peer"]
            rows.append(
                [f"**{contest['configuration']}** {_sizes(contest)}"]
                + [_figure(found[count]) for count in threads]
                + [_figure(_fastest(contest, other), name=True) for other in others]
                + [_versus(found, best), _aim(contest, kind)]
            )
        yield table(head, rows)
        if kind is Kind.STEP:
            yield FORMULA
        if kind.is_training:
            yield _utilization(name, contests, threads)
    if kind is Kind.SAMPLED:
        yield "Chance decides the tokens; the network behind them is checked in the table above."


def _threads(count: str) -> str:
    return f"{count} thread{'' if count == '1' else 's'}"


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


def _figure(entry: Row | None, *, name: bool = False) -> str:
    if entry is None:
        return "–"
    if entry["status"] in ("refused", "failed"):
        return entry["status"]
    said = number(entry["rate"])
    if name and entry["variant"]:
        said += f" ({entry['variant']}, {_threads(str(entry['threads']))})"
    return said


def _versus(found: dict[str, Row], other: str | None) -> str:
    """Of the faster number of threads."""
    raced = [entry for entry in found.values() if entry["status"] == "raced"]
    if not raced or other is None:
        return "–"
    best = max(raced, key=lambda entry: entry["rate"])
    return ratio(best["versus"].get(other))


def _aim(contest: Row, kind: Kind) -> str:
    configuration = CONFIGURATIONS.get(contest["configuration"])
    if configuration is None:
        return "–"
    aim = configuration.aim if kind.is_training else configuration.generation_aim
    return "–" if aim is None else f"{aim:g}"


def _utilization(name: str, contests: list[Row], threads: Sequence[str]) -> str:
    most = threads[-1]
    head = [f"MFU of {name}", *map(_threads, threads), "aim"]
    head += [f"{_threads(most)} / {_threads(threads[0])}"] if len(threads) > 1 else []
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
        "`raced` stands for its library; `tried` lost to another variant of it, its rate is that "
        "of the trial. Until the first result is the time to import, build, compile and take one "
        "step, with the compilers' caches as they were found."
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
                    f"{entry['status']}{': ' if entry['reason'] else ''}{_cell(entry['reason'])}",
                ]
            )
    head = ["work", "competitor", "a second", "until the first result, s", "what became of it"]
    yield table(head, rows)


def _cell(text: str) -> str:
    """Text that cannot break a table."""
    return text.replace("|", "\\|").replace("\n", " ")


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
            [f"{row['model']}, {row['configuration']}, {_threads(str(row['threads']))}"]
            + [_in_vectors(row["roles"].get(role, 0), vector) for role in roles]
            + [_in_vectors(row[name], vector) for name in ("planned_bytes", "grown_bytes")]
        )
    yield table(["", *roles, "plan", "measured"], rows)


def _in_vectors(nbytes: int, vector: int) -> str:
    return f"{format_bytes(nbytes)} ({nbytes / vector:.2f})"


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


def overview(result: Result) -> str:
    """What the terminal shows: each work and competitor that was raced, in columns."""
    rows = [("work", "competitor", "a second", "MFU", "times the best peer")]
    for contest in result["contests"]:
        for entry in contest["entries"]:
            if entry["status"] == "tried":
                continue
            what = f"{contest['configuration']} {contest['kind']}"
            against = ratio(entry["versus"].get(contest["best_peer"]))
            found = _figure(entry) if entry["status"] == "raced" else entry["reason"]
            rows.append((what, entry["name"], found, share(entry["mfu"]), against))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join([*(f"{cell:{w}}" for cell, w in zip(row, widths, strict=False)), row[4]])
        for row in rows
    )
