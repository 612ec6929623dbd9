"""Sinusoidal positions (Vaswani et al. 2017, section 3.5)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def sinusoidal_positions(length: int, embed_dim: int) -> NDArray[np.float64]:
    """P (length, D) with P[t,2i] = sin(t / 10000^(2i/D)) and P[t,2i+1] = cos of the same.

    An odd D ends on a sine.
    """
    t = np.arange(length)[:, None]  # (T, 1)
    pair = np.arange(embed_dim) // 2  # (D,)
    angle = t / 10000.0 ** (2 * pair / embed_dim)  # (T, D)
    return np.where(np.arange(embed_dim) % 2 == 0, np.sin(angle), np.cos(angle))
