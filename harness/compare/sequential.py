"""When enough was seen, and what it says: looks at rounds of both sides, each of them paid for.

The k-th look may be wrong with probability ALPHA/(k (k+1)), which sums up to ALPHA over any number
of looks (the union bound, as in Bonferroni's inequality), so that looking early and stopping when
the answer is clear does not make false alarms more frequent. The interval of a look is that of the
rank-sum test of Mann and Whitney, stratified by rounds (van Elteren 1960, "On the combination of
independent two-sample tests of Wilcoxon"; inverted as by Hodges & Lehmann 1963): it asks no more
than that the processes of a round of equal builds are exchangeable, and a disturbed one only loses
its place in its round, however slow it is.

Promises: `SLOWER` and `FASTER` exclude equality and estimate at least the minimum effect; `SAME`
excludes the minimum effect. Nothing is said from fewer than `FEWEST` rounds.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from cllm.harness.compare.comparison import Interval, Outcome

Floats = NDArray[np.float64]

ALPHA = 0.01
"""Chance that equal builds are called different, over all looks."""

SIDE = 2
"""Processes of a side in a round."""

FEWEST = 5
"""Rounds at the first look; fewer cannot reach its level."""

GROWTH = 1.5
"""From one look to the next: 5, 8, 11, 17."""

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


def looks_before(rounds: int) -> int:
    """How many looks there are up to so many rounds."""
    count, at = 0, float(FEWEST)
    while rounds >= round(at):
        count, at = count + 1, at * GROWTH
    return count


def is_look(rounds: int) -> bool:
    """Whether this is a number of rounds to look at."""
    return looks_before(rounds) > looks_before(rounds - 1)


def decide(base: Floats, head: Floats, minimum_effect: float, alpha: float = ALPHA) -> Decision:
    """What log-speeds (n,2) of n rounds say at the last look that they reach.

    `minimum_effect` is a share: 0.02 is 2%. Raises `ValueError` for fewer than `FEWEST` rounds.
    """
    look = looks_before(len(base))
    if look == 0:
        raise ValueError(f"{len(base)} rounds, must be at least {FEWEST}")
    level = alpha / (look * (look + 1))
    center, low, high = shift_interval(base, head, level)
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


def shift_interval(first: Floats, second: Floats, level: float) -> tuple[float, float, float]:
    """Estimate and exact interval of confidence 1 - `level` of how far `second` (n,2) lies above.

    Of two values of `first` (n,2) and two of `second` in each round there are four differences; the
    test counts those above a shift. So the interval, of the shifts that it does not reject at
    `level`, two-sided, ends on differences; it is infinite where so few rounds reject nothing. The
    estimate is the median difference.
    """
    differences = np.sort((second[:, :, None] - first[:, None, :]).ravel())
    rejected = int(np.searchsorted(np.cumsum(_null(len(first))), level / 2, side="right")) - 1
    center = float(np.median(differences))
    if rejected < 0:
        return center, -np.inf, np.inf
    return center, float(differences[rejected]), float(differences[-1 - rejected])


@functools.cache
def _null(rounds: int) -> Floats:
    """Probabilities of 0, 1, ... differences above 0 where all orders in a round are as likely."""
    counts = [
        sum(one > other for one in mine for other in range(2 * SIDE) if other not in mine)
        for mine in combinations(range(2 * SIDE), SIDE)
    ]
    of_one = np.bincount(counts) / len(counts)
    chances = np.ones(1)
    for _ in range(rounds):
        chances = np.convolve(chances, of_one)
    return chances
