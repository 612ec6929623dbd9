"""Layer normalization (Ba, Kiros & Hinton 2016) with the biased variance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

EPSILON = 1e-5


def layernorm_forward(
    out: Array, mean: Array, rstd: Array, x: Array, gain: Array, shift: Array
) -> None:
    """Out (B,T,D) = gain (x - mean) rstd + shift, rstd = 1 / sqrt(variance + 1e-5).

    Of x (B,T,D), gain and shift (D,); leaves mean and rstd (B,T) for backward.
    """
    mean[...] = x.mean(-1)  # (B,T)
    centered = x - mean[..., None]  # (B,T,D)
    # Not np.var: it takes absolute values, and the complex step needs an analytic path.
    variance = (centered * centered).mean(-1)  # (B,T)
    rstd[...] = 1.0 / np.sqrt(variance + EPSILON)  # (B,T)
    out[...] = gain * (centered * rstd[..., None]) + shift  # (B,T,D)


def layernorm_backward(
    dx: Array,
    dgain: Array,
    dshift: Array,
    dout: Array,
    x: Array,
    mean: Array,
    rstd: Array,
    gain: Array,
) -> None:
    """Add to dx (B,T,D), dgain and dshift (D,).

    dx is added to because x also flows past the norm, along the residual stream.
    """
    normed = (x - mean[..., None]) * rstd[..., None]  # (B,T,D)
    # out = gain * normed + shift
    dgain += (dout * normed).sum((0, 1))
    dshift += dout.sum((0, 1))
    dnormed = dout * gain  # (B,T,D)
    # normed = (x - mean(x)) / sqrt(variance(x) + eps): both means depend on every x of the row
    dx += rstd[..., None] * (
        dnormed
        - dnormed.mean(-1, keepdims=True)
        - normed * (dnormed * normed).mean(-1, keepdims=True)
    )
