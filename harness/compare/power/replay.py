"""Comparisons over what was recorded, by the rules of a live one.

Promises: the same code decides (`cllm.harness.compare.run.measure`), on the recorded rounds of a
build from some start on, one after the other; the clock is the recording's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cllm.harness.compare.comparison import Entry, Outcome
from cllm.harness.compare.power.record import Moment, Recording, benchmark
from cllm.harness.compare.run import Round, measure
from cllm.harness.compare.session import Visited

LEVEL = 0.01
"""Of the t-test; that of a comparison."""


@dataclass(frozen=True)
class Trial:
    """What one comparison said, and what others say of the same samples."""

    outcome: Outcome
    seconds: float
    rounds: int
    mean_rule: bool
    """Whether the mean of head is slower by the minimum effect or more."""
    fastest_rule: bool
    """The same of the minimum."""
    t_test: bool
    """Whether Welch's test of the means of the processes says that they differ."""


def replay(
    recording: Recording, head: str, count: int, *, budget: float, minimum_effect: float, seed: int
) -> Iterator[Trial]:
    """`count` comparisons of base with the build `head`, from starts drawn by the seed.

    Raises `ValueError` where the recording is shorter than one budget.
    """
    moments = recording.of(head)
    lengths = np.cumsum([moment.seconds for moment in moments])
    last = int(np.searchsorted(lengths, lengths[-1] - budget)) if moments else 0
    if last < 1:
        found = float(lengths[-1]) if moments else 0.0
        raise ValueError(f"recorded are {found:.0f} s of comparisons, must be over {budget}")
    for start in np.random.default_rng(seed).integers(0, last, count).tolist():
        yield _trial(recording.threads, moments[start:], budget, minimum_effect)


def _trial(threads: int, moments: Sequence[Moment], budget: float, minimum_effect: float) -> Trial:
    taken, spent = 0, 0.0

    def visit() -> Round:
        nonlocal taken, spent
        moment = moments[taken]
        taken, spent = taken + 1, spent + moment.seconds
        return Round([Visited((), 1, trips, 0.0) for trips in moment.trips], 0.0)

    entry: Entry = measure(
        benchmark(threads),
        visit,
        budget=budget,
        minimum_effect=minimum_effect,
        seed=0,
        progress=lambda what, done, total: None,
        clock=lambda: spent,
    )
    return Trial(entry.outcome, spent, taken, *_others(moments[:taken], minimum_effect))


def _others(used: Sequence[Moment], minimum_effect: float) -> tuple[bool, bool, bool]:
    """The rules of pytest-benchmark's --benchmark-compare-fail (mean and min), and a t-test."""
    means = np.array([moment.mean for moment in used])
    trips = np.array([moment.trips for moment in used])
    base, head = means[:, ::2].ravel(), means[:, 1::2].ravel()
    beyond = 1 + minimum_effect
    return (
        bool(head.mean() > beyond * base.mean()),
        bool(trips[:, 1::2].min() > beyond * trips[:, ::2].min()),
        bool(stats.ttest_ind(base, head, equal_var=False).pvalue < LEVEL),
    )
