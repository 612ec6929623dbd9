"""Drawing a token from logits: temperature, top-k, and top-p (Holtzman et al. 2019)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def sample(
    logits: Array, temperature: float, top_k: int | None, top_p: float, uniform: float
) -> int:
    """The token id that `uniform` in [0,1) falls on, of logits (V,).

    By falling logit, equal ones by rising id, the `top_k` first are kept, of these the fewest
    whose share of the probability reaches `top_p`. The token drawn is the first of these, by
    rising id, whose cumulative probability exceeds `uniform`. Temperature 0 gives the first.
    Computed in float64.
    """
    order = np.argsort(-logits, kind="stable")[:top_k]  # (K,)
    if temperature == 0.0:
        return int(order[0])
    kept = logits[order].astype(np.float64)
    with np.errstate(over="ignore"):  # to minus infinity, whose weight is 0
        weights = np.exp((kept - kept[0]) / temperature)  # (K,)
    if top_p < 1.0:
        cumulative = weights.cumsum()
        order = order[: np.searchsorted(cumulative, top_p * cumulative[-1]) + 1]
    by_id = order.argsort()
    cumulative = weights[by_id].cumsum()
    drawn = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    return int(order[by_id[min(int(drawn), len(order) - 1)]])
