"""The golden-angle spiral: token i lies at c_i = (sqrt(i) cos h, sqrt(i) sin h, ln(p_i + 1)).

h = 2 pi i / phi², phi the golden ratio: the seeds of a sunflower (Vogel 1979, "A better way to
construct the sunflower head"), each at the height of its prime.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cllm.lattice.primes import first_primes

Array = NDArray[np.float64]

TURN = (3.0 - math.sqrt(5.0)) / 2.0
"""1 / phi² = 2 - phi, the golden angle as a share of a full turn."""


def spiral(vocab_size: int) -> Array:
    """The coordinates (V,3) of all ids."""
    i = np.arange(vocab_size)
    # the whole turns are taken off first: an angle keeps its digits for large ids
    angle = 2.0 * math.pi * np.mod(i * TURN, 1.0)
    radius = np.sqrt(i)
    height = np.log(first_primes(vocab_size) + 1.0)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], -1)


def geometric_distance(one: NDArray[Any], other: NDArray[Any]) -> Array:
    """|c - c'| of coordinates (...,3), which are broadcast: the Euclidean metric."""
    distance: Array = np.sqrt(np.square(one - other).sum(-1))
    return distance


def root_mean_square_distance(coordinates: Array) -> float:
    """The root mean square of `geometric_distance` over the pairs of different rows (V,3).

    sqrt(2 V / (V - 1) · (mean |c|² - |mean c|²)), the variance twice over; 0 for V = 1.
    """
    count = len(coordinates)
    if count < 2:
        return 0.0
    centered = coordinates - coordinates.mean(0)  # (V,3); so no digits are lost
    return math.sqrt(2.0 * float(np.square(centered).sum()) / (count - 1))
