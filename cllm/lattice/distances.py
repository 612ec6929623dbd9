"""The three distances of tokens, each over its mean: what lattice attention weighs.

Promises: `between` is a metric on ids in its first two rows, a pseudometric in the third.
Leaves out: the weights, which are learned (`cllm.reference.lattice_attention`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cllm.lattice.primes import Ids, mean_prime_distance, prime_distance
from cllm.lattice.spiral import geometric_distance, root_mean_square_distance, spiral
from cllm.lattice.symmetry import mean_symmetry_distance, symmetry_distance

DISTANCES = ("geometric", "prime", "symmetry")


@dataclass(frozen=True, eq=False)
class Distances:
    """The distances of a vocabulary's tokens."""

    places: NDArray[np.float64]
    """(V,3), `spiral` over the root mean square of `geometric_distance`."""
    prime_mean: float
    symmetry_mean: float

    def between(self, i: Ids, j: Ids) -> NDArray[np.float64]:
        """(3,...) of ids i and j (...), which are broadcast, in the order of `DISTANCES`."""
        return np.stack(
            [
                geometric_distance(self.places[i], self.places[j]),
                prime_distance(i, j) / self.prime_mean,
                symmetry_distance(i, j) / self.symmetry_mean,
            ]
        )


@lru_cache(maxsize=4)
def distances_of(vocab_size: int) -> Distances:
    """Those of V tokens; all are 0 for a single one. Made once, in time and memory of O(V)."""
    places = spiral(vocab_size)
    places /= root_mean_square_distance(places) or 1.0
    places.flags.writeable = False
    return Distances(
        places, mean_prime_distance(vocab_size) or 1.0, mean_symmetry_distance(vocab_size) or 1.0
    )
