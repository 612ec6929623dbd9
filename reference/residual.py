"""Residual addition (He et al. 2015)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def residual_forward(out: Array, x: Array, branch: Array) -> None:
    """Out (B,T,D) = x + branch. Its gradient is dx = dbranch = dout: nothing to compute."""
    np.add(x, branch, out=out)
