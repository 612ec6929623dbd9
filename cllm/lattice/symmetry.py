"""The cyclic group of twelve: the class of a token, its distance, and what it does to vectors.

Z_12 acts on the heads of an embedding by R_g, which turns the coordinate pairs (0,1), (2,3), ... of
each head by 2 pi g / 12: R_g R_h = R_(g+h), R_12 = I, and R_g is orthogonal. An odd last coordinate
stays as it is.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

ORDER = 12

_HALF, _ROOT = 0.5, math.sqrt(3.0) / 2.0
COSINES = np.array([1, _ROOT, _HALF, 0, -_HALF, -_ROOT, -1, -_ROOT, -_HALF, 0, _HALF, _ROOT])
"""cos(2 pi g / 12) of g = 0..11, the exact ones exact."""
SINES = np.roll(COSINES, 3)
"""sin(2 pi g / 12) = cos(2 pi (g - 3) / 12)."""


def symmetry_class(ids: Array) -> Array:
    """g = i mod 12 of ids."""
    classes: Array = np.mod(ids, ORDER)
    return classes


def symmetry_distance(i: Array, j: Array) -> Array:
    """The cyclic distance of i and j in Z_12, 0..6, of ids that are broadcast.

    A metric on classes; on ids a pseudometric, as those of one class lie at distance 0.
    """
    apart = np.mod(np.subtract(i, j), ORDER)
    shorter: Array = np.minimum(apart, ORDER - apart)
    return shorter


def mean_symmetry_distance(vocab_size: int) -> float:
    """The mean of `symmetry_distance` over the pairs of different ids; 0 for V = 1.

    From the number of ids in each class.
    """
    if vocab_size < 2:
        return 0.0
    classes = np.arange(ORDER)
    counts = ((vocab_size - 1 - classes) // ORDER + 1).astype(np.float64)  # ids of each class
    total = counts @ symmetry_distance(classes[:, None], classes) @ counts
    return float(total) / (vocab_size * (vocab_size - 1))


def turn(x: Array, g: Array) -> Array:
    """R_g x of vectors x (...,D/H), g (...) any integers: taken mod 12. The inverse is R_(-g)."""
    g = np.mod(g, ORDER)
    cosine, sine = (table[g][..., None].astype(x.dtype) for table in (COSINES, SINES))
    turned = x.copy()
    even, odd = x[..., 0 : x.shape[-1] - 1 : 2], x[..., 1::2]  # without an odd last one
    turned[..., 0 : x.shape[-1] - 1 : 2] = cosine * even - sine * odd
    turned[..., 1::2] = sine * even + cosine * odd
    return turned
