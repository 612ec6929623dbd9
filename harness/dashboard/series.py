"""What the site holds of one series: an entry of the index, and a document with every point.

Promises: plain values for JSON; times are seconds since 1970 in UTC. The document is read by its
own, whatever became of the index since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from cllm.harness.dashboard.thinning import thin
from cllm.harness.history.changepoints import FEWEST
from cllm.harness.history.record import Better, Commit, Series, digest
from cllm.harness.history.shifts import Shift

if TYPE_CHECKING:
    from cllm.harness.history.selection import Point  # it needs SQLAlchemy

STRETCHES = 32
"""Of a sparkline."""

HEIGHT = 100
"""Of a sparkline, in its own units."""

SHA = 12
"""Digits of a commit's name that are shown."""

REGRESSED, IMPROVED, STEADY = "regressed", "improved", "steady"
TOO_FEW = "too few results"
"""Nothing can be said of the series yet."""


def identity(series: Series) -> str:
    """Name of a series in links and files; the same in every build."""
    return digest(series._asdict())


def entry(
    series: Series,
    points: Sequence[Point],
    shifts: Sequence[Shift],
    *,
    better: Better,
    configuration: Mapping[str, Any],
) -> dict[str, Any]:
    """What the index holds of a series with at least one point, the oldest first."""
    values = [point.value for point in points]
    return {
        "id": identity(series),
        "benchmark": series.benchmark,
        "candidate": series.candidate,
        "metric": series.metric,
        "threads": series.threads,
        "machine": series.machine,
        "level": series.level,
        "sizes": {name: str(value) for name, value in configuration.items()},
        "better": str(better),
        "status": status(shifts, len(points)),
        "count": len(points),
        "first": _seconds(points[0].created),
        "last": _seconds(points[-1].created),
        "value": values[-1],
        "current": shifts[-1].change.after if shifts else median(values),
        "low": min(values),
        "high": max(values),
        "spark": sparkline(values),
        "changes": [_change(shift, points) for shift in shifts],
    }


def status(shifts: Sequence[Shift], count: int) -> str:
    """Regressed as long as a loss stands; improved where the last change was for the better.

    Of a series with fewer than `FEWEST` results it is not known.
    """
    if count < FEWEST:
        return TOO_FEW
    if any(shift.stands for shift in shifts):
        return REGRESSED
    return IMPROVED if shifts and not shifts[-1].worse else STEADY


def document(points: Sequence[Point]) -> dict[str, Any]:
    """Every point in columns; a commit is a number in the list of commits, -1 where there is none.

    Commits lie with each series: whole in itself, a file stays true while others are replaced.
    """
    numbers: dict[Commit, int] = {}
    places = [
        -1 if point.commit is None else numbers.setdefault(point.commit, len(numbers))
        for point in points
    ]
    return {
        "times": [_seconds(point.created) for point in points],
        "values": [point.value for point in points],
        "places": places,
        "commits": [_commit(commit) for commit in numbers],
    }


def sparkline(values: Sequence[float]) -> list[int]:
    """The values in a few whole numbers, the least 0 and the greatest `HEIGHT`."""
    low, high = min(values), max(values)
    scale = HEIGHT / (high - low) if high > low else 0.0
    return [round((values[index] - low) * scale) for index in thin(values, STRETCHES)]


def _change(shift: Shift, points: Sequence[Point]) -> dict[str, Any]:
    change = shift.change
    mended = None if shift.mended is None else points[shift.mended]
    return {
        "at": change.index,
        "time": _seconds(points[change.index].created),
        "before": change.before,
        "after": change.after,
        "p": change.p_value,
        "gradual": change.gradual,
        "worse": shift.worse,
        "from": _commit(points[change.index - 1].commit),
        "to": _commit(points[change.index].commit),
        "mended": mended and {"time": _seconds(mended.created), "commit": _commit(mended.commit)},
    }


def _commit(commit: Commit | None) -> dict[str, Any] | None:
    if commit is None:
        return None
    return {"sha": commit.sha[:SHA], "subject": commit.subject, "dirty": commit.dirty}


def _seconds(time: datetime) -> int:
    return int(time.timestamp())
