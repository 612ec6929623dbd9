"""Logits from the tied embedding (Press & Wolf 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def unembedding_forward(logits: Array, x: Array, weight: Array) -> None:
    """Logits (B,T,V) = x Eᵀ, of x (B,T,D) and E (V,D)."""
    np.matmul(x, weight.T, out=logits)  # (B,T,V)


def unembedding_backward(
    dx: Array, dweight: Array, dlogits: Array, x: Array, weight: Array
) -> None:
    """Write dx (B,T,D), add to dweight (V,D)."""
    # logits = x @ weight.T
    np.matmul(dlogits, weight, out=dx)  # (B,T,D)
    rows = dlogits.reshape(-1, dlogits.shape[-1])  # (N,V)
    dweight += rows.T @ x.reshape(-1, x.shape[-1])  # (V,D)
