"""When enough was seen, and what it says: looks at paired log-ratios, each of them paid for.

The k-th look may be wrong with probability ALPHA/(k (k+1)), which sums up to ALPHA over any number
of looks (the union bound, as in Bonferroni's inequality), so that looking early and stopping when
the answer is clear does not make false alarms more frequent. The interval of a look is that of a
signed-rank test with Winsorized ranks (Policello & Hettmansperger 1976, "Adaptive robust procedures
for the one-sample location problem"; inverted as by Hodges & Lehmann 1963): it asks no more than
that two processes of equal builds are exchangeable, and a disturbed pair counts no more than one in
the middle, however large its difference.

Promises: `SLOWER` and `FASTER` exclude equality and estimate at least the minimum effect; `SAME`
excludes the minimum effect. Nothing is said from fewer than `FEWEST` pairs.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from cllm.harness.compare.comparison import Interval, Outcome

Floats = NDArray[np.float64]

ALPHA = 0.01
"""Chance that equal builds are called different, over all looks."""

FEWEST = 10
"""Pairs at the first look; fewer cannot reach its level."""

GROWTH = 1.6
"""From one look to the next: 10, 16, 26; at the second one pair may speak against all others."""

POWER = 0.95
"""Of the effect that is called detectable."""


@dataclass(frozen=True)
class Decision:
    """What one look says."""

    outcome: Outcome
    """Inconclusive as long as it is open."""
    interval: Interval
    """Of the ratio of speeds, head over base, at the confidence of the look."""
    detectable: float
    """The smallest effect that would have been seen with probability `POWER`."""


def looks_before(pairs: int) -> int:
    """How many looks there are up to so many pairs."""
    count, at = 0, float(FEWEST)
    while pairs >= round(at):
        count, at = count + 1, at * GROWTH
    return count


def is_look(pairs: int) -> bool:
    """Whether this is a number of pairs to look at."""
    return looks_before(pairs) > looks_before(pairs - 1)


def decide(effects: Sequence[float], minimum_effect: float, alpha: float = ALPHA) -> Decision:
    """What log-ratios (n,) say at the last look that they reach.

    `minimum_effect` is a share: 0.02 is 2%. Raises `ValueError` for fewer than `FEWEST`.
    """
    look = looks_before(len(effects))
    if look == 0:
        raise ValueError(f"{len(effects)} pairs, must be at least {FEWEST}")
    level = alpha / (look * (look + 1))
    center, low, high = signed_rank_interval(effects, level)
    least, most = np.log1p(-minimum_effect), -np.log1p(-minimum_effect)
    if high < 0 and center <= least:
        outcome = Outcome.SLOWER
    elif low > 0 and center >= most:
        outcome = Outcome.FASTER
    elif least < low and high < most:
        outcome = Outcome.SAME
    else:
        outcome = Outcome.INCONCLUSIVE
    ratio, bottom, top = np.exp([center, low, high]).tolist()
    normal = NormalDist()
    deviation = (high - low) / 2 / normal.inv_cdf(1 - level / 2)
    seen = normal.inv_cdf(POWER) * deviation + max((high - low) / 2, most)
    return Decision(outcome, Interval(ratio, bottom, top, 1 - level), float(np.expm1(seen)))


def signed_rank_interval(differences: Sequence[float], level: float) -> tuple[float, float, float]:
    """Estimate and exact interval of confidence 1 - `level` of the center of differences (n,).

    The interval holds the centers that the test at `level`, two-sided, does not reject, and ends on
    averages of pairs (Walsh averages); it is infinite where so few differences reject nothing. The
    estimate is the center that the test finds most likely.
    """
    values = np.asarray(differences, np.float64)
    first, second = np.triu_indices(len(values))
    walsh = np.unique((values[first] + values[second]) / 2)
    chances = _null(len(values))
    rejected = int(np.searchsorted(np.cumsum(chances), level / 2, side="right")) - 1
    above, below = (_crossing(values, walsh, sign, (len(chances) - 1) / 2) for sign in (1, -1))
    center = (above + below) / 2
    if rejected < 0:
        return center, -np.inf, np.inf
    high, low = (_crossing(values, walsh, sign, rejected) for sign in (1, -1))
    return center, low, high


def _crossing(values: Floats, walsh: Floats, sign: int, most: float) -> float:
    """The Walsh average beyond which the ranks on its far side sum up to `most` or less.

    Beyond is above for `sign` 1 and below for -1. Between two Walsh averages no rank changes.
    """
    ends = walsh[::sign]
    centers = (ends[:-1] + ends[1:]) / 2

    def is_beyond(place: int) -> bool:
        further = sign * (values - centers[place])
        ranks = np.empty(len(values))
        ranks[np.argsort(np.abs(further))] = _ranks(len(values))
        return bool(ranks[further > 0].sum() <= most)

    return float(ends[bisect.bisect_left(range(len(centers)), True, key=is_beyond)])


def _ranks(count: int) -> Floats:
    """1, 2, ..., half of `count`, and from there on the same."""
    ranks: Floats = np.minimum(np.arange(1.0, count + 1), (count + 1) // 2)
    return ranks


@functools.cache
def _null(count: int) -> Floats:
    """Probabilities of the sum of ranks 0, 1, ... where signs are tossed."""
    chances = np.ones(1)
    for rank in _ranks(count).astype(int).tolist():
        longer = np.zeros(len(chances) + rank)
        longer[: len(chances)] = chances / 2
        longer[rank:] += chances / 2
        chances = longer
    return chances
