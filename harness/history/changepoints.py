"""Where the level of a series changed.

Promises: among series that only fluctuate, whatever the distribution of their values, at most a
share of `significance` gets any change point; outliers are no change; the same series gives the
same change points; numbers that are missing or not finite are passed over, and so is a series of
fewer than `FEWEST` numbers. 5,000 points take some hundredths of a second.
Leaves out: fluctuation that remembers (each value near the one before it): its waves are changes.

The method is seeded binary segmentation (Kovács, Bühlmann, Li & Munk 2023): windows of falling
lengths lie over the whole series, so that a change that was later taken back has windows of its
own, and the narrowest windows that show a change are taken first (Baranowski, Chen & Fryzlewicz
2019). In a window, the split is sought whose Mann-Whitney statistic is furthest from what it is
without a change (Pettitt 1979). It sees ranks alone: an outlier weighs no more than any other
point, and what the statistic does without a change is known exactly for every distribution.
E-divisive means (Matteson & James 2014) costs the square of the length and a thousand permutations
for a p-value of 0.001; with a t-test in their place (Hunter: Fleming et al. 2023) it takes outliers
for noise, noise that is not normal for changes, and its false alarms grow with the series.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from cllm.errors import CllmError
from cllm.harness.history.mann_whitney import SHORTEST, Floats, Integers, best_splits

SIGNIFICANCE = 0.01

FEWEST = 4 * SHORTEST
"""Points that a window needs; fewer than these cannot be significant."""

CLOSE = 64
"""Points of windows that begin at every fourth: a level that does not last fills one of them."""

TESTS = 6
"""Independent tests that the windows amount to for each point of a series: 2 to 5 were measured on
50 to 2,000 points, by how many series without any change reach a rate."""


@dataclass(frozen=True)
class ChangePoint:
    """The level of a series changes."""

    index: int
    """Of the first value of the new level."""
    before: float
    """Median from the change point before it."""
    after: float
    """Median up to the next one."""
    p_value: float
    """How probably as many values that only fluctuate would show any change as clear as this."""
    gradual: bool
    """Whether the levels drift into each other; one drift may be found as several changes."""


def change_points(values: ArrayLike, *, significance: float = SIGNIFICANCE) -> list[ChangePoint]:
    """The change points of a series (n,), in its order.

    `significance` is the probability that one without any change gets a change point, below 1.
    Raises `CllmError` where that is out of range, or the values are not one row of numbers.
    """
    if not 0.0 < significance < 1.0:
        raise CllmError(f"significance must lie between 0 and 1: got {significance!r}")
    series = _as_series(values)
    kept = np.flatnonzero(np.isfinite(series))
    series = series[kept]
    n = len(series)
    if n < FEWEST:
        return []
    least = math.log(TESTS * n / significance)
    found = _settle(series, _narrowest_first(series, least), least)
    splits = [split for split, _ in found]
    levels = [float(np.median(part)) for part in np.split(series, splits)]
    gradual = _gradual(series, splits, levels)
    return [
        ChangePoint(int(kept[split]), before, after, TESTS * n * math.exp(-rate), drifts)
        for (split, rate), (before, after), drifts in zip(
            found, pairwise(levels), gradual, strict=True
        )
    ]


def _as_series(values: ArrayLike) -> Floats:
    try:
        series = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise CllmError(f"a series must be numbers: {error}") from error
    if series.ndim != 1:
        raise CllmError(f"a series must have one axis: got shape {series.shape}")
    return series


def _seeded_windows(n: int) -> Iterator[tuple[int, Integers]]:
    """Lengths and starts of windows over n points: each layer shorter by sqrt(2), overlapping."""
    exact = float(n)
    while (length := int(exact)) >= FEWEST:
        shift = SHORTEST if length <= CLOSE else exact / 2
        count = math.ceil((n - length) / shift) + 1
        yield length, np.linspace(0, n - length, count).round().astype(np.int64)
        exact /= math.sqrt(2)


def _narrowest_first(series: Floats, least: float) -> list[int]:
    """Splits of the narrowest windows whose rate is `least` or more; each lies in one of them."""
    shown: list[tuple[int, float, int, int]] = []
    for length, starts in _seeded_windows(len(series)):
        splits, rates = best_splits(series[starts[:, None] + np.arange(length)])
        for i in np.flatnonzero(rates >= least):
            shown.append((length, -float(rates[i]), int(starts[i]), int(splits[i])))
    found: list[int] = []
    for length, _, start, split in sorted(shown):
        after = bisect.bisect_right(found, start)  # the first that lies behind the start
        if after == len(found) or found[after] >= start + length:
            bisect.insort(found, start + split)
    return found


def _settle(series: Floats, found: Sequence[int], least: float) -> list[tuple[int, float]]:
    """Each split with its rate, sought anew between its neighbors; the weakest go one by one."""
    splits = list(found)
    while splits:
        rates = []
        for i, stop in enumerate([*splits[1:], len(series)]):
            start = splits[i - 1] if i else 0
            split, rate = best_splits(series[None, start:stop])
            splits[i] = start + _place(series[start:stop], int(split[0]))
            rates.append(float(rate[0]))
        weakest = int(np.argmin(rates))
        if rates[weakest] >= least:
            return [*zip(splits, rates, strict=True)]
        del splits[weakest]
    return []


def _place(segment: Floats, split: int) -> int:
    """Where the absolute residuals from the two medians are least, near a split of a segment (n,).

    Ranks tell surely that there is a change, but not to the point where.
    """
    before, after = np.median(segment[:split]), np.median(segment[split:])
    costs = np.cumsum(np.abs(segment - before) - np.abs(segment - after))
    return SHORTEST + int(np.argmin(costs[SHORTEST - 1 : len(segment) - SHORTEST]))


def _gradual(series: Floats, splits: Sequence[int], levels: Sequence[float]) -> list[bool]:
    """Of each split, whether it is part of a drift.

    That are changes of one direction, one after another, that a straight line fits better than the
    levels do, by the sum of absolute residuals; the line is Theil's (1950), by the medians. What
    lies before the first change and after the last is looked at as far as the next level is long.
    """
    bounds = [0, *splits, len(series)]
    widths = np.diff(bounds)
    rises = np.diff(levels) > 0
    gradual: list[bool] = []
    while (first := len(gradual)) < len(splits):
        last = first
        while last + 1 < len(splits) and rises[last + 1] == rises[first]:
            last += 1
        start = splits[first] - min(widths[first], widths[first + 1])
        stop = splits[last] + min(widths[last + 1], widths[last])
        steps = np.repeat(levels, widths)[start:stop]
        gradual += [_is_line(series[start:stop], steps)] * (last + 1 - first)
    return gradual


def _is_line(points: Floats, steps: Floats) -> bool:
    """Whether a line lies nearer to points (n,) than steps (n,) do."""
    n, half = len(points), len(points) // 2
    slope = float(np.median(points[-half:] - points[:half])) / (n - half)
    line = slope * np.arange(n)
    line += np.median(points - line)
    return bool(np.abs(points - line).sum() < np.abs(points - steps).sum())
