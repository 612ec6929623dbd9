"""Primes, and the positive integers as a lattice: n is the vector of its exponents v_p(n).

Source: the fundamental theorem of arithmetic; the bound of the sieve is Rosser & Schoenfeld 1962,
"Approximate formulas for some functions of prime numbers", theorem 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.integer[Any]]


def primes_below(limit: int) -> NDArray[np.int64]:
    """All primes under `limit`, in order: the sieve of Eratosthenes."""
    is_prime = np.ones(max(limit, 2), bool)
    is_prime[:2] = False
    for number in range(2, math.isqrt(max(limit - 1, 0)) + 1):
        if is_prime[number]:
            is_prime[number * number :: number] = False
    return np.flatnonzero(is_prime[:limit]).astype(np.int64)


def first_primes(count: int) -> NDArray[np.int64]:
    """p_0 = 2, p_1 = 3, ... (count,)."""
    # p_(n-1) < n (ln n + ln ln n) for n >= 6
    n = max(count, 6)
    return primes_below(math.ceil(n * (math.log(n) + math.log(math.log(n)))) + 1)[:count]


@dataclass(frozen=True)
class Factors:
    """The factorizations of n = 1..V, one after another: those of n are start[n-1] to start[n]."""

    start: NDArray[np.int64]
    """(V+1,)"""
    prime: NDArray[np.int64]
    """Rising within each n."""
    exponent: NDArray[np.int64]
    """v_p(n), at least 1."""

    @property
    def id(self) -> NDArray[np.int64]:
        """n - 1, of each factor."""
        return np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))


def factorize(vocab_size: int) -> Factors:
    """The prime factors of every n = 1..V, in memory of O(V ln ln V)."""
    numbers, primes, exponents = [], [], []
    for prime in primes_below(vocab_size + 1).tolist():
        multiples = np.arange(prime, vocab_size + 1, prime)
        exponent = np.ones(len(multiples), np.int64)
        power = prime * prime
        while power <= vocab_size:
            exponent[power // prime - 1 :: power // prime] += 1
            power *= prime
        numbers.append(multiples)
        primes.append(np.full(len(multiples), prime))
        exponents.append(exponent)
    if not numbers:
        nothing = np.zeros(0, np.int64)
        return Factors(np.zeros(vocab_size + 1, np.int64), nothing, nothing)
    number = np.concatenate(numbers)
    order = np.argsort(number, kind="stable")  # primes stay rising within each n
    counts = np.bincount(number - 1, minlength=vocab_size)
    return Factors(
        np.concatenate([[0], np.cumsum(counts)]),
        np.concatenate(primes)[order],
        np.concatenate(exponents)[order],
    )


def divisions(vocab_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each prime p <= V how many n = 1..V it divides, and the sum of v_p(n) over all n.

    floor(V / p), and by Legendre's formula floor(V / p) + floor(V / p²) + ...
    """
    primes = primes_below(vocab_size + 1)
    divided = vocab_size // primes
    total, left = np.zeros_like(divided), divided
    while left.any():
        total += left
        left = left // primes
    return divided, total


def prime_distance(i: Ids, j: Ids) -> NDArray[np.float64]:
    """d(i, j) = ln(lcm(n_i, n_j) / gcd(n_i, n_j)) = sum over p of |v_p(n_i) - v_p(n_j)| ln p.

    Of ids i and j, which are broadcast; n = id + 1. A metric: the weighted city-block distance of
    the exponents. It is computed from the quotients by the gcd, so that no lcm can overflow.
    """
    n, m = np.add(i, 1, dtype=np.int64), np.add(j, 1, dtype=np.int64)
    common = np.gcd(n, m)
    distance: NDArray[np.float64] = np.log(n // common) + np.log(m // common)
    return distance


def mean_prime_distance(vocab_size: int) -> float:
    """The mean of `prime_distance` over the pairs of different ids of a vocabulary; 0 for V = 1.

    sum over p and k >= 1 of 2 A (V - A) ln p / (V (V - 1)), A = floor(V / p^k): so many have
    v_p >= k, and |v_p(n) - v_p(m)| counts the k that one of n and m reaches alone.
    """
    if vocab_size < 2:
        return 0.0
    total = 0.0
    for prime in primes_below(vocab_size + 1).tolist():
        reached = vocab_size // prime
        pairs = 0
        while reached:
            pairs += 2 * reached * (vocab_size - reached)
            reached //= prime
        total += pairs * math.log(prime)
    return total / (vocab_size * (vocab_size - 1))
