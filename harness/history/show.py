"""What `cllm history` prints: tables for people, one JSON object for machines.

The object holds `version`, 1, raised whenever a key changes its meaning, and `runs`, `results` or
`changes`; beside these `reason`, why nothing can be told, or null.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from cllm.harness.commit import to_dict as commit_to_dict
from cllm.harness.history.changes import Change
from cllm.harness.history.record import Commit
from cllm.harness.history.selection import Found, RunInfo
from cllm.harness.publish.words import short

VERSION = 1
SHA = 10
"""Digits of a commit's hash that are shown."""

RIGHT = {"results", "threads", "value", "share", "before", "after", "change"}
"""Columns of numbers."""


def runs_table(infos: Iterable[RunInfo]) -> str:
    """A line for each run."""
    return _table(
        ("when", "run", "source", "commit", "machine", "level", "results"),
        (
            (
                _time(info.created),
                info.id,
                info.source,
                _commit(info.commit),
                str(info.machine.get("cpu")),
                info.level,
                f"{info.count:,}",
            )
            for info in infos
        ),
    )


def results_table(found: Iterable[Found]) -> str:
    """A line for each result."""
    return _table(
        (
            "when",
            "commit",
            "benchmark",
            "candidate",
            "threads",
            "value",
            "unit",
            "share",
            "machine",
        ),
        (
            (
                _time(each.created),
                _commit(each.commit),
                each.series.benchmark,
                each.series.candidate,
                str(each.series.threads),
                _number(each.result.value),
                each.series.metric,
                "" if each.result.share is None else f"{each.result.share:.0%}",
                each.series.machine,
            )
            for each in found
        ),
    )


def changes_table(changes: Iterable[Change]) -> str:
    """A line for each change; between which commits, and what the second of them says."""
    return _table(
        (
            *("when", "verdict", "benchmark", "candidate", "threads", "before", "after", "change"),
            *("unit", "machine", "commits"),
        ),
        (
            (
                _time(each.first.created),
                each.verdict + (", drift" if each.shift.change.gradual else ""),
                each.info.series.benchmark,
                each.info.series.candidate,
                str(each.info.series.threads),
                _number(each.shift.change.before),
                _number(each.shift.change.after),
                "" if each.ratio is None else f"{each.ratio - 1:+.1%}",
                each.info.series.metric,
                each.info.series.machine,
                _between(each.last.commit, each.first.commit),
            )
            for each in changes
        ),
    )


def to_json(
    name: str, rows: Sequence[RunInfo] | Sequence[Found] | Sequence[Change], **more: str | None
) -> str:
    """One object, with `more` beside the rows."""
    documents = [_document(row) for row in rows]
    return json.dumps({"version": VERSION, **more, name: documents}, indent=1)


def _document(row: RunInfo | Found | Change) -> dict[str, Any]:
    if isinstance(row, Change):
        return row.to_dict()
    common = {"created": row.created.isoformat(), "commit": commit_to_dict(row.commit)}
    if isinstance(row, RunInfo):
        return asdict(row) | common
    sizes = row.result.configuration
    return {
        "run": row.run,
        **common,
        **asdict(row.result),
        "machine": row.series.machine,
        "level": row.series.level,
        "configuration": dict(sizes),
    }


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they need to be, numbers to the right; of names what fits a terminal."""
    lines = [head, *([short(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:>{width}}" if name in RIGHT else f"{cell:{width}}"
            for cell, width, name in zip(line, widths, head, strict=True)
        ).rstrip()
        for line in lines
    )


def _time(time: datetime) -> str:
    """In UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M}"


def _number(value: float) -> str:
    """Four digits, and all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _commit(commit: Commit | None) -> str:
    return "" if commit is None else commit.sha[:SHA] + ("+" if commit.dirty else "")


def _between(last: Commit | None, first: Commit | None) -> str:
    if last is None and first is None:
        return ""
    same = last is not None and first is not None and last.sha == first.sha
    where = f"{_commit(last)}..{_commit(first)}" if not same else f"within {_commit(first)}"
    return f"{where} {first.subject if first else ''}".rstrip()
