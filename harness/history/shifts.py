"""Changes of level, judged: for the worse or the better, and whether mended later.

Leaves out: where they are (`cllm.harness.history.changepoints`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cllm.harness.history.changepoints import ChangePoint
from cllm.harness.history.record import Better

MENDED = 0.75
"""Share of a loss that has to be back for it to count as mended: levels are medians of noisy
figures, so the very same level never comes back."""


@dataclass(frozen=True)
class Shift:
    """A change of level, and what became of it."""

    change: ChangePoint
    worse: bool
    mended: int | None
    """Index of the first point at the level that made up for it; None for a change for the
    better, or one that stands."""

    @property
    def stands(self) -> bool:
        """Whether it is a loss that nothing made up for."""
        return self.worse and self.mended is None


def judge(changes: Sequence[ChangePoint], better: Better) -> list[Shift]:
    """The changes of one series, given in the order of time."""
    sign = 1 if better is Better.HIGHER else -1
    found = []
    for position, change in enumerate(changes):
        lost = sign * (change.before - change.after)
        goal = sign * change.before - (1 - MENDED) * lost
        later = (other.index for other in changes[position + 1 :] if sign * other.after >= goal)
        found.append(Shift(change, lost > 0, next(later, None) if lost > 0 else None))
    return found
