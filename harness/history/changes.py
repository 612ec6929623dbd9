"""Where the series of a history changed, between which commits.

Leaves out: how change points are found (`cllm.harness.history.changepoints`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cllm.harness.history.changepoints import change_points
from cllm.harness.history.selection import Point, SeriesInfo
from cllm.harness.history.shifts import Shift, judge


@dataclass(frozen=True)
class Change:
    """A series has another level from a point on."""

    info: SeriesInfo
    shift: Shift
    last: Point
    """Of the old level."""
    first: Point
    """Of the new one."""

    @property
    def ratio(self) -> float | None:
        """The new level over the old; None where that was 0."""
        change = self.shift.change
        return change.after / change.before if change.before else None

    @property
    def verdict(self) -> str:
        """worse, mended (worse, but not any more) or better."""
        if self.shift.worse:
            return "worse" if self.shift.stands else "mended"
        return "better"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        change = self.shift.change
        return {
            **self.info.series._asdict(),
            "verdict": self.verdict,
            "before": change.before,
            "after": change.after,
            "p_value": change.p_value,
            "gradual": change.gradual,
            "last": _point(self.last),
            "first": _point(self.first),
        }


def _point(point: Point) -> dict[str, Any]:
    commit = point.commit
    return {
        "run": point.run,
        "created": point.created.isoformat(),
        "commit": commit.sha if commit else None,
        "subject": commit.subject if commit else None,
    }


def find_changes(
    series: Iterable[tuple[SeriesInfo, Sequence[Point]]], progress: Callable[[int], None]
) -> list[Change]:
    """The changes of all series, the newest first; `progress` is told how many were looked at."""
    found = []
    for done, (info, points) in enumerate(series, 1):
        shifts = judge(change_points([point.value for point in points]), info.better)
        for shift in shifts:
            index = shift.change.index
            found.append(Change(info, shift, points[index - 1], points[index]))
        progress(done)
    return sorted(found, key=lambda change: change.first.created, reverse=True)
