"""The races: everybody's rates, ratios, and shares of the machine's peak, in tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cllm.harness.bench.bandwidth import FORMULA as BANDWIDTH_FORMULA
from cllm.harness.bench.configurations import CONFIGURATIONS, OPTIMIZED
from cllm.harness.bench.figures import number, ratio, share, table
from cllm.harness.bench.flops import FORMULA
from cllm.harness.bench.task import Kind
from cllm.harness.words import threads_of
from cllm.plan import format_bytes

Result = dict[str, Any]
Row = dict[str, Any]

BANDWIDTH_WORDS = (
    "Each token is multiplied with every weight, which lie in whatever cache holds them; the array "
    "that is read for comparison lies there too. Above 100% the threads divide the weights better "
    "among their caches than the probe does its array, or the machine was slower while it was "
    "probed."
)


def race_section(kind: Kind, contests: list[Row], result: Result) -> Iterator[str]:
    """The section of one kind of work, paragraph by paragraph."""
    libraries = list(dict.fromkeys(e["library"] for c in contests for e in c["entries"]))
    models = [name for name in libraries if name in result["settings"]["models"]]
    others = [name for name in libraries if name not in models]
    threads = [str(count) for count in result["settings"]["threads"]]
    if kind is Kind.STEPS:
        k = ", ".join(f"{c['configuration']} {c['calls_at_once']}" for c in contests)
        yield f"k: {k}. JAX scans over the batches; nothing else here takes many at once."
    for name in models:
        columns = [f"{name}, {threads_of(count)}" for count in threads]
        has_aims = name == OPTIMIZED
        head = [kind.unit, *columns, *others, f"{name} / best peer", *["aim"][:has_aims]]
        rows = []
        for contest in contests:
            found = _own(contest, name, threads)
            best = contest["best_peer"]
            rows.append(
                [f"**{contest['configuration']}** {_sizes(contest)}"]
                + [_figure(found[count]) for count in threads]
                + [_rival(found, _fastest(contest, other)) for other in others]
                + [ratio(_versus(found, best)), *[_aim(contest, kind)][:has_aims]]
            )
        yield table(head, rows)
        if kind is Kind.STEP:
            yield f"    {FORMULA}"
        if kind is Kind.GREEDY:
            yield f"    {BANDWIDTH_FORMULA}"
            yield BANDWIDTH_WORDS
        if kind.is_training:
            yield _arithmetic(name, contests, threads)
        else:
            yield _bandwidth(name, contests, threads)
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
    how = [entry["variant"], threads_of(entry["threads"])] if entry["variant"] else []
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


def _arithmetic(name: str, contests: list[Row], threads: Sequence[str]) -> str:
    """Shares of the peak of multiply-adds, and what more threads bring."""
    has_aims = name == OPTIMIZED
    head = [f"MFU of {name}", *map(threads_of, threads), *["aim"][:has_aims]]
    rows = []
    for contest in contests:
        found = _own(contest, name, threads)
        configuration = CONFIGURATIONS.get(contest["configuration"])
        row = [contest["configuration"], *(share(found[count]["mfu"]) for count in threads)]
        row += [share(configuration.mfu_aim) if configuration else "–"][:has_aims]
        rows.append([*row, *_scaling(found, threads)])
    return table([*head, *_scaling_head(threads)], rows)


def _bandwidth(name: str, contests: list[Row], threads: Sequence[str]) -> str:
    """Shares of the read bandwidth, what it is, and what more threads bring."""
    head = [f"MBU of {name}", *map(threads_of, threads), "a token reads"]
    head += [*(f"read with {threads_of(count)}, GB/s" for count in threads)]
    rows = []
    for contest in contests:
        found = _own(contest, name, threads)
        row = [contest["configuration"], *(share(found[count]["mbu"]) for count in threads)]
        row.append(format_bytes(contest["token_bytes"]))
        row += [f"{contest['reads'][count] / 1e9:.0f}" for count in threads]
        rows.append([*row, *_scaling(found, threads)])
    return table([*head, *_scaling_head(threads)], rows)


def _scaling_head(threads: Sequence[str]) -> list[str]:
    return [f"{threads_of(threads[-1])} / {threads_of(threads[0])}"] if len(threads) > 1 else []


def _scaling(found: dict[str, Row], threads: Sequence[str]) -> list[str]:
    """The rate with the most threads relative to that with the fewest."""
    if len(threads) == 1:
        return []
    return [ratio(found[threads[-1]]["versus"].get(found[threads[0]]["name"]))]
