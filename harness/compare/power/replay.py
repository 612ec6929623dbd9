"""Comparisons over what was recorded, by the rules of a live one.

Promises: the same code decides (`cllm.harness.compare.run.measure`), on a contiguous stretch of
recorded rounds from some start on; the clock is the recording's, of the share of a round that a
live one, of four processes, takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cllm.harness.compare.comparison import Entry, Outcome
from cllm.harness.compare.power.record import BASE, Moment, Recording, benchmark
from cllm.harness.compare.run import Round, measure
from cllm.harness.compare.session import Visited

LIVE_PROCESSES = 4
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
    moments = recording.moments
    lengths = np.cumsum([_live_seconds(recording, moment) for moment in moments])
    last = int(np.searchsorted(lengths, lengths[-1] - budget))
    if last < 1:
        raise ValueError(f"recorded are {lengths[-1]:.0f} s of comparisons, must be over {budget}")
    for start in np.random.default_rng(seed).integers(0, last, count).tolist():
        yield _trial(recording, head, start, budget, minimum_effect)


def _trial(
    recording: Recording, head: str, start: int, budget: float, minimum_effect: float
) -> Trial:
    at, spent = start, 0.0
    work = benchmark(recording.threads)

    def visit() -> Round:
        nonlocal at, spent
        moment = recording.moments[at]
        at, spent = at + 1, spent + _live_seconds(recording, moment)
        return Round(
            [
                Visited((), 1, trips, 0.0)
                for pair in zip(moment.trips[BASE], moment.trips[head], strict=True)
                for trips in pair
            ],
            0.0,
        )

    entry: Entry = measure(
        work,
        visit,
        budget=budget,
        minimum_effect=minimum_effect,
        seed=0,
        progress=lambda what, done, total: None,
        clock=lambda: spent,
    )
    used = recording.moments[start:at]
    return Trial(entry.outcome, spent, len(used), *_others(used, head, minimum_effect))


def _live_seconds(recording: Recording, moment: Moment) -> float:
    return moment.seconds * LIVE_PROCESSES / (2 * len(recording.work))


def _others(used: Sequence[Moment], head: str, minimum_effect: float) -> tuple[bool, bool, bool]:
    """The rules of pytest-benchmark's --benchmark-compare-fail (mean and min), and a t-test."""
    base_mean, head_mean = (
        np.array([moment.mean[build] for moment in used]).ravel() for build in (BASE, head)
    )
    base_fastest, head_fastest = (
        min(trip for moment in used for trips in moment.trips[build] for trip in trips)
        for build in (BASE, head)
    )
    beyond = 1 + minimum_effect
    return (
        bool(head_mean.mean() > beyond * base_mean.mean()),
        bool(head_fastest > beyond * base_fastest),
        bool(stats.ttest_ind(base_mean, head_mean, equal_var=False).pvalue < LEVEL),
    )
