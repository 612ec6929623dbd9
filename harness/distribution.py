"""From which tokens is drawn, how probably, and whether draws are like that.

Promises: the definition of `cllm.Sampling` once more, in float64 and from nobody's code; what
rounding could decide either way is not judged. `unlike_counts` is the chi-squared test of Pearson
(1900) with a bound that holds for any number of degrees of freedom (Laurent & Massart 2000,
lemma 1): P(X >= d + 2 sqrt(d x) + 2 x) <= exp(-x).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cllm.decoder import Sampling
from cllm.harness.verdict import Inconclusive

FALSE_ALARM = 1e-9
"""Probability that draws of the exact distribution are called unlike it."""

LEAST_EXPECTED = 5.0
"""Tokens expected less often than this are counted together: below, the statistic is no longer
distributed as chi-squared."""

Floats = NDArray[np.float64]
Ids = NDArray[np.int32]


def distribution(logits: Floats, sampling: Sampling, error: float) -> Floats:
    """Probabilities (V,) of logits (V,) that are known to `error`.

    Raises `Inconclusive` where that error decides which tokens are kept. Equal logits are equal.
    """
    order = np.argsort(-logits, kind="stable")  # (V,), of equals by rising id
    kept = 1 if sampling.temperature == 0 else min(sampling.top_k or len(order), len(order))
    _require_apart(logits[order], kept, error)
    temperature = sampling.temperature or 1.0
    weights = np.exp((logits[order] - logits[order[0]]) / temperature)  # (V,)
    if sampling.top_p < 1.0 and kept > 1:
        cumulative = np.cumsum(weights[:kept]) / weights[:kept].sum()
        slack = _relative(error, temperature)
        if (np.abs(cumulative - sampling.top_p) <= slack).any():
            raise Inconclusive("a sum of probabilities is within rounding of top_p")
        kept = 1 + int((cumulative < sampling.top_p).sum())
        _require_apart(logits[order], kept, error)
    probs = np.zeros(len(logits))
    probs[order[:kept]] = weights[:kept] / weights[:kept].sum()
    return probs


def _require_apart(falling: Floats, kept: int, error: float) -> None:
    """Raise `Inconclusive` unless the last logit that is kept is above, or just, the next."""
    if kept < len(falling) and 0.0 < falling[kept - 1] - falling[kept] <= 2 * error:
        raise Inconclusive("two logits are within rounding of each other")


def _relative(error: float, temperature: float) -> float:
    """By how much at most logits with this error move a sum of probabilities; and float64."""
    return math.expm1(2 * error / temperature) + 1e-12


def first_unlike(
    tokens: Ids, probs: Floats, uniforms: Floats, sampling: Sampling, error: float
) -> str:
    """The first token (n,) that its uniform (n,) does not fall on, of probs (n,V); else empty.

    Uniforms within rounding of a boundary between two tokens are left out.
    """
    upper = np.cumsum(probs, -1)  # (n,V)
    slack = _relative(error, sampling.temperature or 1.0)
    expected = np.argmax(upper > uniforms[:, None] * upper[:, -1:], -1)  # (n,)
    clear = (np.abs(upper - uniforms[:, None])[:, :-1] > slack) | (probs[:, 1:] == 0.0)
    clear |= upper[:, :-1] == 0.0
    wrong = clear.all(-1) & (tokens != expected)
    if not wrong.any():
        return ""
    i = int(wrong.argmax())
    return (
        f"draw {i}: got token {tokens[i]}, expected {expected[i]}: {uniforms[i]:.6g} falls on it "
        f"where the probabilities of the two are {probs[i, tokens[i]]:.3g} and "
        f"{probs[i, expected[i]]:.3g}"
    )


def unlike_counts(tokens: Ids, contexts: Ids, probs: Floats) -> str:
    """How tokens (n,) drawn after contexts (n,) are unlike probs (C,V) by context; else empty."""
    statistic, freedom = 0.0, 0
    worst = (0.0, "")
    for context, exact in enumerate(probs):
        after = tokens[contexts == context]
        expected = len(after) * exact
        counts = np.bincount(after, minlength=len(exact)).astype(np.float64)
        if counts[exact == 0].any():
            token = int(np.flatnonzero((exact == 0) & (counts > 0))[0])
            return f"token {token} was drawn {counts[token]:.0f} times, and has probability 0"
        often = expected >= LEAST_EXPECTED
        cells = [(int(i), counts[i], expected[i]) for i in np.flatnonzero(often)]
        rest = counts[~often].sum(), expected[~often].sum()
        excess = [(count - mean) ** 2 / mean for _, count, mean in cells]
        if rest[1] >= LEAST_EXPECTED:
            excess.append((rest[0] - rest[1]) ** 2 / rest[1])
        if len(excess) < 2:
            continue
        statistic += sum(excess)
        freedom += len(excess) - 1
        for (token, count, mean), share in zip(cells, excess, strict=False):
            what = f"token {token} was drawn {count:.0f} times after {context}, expected {mean:.1f}"
            worst = max(worst, (share, what))
    limit = chi_squared_limit(freedom)
    if statistic <= limit:
        return ""
    return f"{worst[1]}; chi-squared {statistic:.4g} with {freedom} degrees, at most {limit:.4g}"


def chi_squared_limit(freedom: int) -> float:
    """What chi-squared with so many degrees of freedom passes at most once in 10⁹ times."""
    x = -math.log(FALSE_ALARM)
    return freedom + 2 * math.sqrt(freedom * x) + 2 * x
