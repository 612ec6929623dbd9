"""Matrix product with an optional bias."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def linear_forward(out: Array, x: Array, weight: Array, bias: Array | None) -> None:
    """Out (B,T,M) = x W + b, of x (B,T,K), W (K,M) and b (M,) or None."""
    np.matmul(x, weight, out=out)  # (B,T,M)
    if bias is not None:
        out += bias


def linear_backward(
    dx: Array, dweight: Array, dbias: Array | None, dout: Array, x: Array, weight: Array
) -> None:
    """Write dx (B,T,K), add to dweight (K,M) and dbias (M,) or None."""
    # out = x @ weight + bias
    np.matmul(dout, weight.T, out=dx)  # (B,T,K)
    rows = dout.reshape(-1, dout.shape[-1])  # (N,M)
    dweight += x.reshape(-1, x.shape[-1]).T @ rows  # (K,M)
    if dbias is not None:
        dbias += rows.sum(0)
