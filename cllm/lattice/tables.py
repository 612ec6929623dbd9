"""The distances of a vocabulary in flat arrays, from which a kernel computes those of any two ids.

n and m have the greatest common divisor that the prime powers which divide both make up: for an id
those that divide its n are listed. An odd q divides n where n times the inverse of q modulo 2^32 is
at most (2^32 - 1) / q (Granlund & Montgomery 1994, "Division by Invariant Integers using
Multiplication", section 9); how often 2 divides both is the lesser of two numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cllm.lattice.distances import distances_of
from cllm.lattice.primes import divisions, factorize
from cllm.lattice.symmetry import ORDER, symmetry_class

FIELDS = 6
"""Of each token: its place (3), ln n, v_2(n) ln 2, and its class; each over its distance's mean."""


@dataclass(frozen=True, eq=False)
class Tables:
    """Of V tokens; Q odd prime powers divide some n = id + 1, each listed for each such n."""

    tokens: NDArray[np.float32]
    """(V,6), see `FIELDS`."""
    starts: NDArray[np.int64]
    """(V+1,); the prime powers of an id are those from start[id] to start[id + 1]."""
    inverses: NDArray[np.int32]
    """(Q,), modulo 2^32."""
    bounds: NDArray[np.int32]
    """(Q,), (2^32 - 1) // q."""
    logs: NDArray[np.float32]
    """(Q,), ln p over the mean prime distance."""
    turn: float
    """12 classes over the mean symmetry distance."""


@lru_cache(maxsize=16)
def table_length(vocab_size: int) -> int:
    """Q, without the tables."""
    return int(divisions(vocab_size)[1][1:].sum())


@lru_cache(maxsize=4)
def tables_of(vocab_size: int) -> Tables:
    """Those of V tokens, in memory of O(V ln ln V)."""
    distances, factors = distances_of(vocab_size), factorize(vocab_size)
    ids = np.arange(vocab_size)
    of, even = factors.id, factors.prime == 2
    tokens = np.zeros((vocab_size, FIELDS), np.float32)
    tokens[:, :3] = distances.places
    tokens[of[even], 4] = factors.exponent[even] * math.log(2.0) / distances.prime_mean
    tokens[:, 5] = symmetry_class(ids) / distances.symmetry_mean

    owner, prime, count = of[~even], factors.prime[~even], factors.exponent[~even]
    starts = np.zeros(vocab_size + 1, np.int64)
    np.cumsum(np.bincount(owner, count, vocab_size), out=starts[1:])
    prime = np.repeat(prime, count)
    exponent = np.arange(1, len(prime) + 1) - np.repeat(np.cumsum(count) - count, count)
    power = (prime**exponent).astype(np.uint32)
    inverse = power.copy()  # right to 3 bits, and each round doubles them (Newton)
    for _ in range(4):
        inverse *= np.uint32(2) - power * inverse
    bound = np.uint32(2**32 - 1) // power
    logs = (np.log(prime) / distances.prime_mean).astype(np.float32)
    # ln n as a kernel adds up a greatest common divisor, so that nothing is left where that is n
    tokens[:, 3] = tokens[:, 4]
    listed = np.diff(starts)
    for place in range(listed.max()):
        there = listed > place
        tokens[there, 3] += logs[starts[:-1][there] + place]
    return Tables(
        tokens,
        starts,
        inverse.view(np.int32),
        bound.view(np.int32),
        logs,
        ORDER / distances.symmetry_mean,
    )
