"""How clearly the values before a split of a window differ from those after it.

Promises: ranks alone count. Without a change, the probability of a rate I or more at a given split
is exp(-I) at most in each direction, whatever the distribution of the values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SHORTEST = 4
"""Points on each side of a split, at least."""

CLEAR = 3.0
"""Standard deviations of U below which the rate is taken for 0. A window of 16 points or more is
not significant there at 0.05."""

ITERATIONS = 10
"""Of Newton's method."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def best_splits(windows: Floats) -> tuple[Integers, Floats]:
    """Of each row (rows,l): the first point (rows,) after its clearest split, and the rate (rows,).

    With ranks r from 0 and k points before the split, U = r_1 + .. + r_k - k (k - 1) / 2 is the
    number of pairs that fall; without a change its mean is k (l - k) / 2 and its variance
    k (l - k) (l + 1) / 12 (Mann & Whitney 1947).
    """
    length = windows.shape[1]
    before = np.arange(SHORTEST, length - SHORTEST + 1)
    excess = np.cumsum(_ranks(windows) - (length - 1) / 2, axis=1)[:, before - 1]
    scores = np.abs(excess) / np.sqrt(before * (length - before) * (length + 1) / 12)
    best = scores.argmax(axis=1)
    rows = np.arange(len(windows))
    splits = before[best]
    rates = np.zeros(len(windows))
    clear = scores[rows, best] >= CLEAR
    if clear.any():
        fewer = np.minimum(splits, length - splits)[clear]
        more = length - fewer
        fallen = fewer * more / 2 - np.abs(excess[rows, best][clear])
        rates[clear] = rates_of(fallen, fewer, more)
    return splits, rates


def _ranks(windows: Floats) -> Floats:
    """Ranks (rows,l) from 0 within each row; equal values share the mean of theirs."""

    def earlier_first(rows: Floats) -> Floats:
        order = rows.argsort(axis=1, kind="stable")
        ranks = np.empty(rows.shape)
        np.put_along_axis(ranks, order, np.arange(rows.shape[1], dtype=float)[None], axis=1)
        return ranks

    return (earlier_first(windows) + earlier_first(windows[:, ::-1])[:, ::-1]) / 2


def rates_of(fallen: Floats, fewer: Integers, more: Integers) -> Floats:
    """Of each U (rows,) below its mean, the rate I (rows,) of P(U or less) <= exp(-I).

    That is Chernoff's bound (1952), I = max over t > 0 of -t U - ln M(t), M(t) = E exp(-t U), of
    the exact distribution: with k <= m points on the two sides
    M(t) = prod over i = 1..k of (1 - exp(-t (m + i))) / (1 - exp(-t i)), over binomial(m + k, k).
    Where all values of one side lie below the other's, U = 0, it is P itself. With equal values
    U is the mean over all orders of them, and the bound holds as M is convex.
    """
    k, m, u = (values[:, None] for values in (fewer, more, fallen))
    i = np.arange(1, fewer.max() + 1)[None]
    inside = i <= k
    below, above = np.where(inside, i, 1.0), np.where(inside, m + i, 1.0)  # (rows, k)
    # Newton's method on the derivative, which is convex: from the left, and never too far.
    t: Any = (k * m / 2 - u) / (k * m * (k + m + 1) / 12)
    for _ in range(ITERATIONS):
        small, large = _powers(t * below), _powers(t * above)
        slope = (below / small - above / large).sum(1, keepdims=True) - u
        curvature = below**2 * (1 + small) / small**2 - above**2 * (1 + large) / large**2
        t = t + np.maximum(slope, 0.0) / np.maximum(curvature.sum(1, keepdims=True), 1e-12)
    generating = np.log(-np.expm1(-t * above)) - np.log(-np.expm1(-t * below))
    orders = np.where(inside, np.log(above / below), 0.0)
    rates: Floats = (orders - generating).sum(1) - (t * u)[:, 0]
    return rates


def _powers(exponents: Floats) -> Floats:
    """exp(x) - 1, where larger ones make no difference."""
    return np.expm1(np.minimum(exponents, 300.0))
