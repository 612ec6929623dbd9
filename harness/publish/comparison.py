"""A comparison as a report: what changed, by how much, how sure.

`report.json` holds

- `version`: 1, raised whenever a key changes its meaning; `kind`: `comparison`; `created`: UTC,
  ISO 8601, of the comparison;
- `status`: `failed`, `slower`, `inconclusive`, `faster` or `same`, the worst; `exit_status`;
  `headline`: the same in words; `start`: where to look first when something failed or is slower,
  else null;
- `base`, `head`: what was compared; `seconds` it took; `settings`, `machine`, `level` of its
  instruction set;
- `minimum_effect`: differences below it do not count, null where it is not known;
- `benchmarks`: the most urgent first. `title`, `name`, `configuration`, `kind`, `threads`, `unit`,
  `outcome`, `reason`; `ratio`, `decision` and `noise`, each with its `low`, `high` and
  `confidence`, head over base, or null; `detectable`; `medians` of both sides, `rates` of their
  processes; `share` of the machine's multiply-adds that head reaches; `instructions` and
  `instructions_reason`; `seconds`;
- `rooflines`: see `cllm.harness.publish.roofline`.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from statistics import median
from typing import Any

from cllm.harness.bench.task import Kind
from cllm.harness.compare.comparison import Comparison, Entry, Outcome
from cllm.harness.publish.charts import OUTCOMES
from cllm.harness.publish.roofline import GENERATION, Point, intensity, rooflines
from cllm.harness.publish.words import change, effect, interval, revision, short, unique

Report = dict[str, Any]
Row = dict[str, Any]

VERSION = 1

SIDES = {"head": "head", "head_again": "head again", "base": "base", "base_again": "base again"}
"""Processes of a round, and what they are called: two of each side."""

OPTIONS = {
    "candidate": "candidate",
    "configurations": "configuration",
    "file": "configurations",
    "kinds": "kind",
    "threads": "threads",
    "budget": "budget",
    "minimum_effect": "minimum-effect",
    "seed": "seed",
}
"""Of the command, by the names of settings."""


def report_of(comparison: Comparison) -> Report:
    """What `report.json` holds."""
    rows = sorted((_row(entry) for entry in comparison.entries), key=_urgency)
    for row, title in zip(rows, unique([short(row["title"]) for row in rows]), strict=True):
        row["title"] = title
    minimum = comparison.settings.get("minimum_effect")
    return {
        "version": VERSION,
        "kind": "comparison",
        "created": comparison.created,
        "status": str(comparison.outcome),
        "exit_status": comparison.exit_status,
        "headline": headline(rows),
        "start": start(rows),
        "base": asdict(comparison.base) | {"name": short(comparison.base.name)},
        "head": asdict(comparison.head) | {"name": short(comparison.head.name)},
        "seconds": comparison.seconds,
        "settings": dict(comparison.settings),
        "machine": dict(comparison.machine),
        "level": comparison.level,
        "minimum_effect": minimum if isinstance(minimum, float) and 0 < minimum < 1 else None,
        "benchmarks": rows,
        "rooflines": rooflines(_points(rows), comparison.probe),
    }


def _row(entry: Entry) -> Row:
    values = asdict(entry)
    rates = {side: list(values.pop(side)) for side in SIDES}
    peaks, flops = values.pop("peaks"), values.pop("flops")
    both = {side: [*rates[side], *rates[f"{side}_again"]] for side in ("base", "head")}
    medians = {side: median(found) if found else None for side, found in both.items()}
    speed = flops * (medians["head"] or 0.0)
    return {
        **values,
        "title": entry.name,
        "outcome": str(entry.outcome),
        "medians": medians,
        "rates": rates,
        "flops": flops,
        "share": speed / max(peaks) if peaks and speed else None,
    }


def _urgency(row: Row) -> tuple[int, float]:
    """Failed before slower, inconclusive, faster and same; the largest change first."""
    ratio = row["ratio"]["ratio"] if row["ratio"] else 1.0
    return [*OUTCOMES].index(row["outcome"]), -abs(ratio - 1)


def _points(rows: list[Row]) -> list[Point]:
    found = []
    for row in rows:
        is_training = row["kind"] in (Kind.STEP, Kind.STEPS)
        at = intensity(row["sizes"], is_training, row["flops"])
        label = short(row["configuration"]) if is_training else GENERATION
        for side in ("head", "base"):
            if at and (rate := row["medians"][side]):
                speed = rate * row["flops"]
                found.append(Point(row["title"], label, side, row["threads"], at, speed))
    return found


def headline(rows: list[Row]) -> str:
    """One sentence; `rows` begin with the worst."""
    total, counts = len(rows), Counter(row["outcome"] for row in rows)
    worst = rows[0]
    if total == 1:
        said = worst["outcome"]
        if said in (Outcome.SLOWER, Outcome.FASTER):
            said += f", {_said(worst)}"
        return f"{worst['title']}: {said}"
    slower, unsure, faster = (counts[name] for name in ("slower", "inconclusive", "faster"))
    if failed := counts["failed"]:
        return f"{failed} of {total} benchmarks failed"
    if slower:
        return f"{slower} of {total} benchmarks {_is(slower)} slower"
    if unsure:
        return f"Nothing is slower, but {unsure} of {total} {_is(unsure)} inconclusive"
    if faster:
        return f"{faster} of {total} benchmarks {_is(faster)} faster, none slower"
    return f"No difference that counts in {total} benchmarks"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _said(row: Row) -> str:
    return change(row["ratio"]["ratio"])


def start(rows: list[Row]) -> str | None:
    """Where to look first when something failed or is slower."""
    worst = rows[0]
    if worst["outcome"] == Outcome.FAILED:
        return f"{worst['title']}: {worst['reason']}"
    if worst["outcome"] != Outcome.SLOWER:
        return None
    return f"{worst['title']}: {_said(worst)}, 95% interval {interval(worst['ratio'])}"


def tiles(report: Report) -> list[tuple[str, str, str]]:
    """Title, figure and explanation of what matters most."""
    rows = [row for row in report["benchmarks"] if row["ratio"]]
    found = []
    for title, worst in (("Most slowed down", min), ("Most sped up", max)):
        if rows:
            row = worst(rows, key=lambda row: row["ratio"]["ratio"])
            is_so = (row["ratio"]["ratio"] < 1) == (worst is min) and row["ratio"]["ratio"] != 1
            figure = _said(row) if is_so else "nothing"
            text = f"{row['title']}; judged {row['outcome']}" if is_so else "not even by chance"
            found.append((title, figure, text))
    noise = [
        (max(abs(row["noise"]["low"] - 1), abs(row["noise"]["high"] - 1)), row["title"])
        for row in rows
        if row["noise"]
    ]
    if noise:
        widest, where = max(noise)
        found.append(("Noise", f"±{effect(widest)}", f"a side against itself, at worst: {where}"))
    seen = [(row["detectable"], row["title"]) for row in rows if row["detectable"] is not None]
    if seen:
        least, where = max(seen)
        text = f"would have been seen in 95 of 100 sessions, even in {where}"
        found.append(("An effect of", effect(least), text))
    return found


def command(report: Report) -> str:
    """What repeats the comparison, as far as its settings tell."""
    words = ["cllm", "compare", report["base"]["name"], report["head"]["name"]]
    for name, option in OPTIONS.items():
        value = report["settings"].get(name)
        for each in value if isinstance(value, list) else [] if value is None else [value]:
            words += [f"--{option}", f"{each:g}" if isinstance(each, float) else str(each)]
    return shlex.join(words)


def side(found: Mapping[str, Any]) -> str:
    """What a side was, beyond its name."""
    parts = [f"version {found['version']}"] if found["version"] else []
    if found["commit"]:
        parts.append(revision(found["commit"]))
    return ", ".join(parts) or str(found["kind"])


def relative(rows: list[Row]) -> list[Row]:
    """For the chart of rates: those of each side, as a ratio to the base's median."""
    return [
        {
            "title": row["title"],
            "who": name,
            "rates": [rate / row["medians"]["base"] for rate in row["rates"][side]],
        }
        for row in rows
        for side, name in SIDES.items()
        if row["medians"]["base"] and row["rates"][side]
    ]
