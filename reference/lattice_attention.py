"""Attention on the lattice: a score is lowered by how far the key's token lies from the query's.

s_ij = q_i·k_j / sqrt(D/H) - sum over d of softplus(w_hd) d(t_i, t_j), of the three distances of
`cllm.lattice.distances` and one learned w for each head and distance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.lattice.distances import distances_of
from cllm.reference.attention import _backward, _decode, _forward

Array = NDArray[Any]


def lattice_attention_forward(
    out: Array, lse: Array, qkv: Array, tokens: Array, weight: Array, vocab_size: int
) -> None:
    """`attention_forward` of qkv (B,T,3D), lowered by weight (H,3) and tokens (B,T) of V ids."""
    bias, _ = _bias(tokens, weight, vocab_size)
    _forward(out, lse, qkv, weight.shape[0], bias)


def lattice_attention_backward(
    dqkv: Array,
    dweight: Array,
    dout: Array,
    qkv: Array,
    out: Array,
    lse: Array,
    tokens: Array,
    weight: Array,
    vocab_size: int,
) -> None:
    """Write dqkv (B,T,3D), add to dweight (H,3)."""
    bias, distances = _bias(tokens, weight, vocab_size)
    dbias = _backward(dqkv, dout, qkv, out, lse, weight.shape[0], bias)  # (B,H,T,T)
    # bias = softplus(weight) · distances; softplus' is the logistic function, exp(-softplus(-x))
    found = np.tensordot(dbias, distances, ([0, 2, 3], [1, 2, 3]))  # (H,3)
    dweight += found * np.exp(-_softplus(-weight))


def lattice_attention_decode(
    out: Array,
    keys: Array,
    values: Array,
    qkv: Array,
    position: int,
    window: Array,
    weight: Array,
    vocab_size: int,
) -> None:
    """`attention_decode` of the token at `position` of window (T,); the last row of forward."""
    seen = window[: position + 1]  # (S,)
    distances = _distances(seen[-1], seen, vocab_size, weight.dtype)  # (3,S)
    bias = _softplus(weight) @ distances  # (H,S)
    _decode(out, keys, values, qkv, position, weight.shape[0], bias)


def _bias(tokens: Array, weight: Array, vocab_size: int) -> tuple[Array, Array]:
    """What lowers the scores (B,H,T,T), and the distances (3,B,T,T) that it is made of."""
    queries, keys = tokens[:, :, None], tokens[:, None, :]
    distances = _distances(queries, keys, vocab_size, weight.dtype)
    return np.einsum("hd,dbij->bhij", _softplus(weight), distances), distances


def _distances(i: Array, j: Array, vocab_size: int, dtype: np.dtype[Any]) -> Array:
    return distances_of(vocab_size).between(i, j).astype(dtype)


def _softplus(x: Array) -> Array:
    """ln(1 + exp(x)) = max(x, 0) + ln(1 + exp(-|x|)); by the real part's sign where complex."""
    folded = np.where(x.real > 0.0, -x, x)
    result: Array = np.where(x.real > 0.0, x, 0.0) + np.log1p(np.exp(folded))
    return result.astype(x.dtype)
