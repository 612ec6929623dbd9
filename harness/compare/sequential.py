"""When enough was seen, and what it says: looks at paired log-ratios, each of them paid for.

The k-th look may be wrong with probability ALPHA/(k (k+1)), which sums up to ALPHA over any number
of looks (the union bound, as in Bonferroni's inequality), so that looking early and stopping when
the answer is clear does not make false alarms more frequent. The interval of a look is that of the
Wilcoxon signed-rank test (Hodges & Lehmann 1963, "Estimates of location based on rank tests"): it
asks no more than that two processes of equal builds are exchangeable, and a few disturbed pairs do
not move it.

Promises: `SLOWER` and `FASTER` exclude equality and estimate at least the minimum effect; `SAME`
excludes the minimum effect. Nothing is said from fewer than `FEWEST` pairs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from cllm.harness.compare.comparison import Interval, Outcome

ALPHA = 0.01
"""Chance that equal builds are called different, over all looks."""

FEWEST = 10
"""Pairs at the first look; fewer cannot reach its level."""

GROWTH = 1.4
"""From one look to the next."""

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
    """Hodges–Lehmann estimate and exact interval of confidence 1 - `level` of a center.

    The median of the averages of all pairs (Walsh averages), and those averages that the
    signed-rank test at `level`, two-sided, does not reject; infinite where so few differences
    reject nothing.
    """
    values = np.asarray(differences, np.float64)
    first, second = np.triu_indices(len(values))
    walsh = np.sort((values[first] + values[second]) / 2)  # (n(n+1)/2,)
    tail = np.cumsum(_null(len(values)))
    rejected = int(np.searchsorted(tail, level / 2, side="right"))  # P(W < rejected) <= level/2
    center = float(np.median(walsh))
    if rejected == 0:
        return center, -np.inf, np.inf
    return center, float(walsh[rejected - 1]), float(walsh[-rejected])


@functools.cache
def _null(count: int) -> NDArray[np.float64]:
    """Probabilities of the signed-rank statistic 0..n(n+1)/2 where signs are tossed."""
    chances = np.ones(1)
    for rank in range(1, count + 1):
        longer = np.zeros(len(chances) + rank)
        longer[: len(chances)] = chances / 2
        longer[rank:] += chances / 2
        chances = longer
    return chances
