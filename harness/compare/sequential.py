"""When enough was seen, and what it says: a look after every round, all of them paid for.

Up to round n equal builds are called different with a probability of at most ALPHA (1 -
(FEWEST-1)/n), a spending function as of Lan & DeMets (1983, "Discrete sequential boundaries for
clinical trials"). How far a look may go is computed from the exact distribution of all looks up to
it, so that a look after every round costs little, and stopping when the answer is clear does not
make false alarms more frequent. The interval of a look (Jennison & Turnbull 1989, "Interim
analyses: the repeated confidence interval approach") is that of the rank-sum test of Mann and
Whitney, stratified by rounds (van Elteren 1960, "On the combination of independent two-sample tests
of Wilcoxon"; inverted as by Hodges & Lehmann 1963): it asks no more than that the processes of a
round of equal builds are exchangeable, and a disturbed one only loses its place in its round,
however slow it is.

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
"""Rounds at the first look."""

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


def decide(base: Floats, head: Floats, minimum_effect: float) -> Decision:
    """What log-speeds (n,2) of n rounds say, where every round from `FEWEST` on was looked at.

    `minimum_effect` is a share: 0.02 is 2%. Raises `ValueError` for fewer than `FEWEST` rounds.
    """
    if len(base) < FEWEST:
        raise ValueError(f"{len(base)} rounds, must be at least {FEWEST}")
    rejected = boundary(len(base))
    center, low, high = shift_interval(base, head, rejected)
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
    tail = float(_null(len(base))[: rejected + 1].sum())
    deviation = (low - high) / 2 / normal.inv_cdf(tail)
    seen = normal.inv_cdf(POWER) * deviation + max((high - low) / 2, most)
    return Decision(outcome, Interval(ratio, bottom, top, 1 - ALPHA), float(np.expm1(seen)))


def shift_interval(first: Floats, second: Floats, rejected: int) -> tuple[float, float, float]:
    """Estimate and interval of how far `second` (n,2) lies above `first` (n,2).

    Of two values of each in a round there are four differences; the test counts those above a
    shift, and rejects it where all but `rejected` of the 4n or fewer lie on one side. So the
    interval of all others ends on differences; it is infinite where nothing is rejected (-1). The
    estimate is the median difference.
    """
    differences = np.sort((second[:, :, None] - first[:, None, :]).ravel())
    center = float(np.median(differences))
    if rejected < 0:
        return center, -np.inf, np.inf
    return center, float(differences[rejected]), float(differences[-1 - rejected])


def rejected_at(rounds: int, level: float) -> int:
    """For `shift_interval`: what a single look, two-sided, rejects at `level`."""
    return _within(_null(rounds), level / 2)


@functools.cache
def boundary(rounds: int) -> int:
    """The same for a look at so many rounds after looks at all from `FEWEST` on."""
    chances, unspent, rejected = np.ones(1), 0.0, -1
    for n in range(1, rounds + 1):
        chances = np.convolve(chances, _null(1))
        unspent += (spent(n) - spent(n - 1)) / 2
        rejected = _within(chances, unspent)
        if rejected >= 0:  # what ends here is at no later look
            unspent -= chances[: rejected + 1].sum()
            chances[: rejected + 1] = chances[len(chances) - rejected - 1 :] = 0.0
    return rejected


def spent(rounds: int) -> float:
    """At most so likely is it that equal builds were called different up to this round."""
    return ALPHA * (1 - (FEWEST - 1) / rounds) if rounds >= FEWEST else 0.0


def _within(chances: Floats, tail: float) -> int:
    """The largest count up to which the chances add up to no more than `tail`; -1: none."""
    return int(np.searchsorted(np.cumsum(chances), tail, side="right")) - 1


@functools.lru_cache(4)
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
