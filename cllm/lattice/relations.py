"""What the lattice loss compares: a token and its neighbours, a composite and its prime factors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cllm.lattice.primes import divisions, factorize
from cllm.lattice.spiral import spiral

NEIGHBOURS = 8


@dataclass(frozen=True, eq=False)
class Relations:
    """Of V tokens, K = min(8, V - 1) neighbours, C composites of G different prime factors."""

    neighbours: NDArray[np.int32]
    """(V,K), the nearest first."""
    nearness: NDArray[np.float64]
    """(V,K), exp(-d² / mean d²) of their distances, the mean over all of these."""
    composites: NDArray[np.int32]
    """(C,), ids n - 1 of the composite n <= V."""
    starts: NDArray[np.int64]
    """(C+1,); the factors of a composite are those from its start to the next."""
    primes: NDArray[np.int32]
    """(G,), ids p - 1."""
    exponents: NDArray[np.int64]
    """(G,), v_p(n)."""


@lru_cache(maxsize=16)
def relation_lengths(vocab_size: int) -> tuple[int, int, int]:
    """K, C and G, without the relations."""
    divided, _ = divisions(vocab_size)
    primes = len(divided)
    return min(NEIGHBOURS, vocab_size - 1), vocab_size - 1 - primes, int(divided.sum()) - primes


@lru_cache(maxsize=4)
def relations_of(vocab_size: int) -> Relations:
    """Those of V tokens, in time of O(V ln V) and memory of O(V)."""
    neighbours, squares = _neighbours(vocab_size)
    mean = squares.mean() if squares.size else 1.0
    factors = factorize(vocab_size)
    different = np.diff(factors.start)  # of n = 1..V
    composite = np.bincount(factors.id, factors.exponent, vocab_size) >= 2
    kept = composite[factors.id]
    return Relations(
        neighbours.astype(np.int32),
        np.exp(-squares / mean),
        np.flatnonzero(composite).astype(np.int32),
        np.concatenate([[0], np.cumsum(different[composite])]).astype(np.int64),
        (factors.prime[kept] - 1).astype(np.int32),
        factors.exponent[kept],
    )


def _neighbours(vocab_size: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest others of each id (V,K), and the squares of their distances."""
    from scipy.spatial import cKDTree

    places = spiral(vocab_size)
    count = min(NEIGHBOURS, vocab_size - 1)
    if count == 0:
        return np.zeros((1, 0), np.int64), np.zeros((1, 0))
    distances, found = map(np.asarray, cKDTree(places).query(places, count + 1))
    return found[:, 1:], np.square(distances[:, 1:])  # the nearest is the token itself
