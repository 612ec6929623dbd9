"""A report as Markdown for a pull request: the verdict first, then a table, the rest folded.

Promises: names cannot break it or smuggle in HTML; it fits into a comment of GitHub, 65,536
characters: of many benchmarks the most urgent stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cllm.harness.bench.figures import number, share
from cllm.harness.compare.instructions import BLIND
from cllm.harness.page import command as verify_command
from cllm.harness.publish import performance
from cllm.harness.publish.comparison import command, side
from cllm.harness.publish.words import change, effect, facts, interval, machine_facts
from cllm.harness.words import duration, plural

Report = dict[str, Any]
Row = dict[str, Any]

MARKS = {
    "failed": "❌", "slower": "🔻", "inconclusive": "❔", "faster": "🔺", "same": "▪️",
    "pass": "✅", "fail": "❌", "not applicable": "➖",
}  # fmt: skip
"""Beside the word."""

WORDS = (
    "",
    "benchmark",
    "of",
    "verdict",
    "reason",
    "figure",
    "operation",
    "model",
    "module",
    "check",
    "evidence",
)
"""Columns that hold words."""

LONGEST = 60_000
"""Characters; GitHub takes 65,536."""

ESCAPED = str.maketrans(
    {character: f"\\{character}" for character in "\\`*_[]#|~$"} | {"\r": " ", "\n": " "}
    | {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "@\N{ZERO WIDTH SPACE}"}
)  # fmt: skip
"""In Markdown's text; an @ would call somebody."""


def render(report: Report) -> str:
    """The Markdown."""
    sections = {
        "comparison": _comparison,
        "performance": _performance,
        "verification": _verification,
    }[report["kind"]]
    for most in (1000, 200, 100, 50, 20):
        text = "\n\n".join(sections(report, most)) + "\n"
        if len(text) <= LONGEST:
            break
    return text


def cell(text: object) -> str:
    """Text that is only text."""
    return str(text).translate(ESCAPED)


def _title(report: Report) -> str:
    return f"### {MARKS[report['status']]} {cell(report['headline'])}"


def _comparison(report: Report, most: int) -> Iterator[str]:
    rows, left_out = report["benchmarks"][:most], report["benchmarks"][most:]
    yield _title(report)
    base, head = report["base"], report["head"]
    yield (
        f"**{cell(head['name'])}** ({cell(side(head))}) against **{cell(base['name'])}** "
        f"({cell(side(base))}), in {duration(report['seconds'])}."
    )
    if report["start"]:
        yield f"Look first at {cell(report['start'])}."
    yield _table(
        ["benchmark", "verdict", "change", "95% interval", "base", "head"],
        (
            [
                f"{MARKS[row['outcome']]} {row['title']}",
                row["outcome"],
                change(row["ratio"]["ratio"]) if row["ratio"] else "–",
                interval(row["ratio"]),
                number(row["medians"]["base"]),
                _rate(row["medians"]["head"], row["unit"]),
            ]
            for row in rows
        ),
    )
    if left_out:
        yield f"{plural(len(left_out), 'benchmark')} less urgent left out here."
    yield from _folded(
        "How sure, and why",
        _table(
            ["benchmark", "noise", "detectable", "instructions", "reason"],
            (
                [
                    row["title"],
                    interval(row["noise"]),
                    effect(row["detectable"]),
                    _instructions(row),
                    row["reason"],
                ]
                for row in rows
            ),
        ),
        "The noise is what each side gave against itself in the same session; what is detectable "
        f"would have been seen in 95 of 100 sessions. {BLIND}",
    )
    yield from _circumstances(report, command(report))


def _instructions(row: Row) -> str:
    found = row["instructions"]
    if found:
        return f"{change(found['ratio'])} {found['verdict']}"
    return f"not counted: {row['instructions_reason']}" if row["instructions_reason"] else "–"


def _performance(report: Report, most: int) -> Iterator[str]:
    rows = [row for row in report["benchmarks"] if row["status"] != "tried"]
    yield _title(report)
    if report["start"]:
        yield f"Look first at {cell(report['start'])}."
    own = [row for row in rows if row["library"] in report["models"]]
    yield _speeds(own[:most])
    if len(own) > most:
        yield f"{plural(len(own) - most, 'row')} left out here."
    others = [row for row in rows if row["library"] not in report["models"]]
    if others:
        yield from _folded("Everybody else", _speeds(others[:most]))
    if missing := report["missing_figures"]:
        reasons = [(row["figure"], row["reason"]) for row in missing[:most]]
        yield from _folded("Could not be had", _table(["figure", "reason"], reasons))
    for table in report["tables"]:
        if table["rows"]:
            yield from _folded(
                table["title"], table["note"], _table(table["head"], table["rows"][:most])
            )
    yield from _circumstances(report, performance.command(report))


def _verification(report: Report, most: int) -> Iterator[str]:
    yield _title(report)
    if report["start"]:
        yield f"Look first at {cell(report['start'])}."
    rows = [
        [f"{MARKS[row['status']]} {row['check']}", row["status"], row["evidence"]]
        for row in report["verdicts"]
    ]
    bad = [row for row in rows if row[1] in ("fail", "inconclusive")]
    if bad:
        yield _table(["check", "verdict", "evidence"], bad[:most])
    yield from _folded("All checks", _table(["check", "verdict", "evidence"], rows[:most]))
    yield from _circumstances(report, verify_command(report))


def _speeds(rows: Iterable[Row]) -> str:
    return _table(
        ["benchmark", "of", "a second", "of the peak", "times the best peer"],
        (
            [
                row["benchmark"],
                row["who"],
                _rate(row["rate"], row["unit"])
                if row["status"] == "raced"
                else f"{row['status']}: {row['reason']}",
                share(row["share"]),
                "{:.2f} ({:.2f} to {:.2f})".format(*row["versus"]) if row["versus"] else "–",
            ]
            for row in rows
        ),
    )


def _rate(rate: float | None, unit: str) -> str:
    return "–" if rate is None else f"{number(rate)} {unit}"


def _circumstances(report: Report, repeat: str) -> Iterator[str]:
    pairs = machine_facts(report["machine"]) + facts(report["settings"])
    if "level" in report:
        pairs.append(("instruction set", report["level"]))
    yield from _folded(
        "Machine and settings",
        _table(["", ""], pairs),
        f"    {' '.join(repeat.split())}",
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Words stand on the left, figures on the right."""
    lines = [list(head), ["---" if name in WORDS else "---:" for name in head]]
    lines += [[cell(value) for value in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _folded(title: str, *parts: str) -> Iterator[str]:
    yield f"<details><summary>{title}</summary>"
    yield from parts
    yield "</details>"
