"""Causal multi-head self-attention (Vaswani et al. 2017, section 3.2), no output projection.

Backward rebuilds the probabilities from one log-sum-exp a query (Dao 2023), so that no (T,T)
matrix has to be kept.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def attention_forward(out: Array, lse: Array, qkv: Array, num_heads: int) -> None:
    """Out (B,T,D) = softmax(q kᵀ / sqrt(D/H) + M) v per head, of qkv (B,T,3D).

    M is -inf above the diagonal: a query sees the keys up to its own. Leaves lse (B,H,T), the
    logarithm of each softmax's denominator.
    """
    _forward(out, lse, qkv, num_heads, 0.0)


def attention_backward(
    dqkv: Array, dout: Array, qkv: Array, out: Array, lse: Array, num_heads: int
) -> None:
    """Write dqkv (B,T,3D)."""
    _backward(dqkv, dout, qkv, out, lse, num_heads, 0.0)


def attention_decode(
    out: Array, keys: Array, values: Array, qkv: Array, position: int, num_heads: int
) -> None:
    """Out (D,) of the one query at `position` over the cache; the last row of attention_forward.

    Writes row `position` of keys and values (T,D), reads rows 0..position; qkv (3D,).
    """
    _decode(out, keys, values, qkv, position, num_heads, 0.0)


def _forward(out: Array, lse: Array, qkv: Array, num_heads: int, bias: Array | float) -> None:
    """`attention_forward` with scores that a bias (B,H,T,T) lowers."""
    q, k, v = _split(qkv, num_heads)  # (B,H,T,D/H) each
    scores = _masked_scores(q, k, bias)  # (B,H,T,T)
    # The maximum by the real part only shifts; the result does not depend on it.
    top = scores.real.max(-1)  # (B,H,T)
    lse[...] = np.log(np.exp(scores - top[..., None]).sum(-1)) + top
    probs = np.exp(scores - lse[..., None])  # (B,H,T,T)
    out[...] = _join(probs @ v)


def _backward(
    dqkv: Array,
    dout: Array,
    qkv: Array,
    out: Array,
    lse: Array,
    num_heads: int,
    bias: Array | float,
) -> Array:
    """`attention_backward`; returns the gradient of the bias (B,H,T,T)."""
    q, k, v = _split(qkv, num_heads)  # (B,H,T,D/H) each
    dq, dk, dv = _split(dqkv, num_heads)
    dheads = _split_one(dout, num_heads)  # (B,H,T,D/H)
    scale = 1.0 / math.sqrt(q.shape[-1])
    probs = np.exp(_masked_scores(q, k, bias) - lse[..., None])  # (B,H,T,T)
    # heads = probs @ v
    dprobs = dheads @ v.swapaxes(-1, -2)  # (B,H,T,T)
    dv[...] = probs.swapaxes(-1, -2) @ dheads
    # probs = softmax(scores); sum(dprobs * probs) over the keys equals sum(dheads * heads)
    total = (dheads * _split_one(out, num_heads)).sum(-1, keepdims=True)  # (B,H,T,1)
    dscores = probs * (dprobs - total)  # (B,H,T,T)
    # scores = scale * q @ kᵀ - bias
    dq[...] = scale * (dscores @ k)
    dk[...] = scale * (dscores.swapaxes(-1, -2) @ q)
    dbias: Array = -dscores
    return dbias


def _decode(
    out: Array,
    keys: Array,
    values: Array,
    qkv: Array,
    position: int,
    num_heads: int,
    bias: Array | float,
) -> None:
    """`attention_decode` with scores that a bias (H,S) lowers."""
    q, keys[position], values[position] = np.split(qkv, 3)  # (D,) each
    seen = position + 1
    k = keys[:seen].reshape(seen, num_heads, -1)  # (S,H,D/H)
    v = values[:seen].reshape(seen, num_heads, -1)
    q = q.reshape(num_heads, -1)  # (H,D/H)
    scores = np.einsum("hd,shd->hs", q, k) / math.sqrt(q.shape[-1]) - bias  # (H,S)
    probs = np.exp(scores - scores.max(-1, keepdims=True))
    probs /= probs.sum(-1, keepdims=True)
    out[...] = np.einsum("hs,shd->hd", probs, v).reshape(-1)  # (D,)


def _split(qkv: Array, num_heads: int) -> tuple[Array, Array, Array]:
    """Views q, k, v (B,H,T,D/H) of the thirds of qkv (B,T,3D)."""
    q, k, v = np.split(qkv, 3, axis=-1)  # (B,T,D) each
    return _split_one(q, num_heads), _split_one(k, num_heads), _split_one(v, num_heads)


def _split_one(x: Array, num_heads: int) -> Array:
    """A view (B,H,T,D/H) of x (B,T,D)."""
    head_dim = x.shape[-1] // num_heads
    batch, time, _ = x.strides
    return np.lib.stride_tricks.as_strided(
        x,
        (x.shape[0], num_heads, x.shape[1], head_dim),
        (batch, x.strides[-1] * head_dim, time, x.strides[-1]),
    )


def _join(heads: Array) -> Array:
    """The heads (B,H,T,D/H) side by side: (B,T,D)."""
    b, h, t, d = heads.shape
    return heads.swapaxes(1, 2).reshape(b, t, h * d)


def _masked_scores(q: Array, k: Array, bias: Array | float = 0.0) -> Array:
    """Scores (B,H,T,T) = q kᵀ / sqrt(D/H) - bias, -inf where the key is later than the query."""
    scores = (q @ k.swapaxes(-1, -2)) / math.sqrt(q.shape[-1]) - bias
    later = np.triu(np.ones(scores.shape[-2:], bool), 1)  # (T,T)
    return np.where(later, -np.inf, scores)
