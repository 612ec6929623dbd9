"""Cross entropy of a softmax over the vocabulary, in nats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def cross_entropy_forward(losses: Array, logits: Array, targets: Array) -> None:
    """Losses (B,T) = -log softmax(logits)[target], 0 where the target is -1.

    Of logits (B,T,V) and targets (B,T) int32 in -1..V-1.
    """
    top = logits.real.max(-1)  # (B,T); only shifts, so its derivative is not needed
    lse = np.log(np.exp(logits - top[..., None]).sum(-1)) + top  # (B,T)
    counted = targets >= 0  # (B,T)
    picked = np.take_along_axis(logits, np.where(counted, targets, 0)[..., None], -1)[..., 0]
    losses[...] = np.where(counted, lse - picked, 0.0)


def cross_entropy_backward(dlogits: Array, logits: Array, targets: Array, divisor: float) -> None:
    """Write dlogits (B,T,V), the gradient of sum(losses) / divisor; may be `logits` itself."""
    # losses = log(sum(exp(logits))) - logits[target]
    counted = targets >= 0  # (B,T)
    probs = np.exp(logits - logits.max(-1, keepdims=True))  # (B,T,V)
    probs /= probs.sum(-1, keepdims=True)
    rows, columns = np.nonzero(counted)
    probs[rows, columns, targets[counted]] -= 1.0
    dlogits[...] = np.where(counted[..., None], probs / divisor, 0.0)
