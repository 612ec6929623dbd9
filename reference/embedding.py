"""Token embedding with fixed positions.

Legend for shapes here and in every file of this folder: B batch rows, T tokens per row, V
vocabulary size, D embedding width, L layers, H heads, F feed-forward width.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def embedding_forward(out: Array, tokens: Array, weight: Array, positions: Array) -> None:
    """Out (B,T,D) = sqrt(D) E[t] + P, of tokens (B,T) int32, E (V,D) and P (>=T,D).

    The scale is that of Vaswani et al. 2017, section 3.4.
    """
    scale = math.sqrt(weight.shape[1])
    out[...] = scale * weight[tokens] + positions[: tokens.shape[1]]  # (B,T,D)


def embedding_backward(dweight: Array, dout: Array, tokens: Array) -> None:
    """Add to dweight (V,D); a token that occurs twice adds twice."""
    # out = scale * weight[tokens] + positions
    scale = math.sqrt(dweight.shape[1])
    np.add.at(dweight, tokens, scale * dout)
