"""What tokens of twelve classes turn: queries and keys, by the action of Z_12 on each head.

See `cllm.lattice.symmetry`. A common turn of a query and a key changes no score.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.lattice.symmetry import symmetry_class, turn

Array = NDArray[Any]


def symmetry_forward(qkv: Array, tokens: Array, num_heads: int) -> None:
    """Turn q and k of qkv (B,T,3D) where they are: R_g per head, g = i mod 12 of tokens (B,T)."""
    _turn(qkv, symmetry_class(tokens), num_heads)


def symmetry_backward(dqkv: Array, tokens: Array, num_heads: int) -> None:
    """From the gradient of the turned q and k to that of q and k, where they are in dqkv (B,T,3D).

    R_g is orthogonal: its transpose is R_(-g).
    """
    _turn(dqkv, -symmetry_class(tokens), num_heads)


def _turn(qkv: Array, g: Array, num_heads: int) -> None:
    q, k, _ = np.split(qkv, 3, axis=-1)  # (B,T,D) each
    for x in (q, k):
        heads = x.reshape(*g.shape, num_heads, -1)  # (B,T,H,D/H)
        x[...] = turn(heads, g[..., None]).reshape(x.shape)
