"""What the lattice says of each token of a vocabulary: its place, its number, its class."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cllm.harness.page import SUPERSCRIPTS
from cllm.lattice.primes import Factors, factorize, first_primes
from cllm.lattice.spiral import spiral
from cllm.lattice.symmetry import symmetry_class


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Of V tokens; n = id + 1."""

    names: list[str]
    """(V,)"""
    places: NDArray[np.float64]
    """(V,3), `spiral`."""
    classes: NDArray[np.int64]
    """(V,), id mod 12."""
    primes: NDArray[np.int64]
    """(V,), p_id."""
    factors: NDArray[np.int64]
    """(V,), how many prime factors n has, each as often as it divides n."""
    factorizations: list[str]
    """(V,), 2³·3²·5 for n = 360."""

    def __len__(self) -> int:
        return len(self.names)


def vocabulary_of(names: list[str]) -> Vocabulary:
    """Of the tokens with these names, in time and memory of O(V ln ln V)."""
    size = len(names)
    found = factorize(size)
    return Vocabulary(
        names,
        spiral(size),
        symmetry_class(np.arange(size)),
        first_primes(size),
        np.bincount(found.id, found.exponent, size).astype(np.int64),
        _written(found),
    )


def _written(factors: Factors) -> list[str]:
    """Each factorization; that of 1 is 1."""
    powers = [
        f"{prime}{str(exponent).translate(SUPERSCRIPTS) if exponent > 1 else ''}"
        for prime, exponent in zip(factors.prime.tolist(), factors.exponent.tolist(), strict=True)
    ]
    starts = factors.start.tolist()
    return ["·".join(powers[a:b]) or "1" for a, b in pairwise(starts)]
