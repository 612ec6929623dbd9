"""Change points on series whose changes are known: ours beside published methods.

Promises: every method gets the same series; a change that is found counts if it lies within
`NEAR` points of one that is there, each for one other at most; shares have Wilson's interval
(1927) of 95%.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from cllm.harness.history.changepoints import change_points
from cllm.harness.history.trial import synthetic_series
from cllm.harness.history.trial.rivals import Method
from cllm.harness.history.trial.synthetic_series import NOISES, Drawn, normal

NEAR = 5
"""Points by which a change may be misplaced."""

Draw = Callable[[np.random.Generator], Drawn]

LENGTHS = (50, 200, 1000)
TIMED_LENGTHS = (200, 1000, 5000)


@dataclass(frozen=True)
class Case:
    """One way to draw series."""

    name: str
    draw: Draw


@dataclass
class Tally:
    """What one method made of the series of one case."""

    series: int = 0
    points: int = 0
    changes: int = 0
    """That are there."""
    found: int = 0
    matched: int = 0
    with_any: int = 0
    """Series in which something was found."""
    seconds: float = 0.0

    def add(self, drawn: Drawn, found: Sequence[int], seconds: float) -> None:
        """One more series."""
        self.series += 1
        self.points += len(drawn.values)
        self.changes += len(drawn.changes)
        self.found += len(found)
        self.matched += matches(drawn.changes, found)
        self.with_any += bool(found)
        self.seconds += seconds

    def __add__(self, other: Tally) -> Tally:
        """Both."""
        names = self.__dataclass_fields__
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in names})


def matches(changes: Iterable[int], found: Iterable[int]) -> int:
    """How many changes have one that was found within `NEAR` points, each another one."""
    left = list(found)
    count = 0
    for change in changes:
        near = [at for at in left if abs(at - change) <= NEAR]
        if near:
            left.remove(min(near, key=lambda at: abs(at - change)))
            count += 1
    return count


def wilson(successes: int, trials: int) -> tuple[float, float, float]:
    """The share, and the ends of its interval of 95%."""
    z = 1.96
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    spread = math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    spread *= z / (1 + z * z / trials)
    return share, max(0.0, middle - spread), min(1.0, middle + spread)


QUIET = [
    Case(f"{name}; {n:,} points", partial(synthetic_series.quiet, noise=noise, n=n))
    for name, noise in NOISES.items()
    for n in LENGTHS
]
STEPS = [
    Case(f"{size} σ; {n:,} points", partial(synthetic_series.step, noise=normal, n=n, size=size))
    for n in LENGTHS
    for size in (1, 2, 3, 5, 10)
]
MENDED = [
    Case(
        f"{size} σ for {length} points",
        partial(synthetic_series.mended, noise=normal, n=200, size=size, length=length),
    )
    for size in (3, 5)
    for length in (10, 20, 50)
]
SEVERAL = [
    Case(
        f"{count} steps of {size} σ; {n:,} points",
        partial(synthetic_series.several, noise=normal, n=n, size=size, count=count),
    )
    for n, count in ((500, 5), (1000, 10))
    for size in (2, 3, 5)
]
OTHER_NOISES = [
    Case(
        f"{size} σ; {name}",
        partial(synthetic_series.step, noise=noise, n=200, size=size),
    )
    for name, noise in NOISES.items()
    if noise is not normal
    for size in (3, 5)
]
DRIFTS = [
    Case(
        f"{size} σ over {n:,} points", partial(synthetic_series.drift, noise=normal, n=n, size=size)
    )
    for n in (200, 1000)
    for size in (2, 5, 10)
]
TIMED = [
    Case(
        f"{n:,} points",
        partial(synthetic_series.several, noise=normal, n=n, size=5, count=n // 100),
    )
    for n in TIMED_LENGTHS
]
GROUPS = (QUIET, STEPS, MENDED, SEVERAL, OTHER_NOISES, DRIFTS)

Tallies = dict[str, dict[str, Tally]]
"""By case and method."""


@dataclass(frozen=True)
class Trial:
    """Everything that was found."""

    methods: Sequence[Method]
    tallies: Tallies
    gradual: dict[str, tuple[int, int]]
    """Of drifts and steps, how many of our changes were called gradual, of how many."""
    series: int
    seed: int
    seconds: float


def run(
    methods: Sequence[Method],
    series: int,
    seed: int,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Trial:
    """Try the methods on `series` series of each case."""
    start = time.perf_counter()
    cases = [case for group in GROUPS for case in group]
    work = [(case, series) for case in cases] + [(case, 5) for case in TIMED]
    tallies: Tallies = {}
    gradual: dict[str, tuple[int, int]] = {}
    for number, (case, count) in enumerate(work):
        progress(f"series: {case.name}", number, len(work))
        generator = np.random.default_rng((seed, number))
        tallies[case.name] = {method.name: Tally() for method in methods}
        called = found = 0
        for _ in range(count):
            drawn = case.draw(generator)
            for method in methods:
                began = time.perf_counter()
                points = method.find(drawn.values)
                tallies[case.name][method.name].add(drawn, points, time.perf_counter() - began)
            if case in DRIFTS or case in STEPS:
                ours = change_points(drawn.values)
                called, found = called + sum(p.gradual for p in ours), found + len(ours)
        gradual[case.name] = called, found
    progress("series", len(work), len(work))
    return Trial(methods, tallies, gradual, series, seed, time.perf_counter() - start)
