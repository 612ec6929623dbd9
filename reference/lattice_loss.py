"""The lattice loss: embeddings that lie as their tokens do cost less.

Three means, each over m = mean |E_i|² (V rows), so that no scale of E is the best:

- geometric: w_ij |E_i - E_j|² over each token and its 8 nearest on the spiral;
- symmetry: |R_1 E_i - E_next(i)|² over the complete orbits 12b..12b+11, cyclic, R per head;
- prime: |E_(n-1) - sum over p of v_p(n) E_(p-1)|² over the composite n <= V.

A mean over nothing is 0, and so is every term where E is. See `cllm.lattice.relations`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.lattice.relations import Relations, relations_of
from cllm.lattice.symmetry import ORDER, turn

Array = NDArray[Any]


def lattice_loss_forward(terms: Array, embedding: Array, num_heads: int) -> None:
    """Terms (4,) = m and the geometric, symmetry and prime term, of the embedding (V,D)."""
    relations = relations_of(len(embedding))
    wide = terms.dtype
    size = np.square(embedding).sum(dtype=wide) / len(embedding)
    near = 0.0
    for neighbours, nearness in zip(relations.neighbours.T, relations.nearness.T, strict=True):
        apart = embedding - embedding[neighbours]  # (V,D)
        near += (nearness * np.square(apart).sum(-1, dtype=wide)).sum()
    unturned, rest = _differences(embedding, num_heads, relations)
    sums = near, np.square(unturned).sum(dtype=wide), np.square(rest).sum(dtype=wide)
    terms[0] = size
    for i, (total, count) in enumerate(zip(sums, _counts(relations), strict=True), 1):
        terms[i] = total / (count * size) if count and size else 0.0


def lattice_loss_backward(
    dembedding: Array,
    terms: Array,
    embedding: Array,
    weights: tuple[float, float, float],
    num_heads: int,
    part: float,
) -> None:
    """Add to dembedding (V,D) this part of the gradient of the weighted sum of terms (4,)."""
    relations = relations_of(len(embedding))
    size, *values = terms.tolist()
    if not size:
        return
    factors = [
        2.0 * part * weight / (count * size) if count else 0.0
        for weight, count in zip(weights, _counts(relations), strict=True)
    ]
    # each term is divided by m, which is a mean over E as well
    total = sum(weight * value for weight, value in zip(weights, values, strict=True))
    dembedding -= (2.0 * part * total / (len(embedding) * size)) * embedding
    # geometric: E_i - E_j
    nearness = (factors[0] * relations.nearness).astype(embedding.dtype)  # (V,K)
    for neighbours, weight in zip(relations.neighbours.T, nearness.T, strict=True):
        gradient = weight[:, None] * (embedding - embedding[neighbours])  # (V,D)
        dembedding += gradient
        np.subtract.at(dembedding, neighbours, gradient)
    # symmetry: R_1 E_i - E_next(i); the transpose of R_1 is R_(-1)
    unturned, rest = _differences(embedding, num_heads, relations)
    gradient = factors[1] * (_turned(unturned, -1) - np.roll(unturned, 1, axis=1))
    complete = len(unturned) * ORDER
    dembedding[:complete] += gradient.reshape(complete, embedding.shape[1])
    # prime: E_(n-1) - sum over p of v_p(n) E_(p-1)
    dembedding[relations.composites] += factors[2] * rest
    of, exponents = _factors(relations, embedding.dtype)
    np.subtract.at(dembedding, relations.primes, factors[2] * exponents * rest[of])


def _differences(embedding: Array, num_heads: int, relations: Relations) -> tuple[Array, Array]:
    """What the last two terms square: (O,12,H,D/H) of the O orbits, and (C,D)."""
    count, width = len(embedding) // ORDER, embedding.shape[1]
    orbits = embedding[: count * ORDER].reshape(count, ORDER, num_heads, width // num_heads)
    unturned = _turned(orbits, 1) - np.roll(orbits, -1, axis=1)
    rest = embedding[relations.composites]  # (C,D)
    of, exponents = _factors(relations, embedding.dtype)
    np.subtract.at(rest, of, exponents * embedding[relations.primes])
    return unturned, rest


def _turned(x: Array, direction: int) -> Array:
    return turn(x, np.full(x.shape[:-1], direction))


def _factors(relations: Relations, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Of each prime factor the row of its composite (G,), and its exponent (G,1)."""
    of = np.repeat(np.arange(len(relations.composites)), np.diff(relations.starts))
    return of, relations.exponents[:, None].astype(dtype)


def _counts(relations: Relations) -> tuple[int, int, int]:
    """What each term is a mean over."""
    orbits = len(relations.neighbours) // ORDER * ORDER
    return relations.neighbours.size, orbits, len(relations.composites)
